"""How every command parses its flags, and how it ends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from taijitu_runtime.command_line import Parser, run
from taijitu_runtime.errors import TaijituError, UsageError
from taijitu_training.errors import TrainingError

PROGRAM = """
import sys
from taijitu_runtime.command_line import run

@run("taijitu say")
def main():
    if sys.argv[1:]:
        open(sys.argv[1])
    for _ in range(9):
        print("x" * 1000)
    return 0

raise SystemExit(main())
"""


def said(root: Path, shell: str, program: tuple[str, ...] = ("-c", PROGRAM)) -> tuple[int, str]:
    """Return the exit code and stderr of Python with the program, which `shell` has as "$@"."""
    command = ["sh", "-c", shell, "sh", sys.executable, *program]
    environment = {**os.environ, "PYTHONPATH": str(root / "runtime")}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("name", "program"),
    [("taijitu say", ("-c", PROGRAM)), ("taijitu classify", ("-m", "taijitu", "classify", "--help"))],
)
def test_output_that_cannot_be_written_is_one_line(root: Path, name: str, program: tuple[str, ...]) -> None:
    code, line = said(root, '"$@" > /dev/full', program)
    assert code == 2
    assert line.startswith(f"{name}: the output")
    assert "No space left on device" in line
    assert line.count("\n") == 1


def test_a_closed_stream_is_not_an_error(root: Path) -> None:
    assert said(root, '"$@" >&-') == (0, "")
    assert said(root, '"$@" 2>&-') == (0, "")


def test_an_unexpected_os_error_names_its_file_in_one_line(root: Path) -> None:
    code, line = said(root, '"$@" /no/such/file')
    assert (code, line.count("\n")) == (2, 1)
    assert "/no/such/file: No such file or directory; " in line


def test_a_library_that_cannot_be_loaded_is_not_called_the_output(capsys: pytest.CaptureFixture[str]) -> None:
    text = "libtorch_cpu.so: cannot open shared object file: No such file or directory"

    @run("taijitu say")
    def main(error: Exception) -> int:
        raise error

    for error in (OSError(text), ImportError(text, name="torch")):
        assert main(error) == 2
        line = capsys.readouterr().err
        assert line.count("\n") == 1
        assert "libtorch_cpu.so" in line
        assert "the output" not in line
    with pytest.raises(ImportError):
        main(ImportError("cannot import name 'nothing'", name="taijitu_runtime"))


def test_a_lack_of_memory_of_torch_is_one_line_and_other_errors_stay(capsys: pytest.CaptureFixture[str]) -> None:
    @run("taijitu say")
    def fails(text: str) -> int:
        raise RuntimeError(text)

    assert fails("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.\nAt 7") == 2
    assert capsys.readouterr().err.count("\n") == 1
    with pytest.raises(RuntimeError, match="shapes"):
        fails("shapes differ")


@pytest.mark.parametrize("text", ["", "Unable to allocate\n22.4 TiB"])
def test_a_lack_of_memory_is_one_line(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    @run("taijitu say")
    def main() -> int:
        raise MemoryError(text)

    assert main() == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert "22.4 TiB" in line or not text


@pytest.mark.parametrize(("error", "code"), [(UsageError, 2), (TaijituError, 2), (TrainingError, 1)])
def test_the_error_decides_the_exit_code_and_no_byte_reaches_the_terminal_raw(
    error: type[TaijituError], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    @run("taijitu say")
    def main() -> int:
        raise error("got\n\x1b[2J, expected a name")

    assert main() == code
    assert capsys.readouterr().err == "taijitu say: got \\x1b[2J, expected a name\n"


def test_the_details_of_an_error_are_lines_before_it_and_never_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    @run("taijitu say")
    def main() -> int:
        error = TrainingError("got nothing")
        error.details = ("layer  error", "conv\x1b[2J  3 %")
        raise error

    assert main() == 1
    assert capsys.readouterr() == ("", "layer  error\nconv\\x1b[2J  3 %\ntaijitu say: got nothing\n")


def test_an_unknown_flag_suggests_the_close_one_or_the_flag_that_sets_it() -> None:
    parser = Parser(prog="x")
    parser.add_argument("--validation")
    parser.elsewhere = {"--lr": "--set lr=VALUE"}
    with pytest.raises(UsageError, match="did you mean --validation"):
        parser.parse_args(["--validatoin", "1"])
    with pytest.raises(UsageError, match="--set lr=VALUE"):
        parser.parse_args(["--lr", "1"])


def test_an_unknown_flag_is_named_where_its_required_one_is_missing() -> None:
    parser = Parser(prog="x")
    parser.add_argument("--source", required=True)
    parser.add_argument("--rate")
    with pytest.raises(UsageError, match="required: --source; unrecognized: --sorce; did you mean --source"):
        parser.parse_args(["--rat", "3", "--sorce=0"])
    with pytest.raises(UsageError, match="required: --source; see"):
        parser.parse_args(["--rate", "3"])


def test_an_empty_path_is_not_the_working_directory() -> None:
    parser = Parser(prog="x")
    parser.add_argument("--data", type=Path)
    assert parser.parse_args(["--data", "."]).data == Path()
    with pytest.raises(UsageError, match="--data"):
        parser.parse_args(["--data", ""])
