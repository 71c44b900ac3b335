"""What every command does where its output cannot be written."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from taijitu_runtime.console import json_text

PROGRAM = """
import sys
from {module} import {decorator}

@{decorator}("taijitu say")
def main():
    if sys.argv[1:]:
        open(sys.argv[1])
    for _ in range(9):
        print("x" * 1000)
    return 0

raise SystemExit(main())
"""


def said(root: Path, shell: str, module: str = "taijitu_runtime.console", decorator: str = "run") -> tuple[int, str]:
    """The exit code and stderr of the program, which `shell` has as "$@"."""
    program = PROGRAM.format(module=module, decorator=decorator)
    command = ["sh", "-c", shell, "sh", sys.executable, "-c", program]
    environment = {**os.environ, "PYTHONPATH": f"{root / 'runtime'}:{root / 'training'}"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    return done.returncode, done.stderr


@pytest.mark.parametrize("console", [(), ("taijitu_training.console", "command")])
def test_output_that_cannot_be_written_is_one_line(root: Path, console: tuple[str, ...]) -> None:
    code, line = said(root, '"$@" > /dev/full', *console)
    assert code == 2
    assert line.startswith("taijitu say: the output")
    assert "No space left on device" in line
    assert line.count("\n") == 1


def test_a_closed_stream_takes_nothing_and_harms_nobody(root: Path) -> None:
    assert said(root, '"$@" >&-') == (0, "")
    assert said(root, '"$@" 2>&-') == (0, "")


def test_a_file_that_nobody_foresaw_is_named_in_one_line(root: Path) -> None:
    code, line = said(root, '"$@" /no/such/file')
    assert (code, line.count("\n")) == (2, 1)
    assert "/no/such/file: No such file or directory; " in line


@pytest.mark.parametrize(
    ("encoding", "text", "written"),
    [
        ("utf-8", "grün", b'"gr\xc3\xbcn"'),
        ("latin-1", "grün", b'"gr\xfcn"'),
        ("ascii", "grün", b'"gr\\u00fcn"'),
        ("latin-1", "\N{CAT FACE}", b'"\\ud83d\\udc31"'),
        ("utf-8", "\udcff.jpg", b'"\\udcff.jpg"'),  # a name that is not UTF-8
    ],
)
def test_json_has_letters_as_they_are_where_the_stream_can_take_them(encoding: str, text: str, written: bytes) -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding)
    stream.write(json_text(text, stream))
    stream.flush()
    assert raw.getvalue() == written
    assert json.loads(json_text(text, stream)) == text
