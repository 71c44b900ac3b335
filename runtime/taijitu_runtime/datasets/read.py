"""Read a data set: a folder or tar of pictures, a list of them, or the files of a published data set."""

from __future__ import annotations

import stat
from fnmatch import fnmatch
from pathlib import Path

from taijitu_runtime.datasets.archive import is_packed
from taijitu_runtime.datasets.found import Files, Found, first_bytes
from taijitu_runtime.datasets.kinds import foreign_kind, picture_format
from taijitu_runtime.datasets.layout import Reading, found_in
from taijitu_runtime.datasets.lists import LIST_SUFFIXES, read_list
from taijitu_runtime.datasets.published.forms import PUBLISHED, Published
from taijitu_runtime.datasets.scan import scan_folder, scan_tar
from taijitu_runtime.errors import DataError, path_fault
from taijitu_runtime.pictures.formats import FIRST_BYTES

FORMS = (
    "train/<label>/*.jpg and test/<label>/* (or val/) in a folder or tar, <label>/*.jpg, a list of path,label[,split], "
    "or CIFAR's or MNIST's published files"
)


def read_dataset(path: Path, reading: Reading | None = None) -> Found:
    """Read the pictures at `path` without decoding. Raises DataError for missing, damaged or misplaced files."""
    reading = Reading() if reading is None else reading
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(f"{path}: got no such file or folder; expected {FORMS}") from None
    except (OSError, ValueError) as error:
        got = f"got a path that cannot be read ({path_fault(error)})"
        raise DataError(f"{path}: {got}; expected {FORMS}; check it and its permissions") from None
    if stat.S_ISDIR(mode):
        return _read_folder(path, reading)
    if not stat.S_ISREG(mode):
        raise DataError(f"{path}: got neither a file nor a folder; expected {FORMS}")
    if path.suffix.lower() in LIST_SUFFIXES:
        return read_list(path, reading.needed)
    return _read_tar(path, reading)


def _read_folder(path: Path, reading: Reading) -> Found:
    # "raw" is where torchvision puts MNIST.
    here = [(folder, form) for folder in (path, *path.glob("*/"), *path.glob("*/raw/")) for form in _forms_of(folder)]
    if len(here) > 1:
        names = ", ".join(str(folder) for folder, _ in here)
        raise DataError(f"{path}: got {len(here)} data sets, expected one; give one of: {names}")
    if here:
        folder, form = here[0]
        parts = {file.name: file for pattern in form.parts for file in folder.glob(pattern) if file.is_file()}
        return form.read(Files(folder, parts))
    return found_in(scan_folder(path), path, reading)


def _check_kind(path: Path) -> None:
    """Raise DataError for a file of another kind, so that it is not called a damaged tar."""
    first = first_bytes(path, FIRST_BYTES)
    if first[257:262] == b"ustar":  # a tar begins with a name, which may look like another format's first bytes
        return
    kind = picture_format(first) or foreign_kind(first, "")
    if kind == foreign_kind(b"", ""):
        if not first or b"\0" in first or is_packed(path):  # a tar's first header is padded with zeros
            return
        kind = "text"
    unpack = "unpack it" if kind in ("ZIP", "7z", "RAR") else "give a folder, or the right file"
    raise DataError(f"{path}: got a file of the kind {kind}, expected {FORMS}; {unpack}")


def _forms_of(folder: Path) -> list[Published]:
    return [form for form in PUBLISHED if all(any(file.is_file() for file in folder.glob(mark)) for mark in form.marks)]


def _read_tar(path: Path, reading: Reading) -> Found:
    _check_kind(path)
    scan = scan_tar(path, {pattern for form in PUBLISHED for pattern in form.parts})
    for form in PUBLISHED:
        if all(any(fnmatch(name, mark) for name in scan.files) for mark in form.marks):
            return form.read(Files(path, scan.files))
    return found_in(scan, path, reading)
