"""What a terminal is told: foreign text, JSON and bars."""

from __future__ import annotations

import io
import json
import sys
from typing import Any

import pytest

from taijitu_runtime.console import Progress, json_text, say_json, shown

FOREIGN = [
    ("plain \u00fcber \u732b", "plain \u00fcber \u732b"),
    ("two\nlines", r"two\nlines"),
    ("\x1b[2Jgone", r"\x1b[2Jgone"),
    ("caf\udce9.jpg", r"caf\udce9.jpg"),
    ("right\u202eleft", r"right\u202eleft"),
]


@pytest.mark.parametrize(("text", "expected"), FOREIGN)
def test_foreign_text_is_one_line_of_what_every_terminal_log_and_json_can_take(text: str, expected: str) -> None:
    assert shown(text) == expected
    assert shown(text).isprintable()
    shown(text).encode("utf-8")


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_json_is_strict_wherever_its_texts_come_from(encoding: str) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    content = {"names": [text for text, _ in FOREIGN], "deep": ({"caf\udce9": 1.5},)}
    text = json_text(content, stream)
    exact = [name.replace("\udce9", r"\udce9") for name, _ in FOREIGN]
    assert json.loads(text.encode(encoding)) == {"names": exact, "deep": [{r"caf\udce9": 1.5}]}
    assert text.isprintable()
    assert ("\u00fc" in text) == (encoding == "utf-8")
    with pytest.raises(ValueError, match="JSON"):
        json_text(float("nan"), stream)


def test_json_of_any_length_is_one_write_with_its_line_end() -> None:
    class Raw(io.RawIOBase):
        def writable(self) -> bool:
            return True

        def write(self, data: Any) -> int:
            written.append(bytes(data))
            return len(data)

    written: list[bytes] = []
    with io.TextIOWrapper(io.BufferedWriter(Raw()), encoding="utf-8") as stream:
        say_json(["x" * 50_000], stream)
    assert [json.loads(each) for each in written] == [["x" * 50_000]]
    assert written[0].endswith(b"\n")


class Gone(io.StringIO):
    """A terminal that has been closed."""

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        raise OSError(5, "Input/output error")


def test_work_goes_on_after_the_terminal_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Gone())
    with Progress(3) as bar:
        bar.advance()
        bar.show(2, 3, "epoch 1", "loss 0.1")


def test_a_bar_continues_where_the_work_was_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    terminal.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stderr", terminal)
    out = io.StringIO()
    with Progress(100, "pictures") as bar:
        bar.show(40, 100, "epoch 3/5", "loss 0.1")
        bar.say("a line", out)
        bar.show(50, 100, "epoch 3/5", "loss 0.1")
    assert out.getvalue() == "a line\n"
    assert "epoch 3/5" in terminal.getvalue()
    assert "40/100" in terminal.getvalue()
