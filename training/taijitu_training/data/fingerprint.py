"""What tells a data set apart whatever it is called: a sha256 of everything in it."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from taijitu_runtime.console import Progress
from taijitu_runtime.datasets import sha256_of
from taijitu_training.errors import DataError


def folder_sha256(folder: Path) -> str:
    """The sha256, in hexadecimal, of the list of names and sha256 of all files in `folder` that are not hidden.

    Every file is read once. A shell gives the same, which says what counts and in which order:
    cd FOLDER && find -L . -type f ! -path '*/.*' -print0 | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum

    Raises:
        DataError: A file cannot be read.
    """
    total = hashlib.sha256()
    names = _names(folder)
    with Progress(len(names), "files", what="hashing") as bar:
        for name in names:
            try:
                content = sha256_of(folder / name)
            except OSError as error:
                raise DataError(f"{folder / name}: cannot be read ({error.strerror}); check its permissions") from None
            total.update(f"{content}  ./".encode() + os.fsencode(name) + b"\n")
            bar.advance()
    return total.hexdigest()


def _names(folder: Path) -> list[str]:
    """Paths below `folder` of its files, in the order of their bytes."""
    names = []
    for inside, subfolders, files in os.walk(folder, followlinks=True):  # label folders are often links
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        paths = [Path(inside, name) for name in files if not name.startswith(".")]
        names += [str(path.relative_to(folder)) for path in paths if path.is_file()]
    return sorted(names, key=os.fsencode)
