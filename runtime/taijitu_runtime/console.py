"""What every command line here shares: errors in one line, exit codes, and text that any terminal can take."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import functools
import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, NoReturn, ParamSpec, TextIO

from taijitu_runtime.errors import TaijituError, UsageError

P = ParamSpec("P")

WRONG_USE, INTERRUPTED, PIPE_CLOSED = 2, 130, 141


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are UsageErrors, so that they too are one line."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage and leaving."""
        raise UsageError(f"{message}{self._meant(message)}; see {self.prog} --help")

    def _meant(self, message: str) -> str:
        if not message.startswith("unrecognized arguments"):
            return ""
        unknown = re.findall(r"(?<!\S)--[\w-]+", message)
        close = [name for one in unknown for name in difflib.get_close_matches(one, self._option_string_actions, 1)]
        return f"; did you mean {', '.join(dict.fromkeys(close))}?" if close else ""


def run(prog: str) -> Callable[[Callable[P, int]], Callable[P, int]]:
    """Decorate a command's main: a TaijituError becomes one line on stderr, after the name `prog`, and exit code 2.

    Ctrl-C gives 130; a reader of stdout that went away (`... | head`) gives 141, as in a shell. A stdout that cannot be
    written, such as a full disk's, is one line and 2; one that is closed (`>&-`) takes nothing and is no error.
    """

    def decorate(main: Callable[P, int]) -> Callable[P, int]:
        @functools.wraps(main)
        def wrapped(*args: P.args, **kwargs: P.kwargs) -> int:
            _open_closed_streams()
            try:
                code = main(*args, **kwargs)
                sys.stdout.flush()
                return code
            except TaijituError as error:
                say(f"{prog}: {' '.join(str(error).split())}", sys.stderr)
                return WRONG_USE
            except KeyboardInterrupt:
                return INTERRUPTED
            except BrokenPipeError:
                _leave_stdout()
                return PIPE_CLOSED
            except OSError as error:
                _leave_stdout()
                say(f"{prog}: {_os_error_line(error)}", sys.stderr)
                return WRONG_USE

        return wrapped

    return decorate


def _open_closed_streams() -> None:
    """Python has None for a stream that its parent closed; what is written to it goes nowhere."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 -- until the process ends


def _leave_stdout() -> None:
    """Python flushes stdout once more as it leaves; into a closed pipe or a full disk that would print a traceback."""
    with contextlib.suppress(OSError, ValueError):  # a test's stdout has no number
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _os_error_line(error: OSError) -> str:
    if error.filename is None:
        return f"the output cannot be written ({error.strerror or error}); make room, or write it elsewhere"
    return f"{shown(error.filename)}: {error.strerror or error}; check it and its permissions"


def say(text: str, stream: TextIO) -> None:
    """Print a line; what the stream's encoding cannot express is escaped."""
    encoding = stream.encoding or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding), file=stream)


def shown(name: object) -> str:
    """A file's name as one printable line: control characters and broken encodings are escaped."""
    text = str(name)
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")


def json_text(content: Any, stream: IO[str], indent: int | None = None) -> str:
    """JSON for a stream: letters as they are; all but ASCII is escaped where its encoding cannot express them.

    So are names of files that are not UTF-8.
    """
    text = json.dumps(content, ensure_ascii=False, indent=indent)
    try:
        text.encode(getattr(stream, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return json.dumps(content, indent=indent)
    return text
