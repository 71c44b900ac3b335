"""The common parts of all commands: their parser, their exit codes, and errors in one line."""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn, ParamSpec

from taijitu_runtime.console import complain, say, shown
from taijitu_runtime.errors import NO_ROOM, OUT_OF_MEMORY, MissingDependencyError, TaijituError, UsageError, close_names
from taijitu_runtime.files import path_from_text
from taijitu_runtime.installed import DISTRIBUTION, installs_for

P = ParamSpec("P")

WRONG_USE, INTERRUPTED, PIPE_CLOSED = 2, 130, 141


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are UsageErrors, so that they take one line too.

    `description`: a module's docstring; the help shows its first line, because the flags follow.
    `elsewhere`: flags that do not exist, with what to write instead: {"--lr": "--set lr=VALUE"}.
    """

    elsewhere: Mapping[str, str] = {}

    def __init__(self, *, description: str | None = None, **kwargs: Any) -> None:
        super().__init__(description=(description or "").partition("\n")[0], **kwargs)
        self.register("type", Path, _path)  # what stands for `type=Path`
        self._given: list[str] = []

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse as argparse does, and keep the arguments for `error`."""
        self._given = sys.argv[1:] if args is None else [*args]
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """Raise UsageError instead of printing the usage and exiting."""
        raise UsageError(f"{message}{self._meant(message)}; see {self.prog} --help")

    def print_help(self, file: Any = None) -> None:
        """Print the help; a stdout that cannot be written is an error, which argparse hides."""
        say(self.format_help().rstrip("\n"), file or sys.stdout)

    def _meant(self, message: str) -> str:
        note = ""
        if message.startswith("unrecognized arguments"):
            unknown = re.findall(r"(?<!\S)--[\w-]+", message)
        elif message.startswith("the following arguments are required"):  # argparse reports no unknown flag then
            flags = [word.partition("=")[0] for word in self._given if word[:2] == "--"]
            unknown = [flag for flag in flags if not any(name.startswith(flag) for name in self._option_string_actions)]
            note = f"; unrecognized: {', '.join(unknown)}" if unknown else ""
        else:
            return ""
        known = [*self._option_string_actions, *self.elsewhere]
        close = [self.elsewhere.get(name, name) for one in unknown for name in close_names(one, known, 1)]
        return note + (f"; did you mean {', '.join(dict.fromkeys(close))}?" if close else "")


class Once(argparse.Action):
    """Store the list of a flag that is given once: a second one would silently replace the first."""

    def __call__(self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: Any = None) -> None:
        """Store it. Raise an error of argparse where there is one."""
        if getattr(namespace, self.dest):
            raise argparse.ArgumentError(self, "got it twice, expected it once, with all values between commas")
        setattr(namespace, self.dest, values)


def _path(text: str) -> Path:
    if not text:  # a variable of the shell that is not set; Path("") is the working directory
        raise argparse.ArgumentTypeError("got an empty path, expected a name; write . for the working directory")
    return path_from_text(text)


def pairs(flag: str, texts: Iterable[str], expected: str) -> dict[str, str]:
    """Return texts such as "act=nish" by name; the last one of a name counts. UsageError for one without "="."""
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"got {flag} {text}, expected {expected}")
        found[name] = value
    return found


def share(text: str) -> float:
    """Parse an option's value from 0 to below 1, for argparse."""
    with contextlib.suppress(ValueError):
        if 0.0 <= float(text) < 1.0:
            return float(text)
    raise argparse.ArgumentTypeError(f"got {text}, expected a share in [0, 1)")


def run(prog: str) -> Callable[[Callable[P, int]], Callable[P, int]]:
    """Decorate a command's main: a TaijituError becomes one line on stderr, after the name `prog`, and its exit code.

    Its details, if it has any, are printed before that line.

    The exit code is 2, or 1 for a command that ran and failed. Ctrl-C gives 130; a closed reader of stdout
    (`... | head`) gives 141, as in a shell. A stdout that cannot be written, such as on a full disk, and a lack of
    memory, give one line and 2; a closed stdout (`>&-`) is not an error.
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
                with contextlib.suppress(OSError):  # stderr is closed
                    for line in error.details:
                        say(shown(line), sys.stderr)
                complain(prog, error)
                return error.exit_code
            except ImportError as error:  # for a library that is imported when it is needed
                module = error.name or ""
                if not module or module.startswith(DISTRIBUTION):
                    raise
                detail = f"needed by {prog}" if isinstance(error, ModuleNotFoundError) else error
                complain(prog, MissingDependencyError(module, installs_for(main.__module__), detail))
                return WRONG_USE
            except (MemoryError, RuntimeError) as error:
                if not isinstance(error, MemoryError) and not OUT_OF_MEMORY.search(str(error)):
                    raise
                do = "end other programs, or ask for less: a smaller network, batch, image or data set"
                complain(prog, f"got no memory ({error or 'the system gave none'}), expected enough; {do}")
                return WRONG_USE
            except KeyboardInterrupt:
                return INTERRUPTED
            except BrokenPipeError:
                _leave_stdout()
                return PIPE_CLOSED
            except OSError as error:
                _leave_stdout()
                complain(prog, _os_error_line(error))
                return WRONG_USE

        return wrapped

    return decorate


def _open_closed_streams() -> None:
    """Open the null device for a stream that the parent process closed; Python has None for it."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115 -- until the process ends


def _leave_stdout() -> None:
    """Redirect stdout to the null device: flushing it at exit to a closed pipe or full disk would print a traceback."""
    with contextlib.suppress(OSError, ValueError):  # a test's stdout has no number
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _os_error_line(error: OSError) -> str:
    if error.errno is None:  # of the loader: a package whose library lacks another one
        return f"got an error of a library ({error}), expected none; see what taijitu doctor says, or install it again"
    if error.filename is None or error.errno in NO_ROOM:
        where = error.filename2 or "the output"  # of a copy, which names what it reads first
        return f"{where}: could not be written ({error.strerror or error}); make room, or write it elsewhere"
    return f"{error.filename}: {error.strerror or error}; check it and its permissions"
