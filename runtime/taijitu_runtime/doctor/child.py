"""Query libraries in child processes, because importing one may abort, hang, or print unrelated text."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

from taijitu_runtime.child_python import python_command
from taijitu_runtime.doctor.probe import MARK
from taijitu_runtime.errors import one_line

TIMEOUT_S = 120.0
"""The first import of a GPU's libraries from a slow SD card takes most of a minute."""

RUN = 'import runpy; runpy.run_path(sys.argv.pop(1), run_name="__main__")'


@dataclasses.dataclass(frozen=True)
class Reply:
    """The answer of a child process: `value`, or `error`, one line that is not empty."""

    value: Any = None
    error: str = ""


@dataclasses.dataclass(frozen=True)
class Imported:
    """The result of an import. `about`: facts that the library states about itself (probe.py); `error`: one line."""

    module: str
    state: Literal["loaded", "absent", "broken"]
    version: str = ""
    file: str = ""
    about: Any = None
    error: str = ""


def ask(question: str, *arguments: str, timeout_s: float = TIMEOUT_S) -> Reply:
    """Call the function `question` of probe.py in a child process with this process's module search path."""
    probe = str(Path(__file__).with_name("probe.py"))
    command = python_command(RUN, probe, question, *arguments, flags=("-W", "ignore"))
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=timeout_s, check=False, cwd=os.sep
        )
    except subprocess.TimeoutExpired:
        return Reply(error=f"no answer within {timeout_s:.0f} s")
    except OSError as error:
        return Reply(error=f"{sys.executable or 'this Python'} cannot be started again ({error.strerror})")
    for line in done.stdout.splitlines():
        if line.startswith(MARK):
            return Reply(json.loads(line.removeprefix(MARK)))
    if done.returncode < 0:
        return Reply(error=f"the process died of {signal.Signals(-done.returncode).name}{_last_words(done.stderr)}")
    return Reply(error=_exception(done.stderr) or f"the process ended with exit code {done.returncode}")


def try_import(module: str) -> Imported:
    """Import `module` in a child process."""
    if not can_find(module):
        return Imported(module, "absent")
    reply = ask("library", module)
    if reply.error:
        return Imported(module, "broken", error=reply.error)
    return Imported(module, "loaded", **reply.value)


def can_find(module: str) -> bool:
    """Return whether a module, or the package that it is in, is on the search path, without importing it.

    A folder without a module in it, such as an uninstalled package leaves behind, does not count.
    """
    try:
        spec = importlib.util.find_spec(module.rpartition(".")[0] or module)
    except (ImportError, ValueError):
        return False
    return spec is not None and spec.origin is not None


def _exception(stderr: str) -> str:
    # After the last traceback, the lines that start in the first column are the exception and its text.
    lines = stderr.strip().splitlines()
    starts = [number for number, line in enumerate(lines) if line.startswith("Traceback ")]
    after = [line for line in lines[starts[-1] + 1 :] if not line.startswith(" ")] if starts else lines[-1:]
    text = one_line(" ".join(after))
    kind, _, rest = text.partition(": ")
    return rest if kind in ("ImportError", "ModuleNotFoundError", "OSError") and rest else text


def _last_words(stderr: str) -> str:
    lines = [line for line in stderr.splitlines() if line.strip()]
    return f" ({one_line(lines[-1])})" if lines else ""
