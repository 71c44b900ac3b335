"""What every command line here shares: errors in one line, exit codes, and text that any terminal can take."""

from __future__ import annotations

import argparse
import functools
import os
import sys
from collections.abc import Callable
from typing import NoReturn, ParamSpec, TextIO

from taijitu_runtime.errors import TaijituError, UsageError

P = ParamSpec("P")

WRONG_USE, INTERRUPTED, PIPE_CLOSED = 2, 130, 141


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are UsageErrors, so that they too are one line."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage and leaving."""
        raise UsageError(f"{message}; see {self.prog} --help")


def run(prog: str) -> Callable[[Callable[P, int]], Callable[P, int]]:
    """Decorate a command's main: a TaijituError becomes one line on stderr, after the name `prog`, and exit code 2.

    Ctrl-C gives 130; a reader of stdout that went away (`... | head`) gives 141, as in a shell.
    """

    def decorate(main: Callable[P, int]) -> Callable[P, int]:
        @functools.wraps(main)
        def wrapped(*args: P.args, **kwargs: P.kwargs) -> int:
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
                # Python flushes stdout once more as it leaves; into the closed pipe that would print a traceback.
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                return PIPE_CLOSED

        return wrapped

    return decorate


def say(text: str, stream: TextIO) -> None:
    """Print a line; what the stream's encoding cannot express is escaped."""
    encoding = stream.encoding or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding), file=stream)


def shown(name: object) -> str:
    """A file's name as one printable line: control characters and broken encodings are escaped."""
    text = str(name)
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")
