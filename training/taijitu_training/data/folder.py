"""Reading what lies in a folder or in a tar: pictures, or the files of a published data set."""

from __future__ import annotations

import hashlib
import lzma
import os
import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

from taijitu_training.data.budget import host_budget
from taijitu_training.data.cifar import cifar10_binary, cifar10_pickles, cifar100_binary, cifar100_pickles
from taijitu_training.data.found import Files, Found
from taijitu_training.data.layout import Entry, found_in, is_loose, skipped
from taijitu_training.data.mnist import mnist_idx
from taijitu_training.data.samples import Encoded
from taijitu_training.errors import DataError

PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm"})
FORMS = (
    "train/<label>/*.jpg and test/<label>/* (or val/) in a folder or tar, <label>/*.jpg with --validation, "
    "CIFAR's or MNIST's published files, or WebDataset shards train-*.tar and val-*.tar"
)


@dataclass(frozen=True)
class _Published:
    marks: tuple[str, ...]  # patterns of file names; one of each, side by side, tell the form
    parts: tuple[str, ...]  # patterns of all the files that belong to it
    read: Callable[[Files], Found]


_PUBLISHED = (
    _Published(("batches.meta",), ("batches.meta", "data_batch_[1-5]", "test_batch"), cifar10_pickles),
    _Published(("batches.meta.txt",), ("batches.meta.txt", "*_batch*.bin"), cifar10_binary),
    _Published(("meta", "train"), ("meta", "train", "test"), cifar100_pickles),
    _Published(("fine_label_names.txt",), ("fine_label_names.txt", "train.bin", "test.bin"), cifar100_binary),
    _Published(("*-images?idx3-ubyte*",), ("*-images?idx3-ubyte*", "*-labels?idx1-ubyte*"), mnist_idx),
)


def read_folder(path: Path, evaluation: bool) -> Found:
    """The pictures of a folder; evaluation splits only where `evaluation`. DataError says what is wrong with it."""
    if not path.is_dir():
        raise DataError(f"{path}: no such file or folder; expected {FORMS}")
    # "raw" is where torchvision puts MNIST.
    here = [(folder, form) for folder in (path, *path.glob("*/"), *path.glob("*/raw/")) for form in _forms_of(folder)]
    if len(here) > 1:
        names = ", ".join(str(folder) for folder, _ in here)
        raise DataError(f"{path}: got {len(here)} data sets, expected one; give one of: {names}")
    if here:
        folder, form = here[0]
        parts = {file.name: file for pattern in form.parts for file in folder.glob(pattern)}
        return form.read(Files(str(folder), parts))
    return found_in(_walk(path, evaluation), str(path), "folder")


def _forms_of(folder: Path) -> list[_Published]:
    return [
        form for form in _PUBLISHED if all(any(file.is_file() for file in folder.glob(mark)) for mark in form.marks)
    ]


def _walk(path: Path, evaluation: bool) -> Iterator[Entry]:
    # os.walk and not rglob: label folders are often links.
    for folder, subfolders, names in os.walk(path, followlinks=True):
        inside = Path(folder).relative_to(path).parts
        for name in subfolders:
            if not skipped((*inside, name, ""), evaluation):
                yield Entry((*inside, name), None)
        for name in names:
            parts = (*inside, name)
            if not _is_picture(name):
                continue
            if not skipped(parts, evaluation):
                yield Entry(parts, os.path.join(folder, name))  # noqa: PTH118, a million Paths would take a gigabyte
            elif is_loose(parts):
                yield Entry(inside, None)


def _is_picture(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in PICTURE_SUFFIXES


def read_tar(path: Path, evaluation: bool) -> Found:
    """The pictures of a .tar, .tar.gz or .tar.xz, undecoded, in memory. DataError says what is wrong with it."""
    patterns = {pattern for form in _PUBLISHED for pattern in form.parts}
    entries: list[Entry] = []
    parts: dict[str, Path | bytes] = {}
    budget = host_budget()
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                place = PurePosixPath(member.name).parts
                if member.isdir():
                    if not skipped((*place, ""), evaluation):
                        entries.append(Entry(place, None))
                    continue
                picture = bool(place) and _is_picture(place[-1])
                if picture and skipped(place, evaluation):
                    if is_loose(place):
                        entries.append(Entry(place[:-1], None))
                    continue
                part = bool(place) and any(fnmatch(place[-1], pattern) for pattern in patterns)
                if not member.isfile() or not (picture or part):
                    continue
                if (budget := budget - member.size) < 0:
                    raise DataError(
                        f"{path}: its pictures take more than half of the free memory; unpack it, or make WebDataset "
                        "shards train-*.tar and val-*.tar of it"
                    )
                content = archive.extractfile(member)
                assert content is not None  # only links and folders have none
                if picture:
                    entries.append(Entry(place, Encoded(member.name, content.read())))
                else:
                    parts[place[-1]] = content.read()
    except (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, OSError) as error:
        reason = str(error).partition(":\n")[0]  # what every compression said of it follows
        raise DataError(f"{path}: not a readable tar ({reason}); expected {FORMS}") from None
    for form in _PUBLISHED:
        if all(any(fnmatch(name, mark) for name in parts) for mark in form.marks):
            return form.read(Files(str(path), parts))
    return found_in(entries, str(path), "tar")


def sha256_of(path: Path) -> str:
    """Of the archive at `path`, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
