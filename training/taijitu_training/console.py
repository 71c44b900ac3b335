"""What the command lines of this package share: errors in one line, and exit codes."""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import sys
from collections.abc import Callable
from typing import NoReturn, ParamSpec

from taijitu_training.errors import TaijituError, TrainingError

P = ParamSpec("P")

FAILED, WRONG_USE, INTERRUPTED, PIPE_CLOSED = 1, 2, 130, 141


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are TaijituErrors, so that they too are one line."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage and leaving."""
        raise TaijituError(f"{message}; see {self.prog} --help")


def share(text: str) -> float:
    """An option's value from 0 to below 1, for argparse."""
    with contextlib.suppress(ValueError):
        if 0.0 <= float(text) < 1.0:
            return float(text)
    raise argparse.ArgumentTypeError(f"got {text}, expected a share in [0, 1)")


def command(prog: str) -> Callable[[Callable[P, int]], Callable[P, int]]:
    """Decorate a command's main: a TaijituError becomes one line on stderr, after the name `prog`, and exit code 2.

    A TrainingError gives 1, Ctrl-C 130; a reader of stdout that went away (`... | head`) gives 141, as in a shell.
    """

    def decorate(main: Callable[P, int]) -> Callable[P, int]:
        @functools.wraps(main)
        def wrapped(*args: P.args, **kwargs: P.kwargs) -> int:
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
                # Python flushes stdout once more as it leaves; into the closed pipe that would print a traceback.
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                return PIPE_CLOSED

        return wrapped

    return decorate
