"""Check the path of a result before any work is spent on it, or make its folder."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from taijitu_runtime.console import shown
from taijitu_runtime.errors import UsageError, path_fault


def check_output_path(path: Path, *inputs: Path | None) -> None:
    """Raise UsageError unless `path` is in an existing, writable folder, and is a regular file or does not exist.

    A finished result is renamed to its path, which would also replace /dev/null. `inputs`: what the command reads, and
    does not overwrite.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        if not path.parent.is_dir():
            raise UsageError(f"{shown(path)}: no folder {shown(path.parent)}; create it first") from None
        _check_folder(path)
        return
    except (OSError, ValueError) as error:
        raise UsageError(f"{shown(path)}: cannot be written ({path_fault(error)}); choose another file") from None
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "a device or pipe"
        raise UsageError(f"{shown(path)}: got {kind}, expected a regular file or a new name; choose another file")
    for one in inputs:
        with contextlib.suppress(OSError):  # an input that is missing is an error of its reader
            if one is not None and path.samefile(one):
                raise UsageError(
                    f"{shown(path)}: got a file to write that is read too, expected another; choose another name"
                )
    _check_folder(path)


def _check_folder(path: Path) -> None:
    """Raise UsageError where the folder of `path`, or of what it links to, is missing or takes no new files."""
    folder = Path(os.path.realpath(path)).parent
    if not folder.is_dir():
        raise UsageError(f"{shown(path)}: got a link into {shown(folder)}, which does not exist; create it first")
    if not os.access(folder, os.W_OK | os.X_OK, effective_ids=True):
        raise UsageError(f"{shown(path)}: cannot be written (its folder is read-only for this user); choose another")


def output_next_to(source: Path, suffix: str) -> Path:
    """Return the path of a result next to the file `source`, with another suffix. UsageError for "." and "/"."""
    if not source.name:
        raise UsageError(f"{source}: got a folder, expected a file; check the path")
    return source.with_suffix(suffix)


def check_new_folder(out: Path) -> None:
    """Raise UsageError if there is something at `out`, the folder that --out is to make."""
    if out.exists():
        raise UsageError(f"{out}: exists already; give another --out, or remove it")


def make_out(out: Path) -> None:
    """Make the folder of --out; UsageError if that is not possible."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        raise UsageError(f"got --out {out}, which cannot be a folder ({path_fault(error)}); choose another") from None
