"""What every command does where its output cannot be written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

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
