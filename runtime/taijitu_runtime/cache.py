"""The cache folder, for files that are made when a model is loaded: XDG_CACHE_HOME/taijitu or ~/.cache/taijitu."""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path

OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH

ANOTHER_FOLDER = "choose a folder of your own: export XDG_CACHE_HOME=DIR"

KEPT_FILES = 32
"""The number of files of each kind in the cache; the oldest are removed. Most are as large as their model."""


class UnsafeFolderError(OSError):
    """The cache is not used because another user could put a file there, and a model is code. `cure`: what to do."""

    def __init__(self, reason: str, cure: str) -> None:
        super().__init__(reason)
        self.cure = cure


class UnsafeFileError(OSError):
    """A cached file is not used because another user could have written it."""


def cache_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Return the path of the cache. Raises RuntimeError if there is neither a home folder nor XDG_CACHE_HOME."""
    root = Path(environment.get("XDG_CACHE_HOME", ""))
    return (root if root.is_absolute() else Path.home() / ".cache") / "taijitu"


def private_folder(folder: Path) -> Path:
    """Create `folder` if missing, and resolve it. Raises UnsafeFolderError if others can write there; OSError."""
    _make(folder)
    folder = folder.resolve()
    for place in (folder, *folder.parents):
        status = place.stat()
        is_ours = status.st_uid == os.geteuid()
        # A folder above may be root's, and in one as /tmp others cannot rename what is ours.
        is_above = place != folder
        if not is_ours and not (is_above and status.st_uid == 0):
            raise UnsafeFolderError(f"{place} belongs to another user", ANOTHER_FOLDER)
        if status.st_mode & OTHERS_WRITE and not (is_above and status.st_mode & stat.S_ISVTX):
            raise UnsafeFolderError(f"other users can write to {place}", f"chmod go-w {shlex.quote(str(place))}")
    return folder


def _make(folder: Path) -> None:
    """Create a folder and its parents with mode 0700; Path.mkdir gives its mode to the last folder only."""
    if not folder.is_dir():
        _make(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)


def read_own(file: Path) -> bytes:
    """Read a cached file. Raises UnsafeFileError if another user could have written it; OSError."""
    descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as stream:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & OTHERS_WRITE:
            raise UnsafeFileError(f"{file} may be another user's")
        return stream.read()


def folder_of_model(folder: Path, model: bytes) -> Path:
    """Return the folder of a model's cached files, made if missing; remove those of the models longest not used.

    Args:
        folder: The private folder that holds one for each model.
        model: The content of the ONNX file.

    Raises:
        UnsafeFolderError: As for `private_folder`.
        OSError: The folder cannot be made or listed.
    """
    own = private_folder(folder / hashlib.sha256(model).hexdigest())
    os.utime(own)  # used folders are removed last
    keep_newest(path for path in folder.iterdir() if path.is_dir())
    return own


def keep_newest(places: Iterable[Path], count: int = KEPT_FILES) -> None:
    """Remove all files, or folders with their content, except the `count` that were changed last. Raises OSError."""
    by_age = sorted(places, key=lambda place: place.stat().st_mtime_ns)
    for old in by_age[:-count]:
        if old.is_dir():
            shutil.rmtree(old, ignore_errors=True)
        else:
            old.unlink(missing_ok=True)
