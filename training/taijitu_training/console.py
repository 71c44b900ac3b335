"""What the command lines of this package share: errors in one line, and exit codes."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import functools
import os
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NoReturn, ParamSpec

from taijitu_training.errors import TaijituError, TrainingError

P = ParamSpec("P")

FAILED, WRONG_USE, INTERRUPTED, PIPE_CLOSED = 1, 2, 130, 141


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are TaijituErrors, so that they too are one line.

    `elsewhere` has what is no flag here, as a flag that a user may try, with what says it: {"--lr": "--set lr=VALUE"}.
    """

    elsewhere: Mapping[str, str] = {}

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage and leaving."""
        raise TaijituError(f"{message}{self._meant(message)}; see {self.prog} --help")

    def _meant(self, message: str) -> str:
        if not message.startswith("unrecognized arguments"):
            return ""
        unknown = re.findall(r"(?<!\S)--[\w-]+", message)
        known = [*self._option_string_actions, *self.elsewhere]
        close = [self.elsewhere.get(name, name) for one in unknown for name in difflib.get_close_matches(one, known, 1)]
        return f"; did you mean {', '.join(dict.fromkeys(close))}?" if close else ""


def share(text: str) -> float:
    """An option's value from 0 to below 1, for argparse."""
    with contextlib.suppress(ValueError):
        if 0.0 <= float(text) < 1.0:
            return float(text)
    raise argparse.ArgumentTypeError(f"got {text}, expected a share in [0, 1)")


def command(prog: str) -> Callable[[Callable[P, int]], Callable[P, int]]:
    """Decorate a command's main: a TaijituError becomes one line on stderr, after the name `prog`, and exit code 2.

    A TrainingError gives 1, Ctrl-C 130; a reader of stdout that went away (`... | head`) gives 141, as in a shell. A
    stdout that cannot be written, such as a full disk's, is one line and 2; one that is closed (`>&-`) takes nothing.
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
                print(f"{prog}: {' '.join(str(error).split())}", file=sys.stderr)
                return FAILED if isinstance(error, TrainingError) else WRONG_USE
            except KeyboardInterrupt:
                return INTERRUPTED
            except BrokenPipeError:
                _leave_stdout()
                return PIPE_CLOSED
            except OSError as error:
                _leave_stdout()
                what = "the output" if error.filename is None else error.filename
                print(f"{prog}: {what}: {error.strerror or error}; make room, or check the path", file=sys.stderr)
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
