"""The content of a data set: undecoded pictures by split, with their labels, and the files that were left out."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from taijitu_runtime.datasets.names import Role
from taijitu_runtime.errors import DataError, UnreadablePictureError, listed

MOST_NAMED = 100  # of the files that are left out


class Encoded(NamedTuple):
    """The bytes of a picture file, and its name in errors."""

    name: str
    data: bytes


class Member(NamedTuple):
    """A picture in an uncompressed tar: the place of its bytes."""

    name: str
    archive: str
    offset: int
    size: int


# A file's path, its bytes, its place in a tar, or uint8 pixels (H, W) or (H, W, 3).
Content: TypeAlias = "str | Encoded | Member | NDArray[np.uint8]"


def name_of(content: Content) -> str:
    """Return the name of a picture in errors."""
    if isinstance(content, str):
        return content
    return content.name if isinstance(content, (Encoded, Member)) else "an array of pixels"


def chosen(
    contents: Sequence[Content] | NDArray[np.uint8], index: NDArray[np.int64]
) -> Sequence[Content] | NDArray[np.uint8]:
    """Return the pictures at `index`, int64 (M,)."""
    return contents[index] if isinstance(contents, np.ndarray) else [contents[i] for i in index.tolist()]


def bytes_of(content: str | Encoded | Member) -> bytes:
    """Read a picture file. Raises UnreadablePictureError."""
    if isinstance(content, Encoded):
        return content.data
    path, offset, size = content[1:] if isinstance(content, Member) else (content, 0, -1)
    try:
        with open(path, "rb") as file:  # noqa: PTH123 -- a million Paths take seconds
            file.seek(offset)
            return file.read(size)
    except OSError as error:
        reason = f"got nothing ({error.strerror}), expected a picture that can be read; check the path"
        raise UnreadablePictureError(reason) from None


def first_bytes(path: Path, count: int) -> bytes:
    """Read the first `count` bytes of a file, all of a shorter one. Raises DataError where it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(count)
    except OSError as error:
        raise unreadable(path, error) from None


def unreadable(path: Path, error: OSError) -> DataError:
    """Return the error about a file of a data set that cannot be read."""
    return DataError(f"{path}: cannot be read ({error.strerror}); check its permissions")


@dataclasses.dataclass
class LeftOut:
    """The files of a data set that are not used: the number of each kind, and the names of unexpected ones."""

    kinds: Counter[str] = dataclasses.field(default_factory=Counter)
    named: list[str] = dataclasses.field(default_factory=list)

    def count(self, kind: str, number: int = 1) -> None:
        """Count files of a kind."""
        self.kinds[kind] += number

    def name(self, kind: str, name: str) -> None:
        """Count a file and keep its name: a FIFO, a broken link."""
        self.kinds[kind] += 1
        self.named.append(f"{name} ({kind})")

    def add(self, other: LeftOut) -> None:
        """Add the files of another folder."""
        self.kinds.update(other.kinds)
        self.named += other.named

    def as_json(self) -> dict[str, object]:
        """Return the number of each kind, and the names."""
        return {"kinds": dict(self.kinds), "named": list(self.named)}

    def __bool__(self) -> bool:
        return bool(self.kinds)

    def __str__(self) -> str:
        counted = ", ".join(f"{count} {kind}" for kind, count in self.kinds.most_common())
        return f"{counted}: {listed(self.named, MOST_NAMED)}" if self.named else counted


@dataclasses.dataclass(frozen=True)
class Split:
    """The pictures of one split.

    Attributes:
        name: As the source spells it.
        targets: int64 (N,), indices of labels; None for pictures without labels.
    """

    name: str
    contents: Sequence[Content] | NDArray[np.uint8]
    targets: NDArray[np.int64] | None

    def __len__(self) -> int:
        return len(self.contents)

    @property
    def known_targets(self) -> NDArray[np.int64]:
        """The targets, int64 (N,), of pictures that have labels."""
        assert self.targets is not None
        return self.targets

    def where(self, mask: NDArray[np.bool_]) -> Split:
        """Return the pictures at which `mask`, bool (N,), is true, of pictures that have labels."""
        return Split(self.name, chosen(self.contents, np.flatnonzero(mask)), self.known_targets[mask])


@dataclasses.dataclass(frozen=True)
class Found:
    """A data set.

    Attributes:
        form: The form in which it was read.
        labels: Empty for pictures without labels.
        splits: By role: "train", "val", "test", or "" without splits.
        remarks: What may have been read otherwise than it was meant.
    """

    source: Path
    form: str
    labels: tuple[str, ...]
    splits: Mapping[Role, Split]
    left_out: LeftOut = dataclasses.field(default_factory=LeftOut)
    remarks: tuple[str, ...] = ()

    def with_last(self, label: str) -> Found:
        """Return the same data set with one of its labels behind all others."""
        labels = (*(each for each in self.labels if each != label), label)
        index = np.array([labels.index(each) for each in self.labels], np.int64)
        splits = {
            role: dataclasses.replace(split, targets=index[split.known_targets]) for role, split in self.splits.items()
        }
        return dataclasses.replace(self, labels=labels, splits=splits)


@dataclasses.dataclass(frozen=True)
class Files:
    """Files that belong together, in a folder (their paths) or unpacked from an archive (their bytes)."""

    where: Path
    contents: Mapping[str, Path | bytes]

    def __contains__(self, name: str) -> bool:
        return name in self.contents

    def read(self, name: str) -> bytes:
        """Read the file called `name`. Raises DataError where it is missing or cannot be read."""
        content = self.contents.get(name)
        if content is None:
            raise DataError(f"{self.where}: {name} is missing; fetch the data set again, or unpack all of it")
        if isinstance(content, bytes):
            return content
        try:
            return content.read_bytes()
        except OSError as error:
            raise unreadable(content, error) from None
