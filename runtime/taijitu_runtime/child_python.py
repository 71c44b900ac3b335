"""The command that starts another Python with this one's search path, but without the working directory.

Python puts the working directory first for `-c` and `-m`, so that a json.py there would replace the standard library's.
Python's own cure, `-P`, exists from 3.11 on.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

OURS = Path(__file__).parent.parent  # the folder in which a child finds this package


def python_command(code: str, *arguments: str, flags: tuple[str, ...] = ()) -> list[str]:
    """Return the command that runs `code` in another Python. `arguments`: sys.argv[1:]; `flags`: the interpreter's."""
    # sys is built in: nothing is searched for before the path is replaced.
    return [sys.executable, *flags, "-c", f"import sys; sys.path[:] = {search_path()!r}\n{code}", *arguments]


def search_path() -> list[str]:
    """Copy sys.path without the working directory; if this package is there, the directory comes last."""
    here = Path.cwd()
    kept = [entry for entry in sys.path if entry and Path(os.path.abspath(entry)) != here]  # noqa: PTH100 -- "..": no resolve
    return kept if str(OURS) in kept else [*kept, str(OURS)]
