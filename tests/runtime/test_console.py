"""What a terminal is told: foreign text, JSON and bars."""

from __future__ import annotations

import fcntl
import io
import json
import os
import struct
import sys
import termios
import time
from typing import Any

import pytest

from taijitu_runtime import console
from taijitu_runtime.console import Progress, json_text, say_json, shown, working

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


class Terminal(io.StringIO):
    """What a terminal was told."""

    def isatty(self) -> bool:
        return True


def test_a_terminal_that_does_not_tell_its_size_shows_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    leader, follower = os.openpty()  # as a serial console has it, or a container without a size
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 0, 0, 0, 0))
    with os.fdopen(leader, "rb", buffering=0) as screen, os.fdopen(follower, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        with Progress(3, what="answering") as bar:
            bar.advance()
        assert b"answering" in screen.read(4096)


def test_a_long_step_says_what_it_does_and_a_short_one_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with working("short"):
        pass
    monkeypatch.setattr(console, "DELAY_S", 0.01)
    with working("lo\x1bng"):
        time.sleep(0.3)
    shown_lines = terminal.getvalue().split("\r")
    assert not any("short" in line for line in shown_lines)
    assert any(r"lo\x1bng" in line for line in shown_lines)
    assert shown_lines[-2].strip() == "", "the line stays"


def test_work_goes_on_where_the_terminal_of_a_long_step_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Gone())
    monkeypatch.setattr(console, "DELAY_S", 0.0)
    with working("long"):
        time.sleep(0.1)


@pytest.mark.parametrize(("rank", "told"), [("0", True), ("1", False)])
def test_of_several_processes_one_speaks(rank: str, told: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(console, "DELAY_S", 0.0)
    monkeypatch.setenv("RANK", rank)
    with working("step"):
        time.sleep(0.2)
    with Progress(3, what="bar") as bar:
        bar.advance()
    assert [name in terminal.getvalue() for name in ("step", "bar")] == [told, told]
