"""Search a folder or a tar for pictures, without decoding or blocking; other files are counted."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

from taijitu_runtime.console import DELAY_S, Progress, shown
from taijitu_runtime.datasets.archive import is_packed, members
from taijitu_runtime.datasets.budget import host_budget
from taijitu_runtime.datasets.found import Content, Encoded, LeftOut, Member, name_of
from taijitu_runtime.datasets.kinds import foreign_kind, picture_format
from taijitu_runtime.datasets.names import has_picture_suffix, is_hidden, is_system_file
from taijitu_runtime.errors import DataError
from taijitu_runtime.labels import composed
from taijitu_runtime.pictures.formats import FIRST_BYTES

Parts = tuple[str, ...]  # of a path within the data set
_SPECIAL = ((stat.S_ISFIFO, "FIFO"), (stat.S_ISSOCK, "socket"), (stat.S_ISCHR, "device"), (stat.S_ISBLK, "device"))


@dataclass
class Scan:
    """The content of a folder or tar.

    Attributes:
        pictures: By the parts of their paths, in that order.
        folders: All folders that are not hidden.
        files: The requested files of a tar.
    """

    form: str
    pictures: dict[Parts, Content] = field(default_factory=dict)
    folders: set[Parts] = field(default_factory=set)
    files: dict[str, Path | bytes] = field(default_factory=dict)
    left_out: LeftOut = field(default_factory=LeftOut)

    def add(self, parts: Parts, content: Content) -> None:
        """Add a picture; a tar's later file of a name replaces the earlier one, as it does when it is unpacked.

        DataError where two names are the same only in Unicode's two forms, of an umlaut for example.
        """
        parts = tuple(map(composed, parts))
        # As paths: a tar may have a.png and ./a.png.
        if parts in self.pictures and PurePosixPath(name_of(self.pictures[parts])) != PurePosixPath(name_of(content)):
            raise DataError(f"got {name_of(content)} twice, with its letters encoded in two ways; rename one of them")
        self.pictures[parts] = content

    def in_order(self) -> Scan:
        """Return the same with sorted pictures."""
        self.pictures = dict(sorted(self.pictures.items()))
        return self


def scan_folder(path: Path) -> Scan:
    """Find the pictures at any depth in a folder. Raises DataError for a folder that cannot be read."""
    found = Scan("folder")
    with Progress(None, "files", what=f"looking through {shown(path.name)}", delay_s=DELAY_S) as bar:
        for parts, entry in _walk(str(path), (), ()):
            bar.advance()
            if entry is None:
                found.folders.add(tuple(map(composed, parts)))
            elif is_picture_file(entry.path, found.left_out):
                found.add(parts, entry.path)
    return found.in_order()


def is_picture_file(path: str, left_out: LeftOut) -> bool:
    """Return whether a file counts as a picture, and count it otherwise. A FIFO and the like are never opened."""
    name = os.path.basename(path)  # noqa: PTH119 -- a million Paths take seconds
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116
    except OSError as error:
        if not has_picture_suffix(name):
            left_out.name(f"unreadable, {error.strerror}", path)
            return False
        return True  # the error comes when it is decoded
    if not stat.S_ISREG(mode):
        left_out.name(next((kind for holds, kind in _SPECIAL if holds(mode)), "special file"), path)
        return False
    if has_picture_suffix(name):
        return True
    if is_system_file(name):
        return False
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            first = file.read(FIRST_BYTES)
    except OSError as error:
        left_out.name(f"unreadable, {error.strerror}", path)
        return False
    return _is_picture(first, name, left_out)


def _is_picture(first: bytes, name: str, left_out: LeftOut) -> bool:
    if picture_format(first) is not None:
        return True
    left_out.count(foreign_kind(first, name))
    return False


def _walk(
    folder: str, inside: Parts, above: tuple[tuple[int, int], ...]
) -> Iterator[tuple[Parts, os.DirEntry[str] | None]]:
    """Yield (parts, entry) for every file and (parts, None) for every folder, except hidden ones; follow links."""
    try:
        status = os.stat(folder)  # noqa: PTH116
        place = (status.st_dev, status.st_ino)
        if place in above:  # a link to a folder above itself
            return
        with os.scandir(folder) as entries:
            listed = [(entry, _is_folder(entry)) for entry in entries if not is_hidden((entry.name,))]
    except OSError as error:  # of the folder, or of a link in it
        raise DataError(
            f"{error.filename}: got a folder that cannot be read ({error.strerror}); check its permissions"
        ) from None
    for entry, is_folder in listed:
        parts = (*inside, entry.name)
        if is_folder:
            yield parts, None
            yield from _walk(entry.path, parts, (*above, place))
        else:
            yield parts, entry


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError as error:
        if error.errno == errno.ELOOP:  # a link to itself, which `ln -s data data` makes: counted as unreadable
            return False
        raise


def _parts(name: str) -> Parts:
    """Return the parts of a path in a tar."""
    return tuple(part for part in PurePosixPath(name).parts if part != ".")


def scan_tar(path: Path, wanted: Collection[str]) -> Scan:
    """Find the pictures of a tar, loaded if it is compressed, and the files whose names match one of `wanted`.

    Raises:
        DataError: The tar is damaged, or its pictures take more than half of the free memory.
    """
    found = Scan("tar")
    packed, budget = is_packed(path), host_budget()
    for member, read in members(path, shows_bar=True):
        parts = _parts(member.name)
        if not parts or is_hidden(parts):
            continue
        found.folders.update(tuple(map(composed, parts[:i])) for i in range(1, len(parts) + member.isdir()))
        if member.isdir():
            continue
        part = any(fnmatch(parts[-1], pattern) for pattern in wanted)
        linked = found.pictures.get(tuple(map(composed, _parts(member.linkname)))) if member.islnk() else None
        if isinstance(linked, (Encoded, Member)) and not is_system_file(parts[-1]):
            found.add(parts, linked._replace(name=member.name))  # tar packs the second name of a file as a hard link
            continue
        if not member.isfile():
            found.left_out.name("link" if member.issym() or member.islnk() else "special file", member.name)
            continue
        picture = has_picture_suffix(parts[-1])
        data = b"" if is_system_file(parts[-1]) or (picture and not packed and not member.issparse()) else read()
        if part:
            found.files[parts[-1]] = data or read()
        elif is_system_file(parts[-1]) or not (picture or _is_picture(data[:FIRST_BYTES], parts[-1], found.left_out)):
            continue
        elif packed or member.issparse():
            found.add(parts, Encoded(member.name, data))
        else:
            found.add(parts, Member(member.name, str(path), member.offset_data, member.size))
            continue
        if (budget := budget - len(data)) < 0:
            raise DataError(
                f"{path}: its pictures take more than half of the free memory; unpack it, or make WebDataset shards "
                "train-*.tar and val-*.tar of it"
            )
    return found.in_order()
