"""Pictures to judge with, and to calibrate with: an image folder or a tar of one, with or without labels."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import tarfile
import zlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from lzma import LZMAError
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from taijitu_runtime.card import InputSpec
from taijitu_runtime.classify.cli import SUFFIXES, refuse_folder
from taijitu_runtime.errors import PictureError, UsageError
from taijitu_runtime.machine import usable_cores
from taijitu_runtime.pictures.preprocess import preprocess

TRAINING_SPLIT = "train"
EVALUATION_SPLITS = ("test", "val")
Labels = Sequence[str]


@dataclasses.dataclass(frozen=True)
class PictureSet:
    """Pictures of one split of `source`, a folder or a tar, that are decoded anew whenever they are asked for.

    `split`: "train", "test", "val", or empty where `source` has no splits. `names`: paths within `source`.
    `targets`: int64 (N,), indices of labels; None for pictures without labels.
    """

    source: Path
    split: str
    names: tuple[str, ...]
    targets: NDArray[np.int64] | None

    def __len__(self) -> int:
        return len(self.names)

    def __str__(self) -> str:
        return f"{len(self)} pictures of {self.source.name}{f'/{self.split}' if self.split else ''}"

    def subset(self, index: NDArray[np.int64]) -> PictureSet:
        """The pictures at `index`, int64 (M,), ascending."""
        targets = None if self.targets is None else self.targets[index]
        return dataclasses.replace(self, names=tuple(self.names[i] for i in index), targets=targets)

    def spread(self, count: int) -> PictureSet:
        """At most `count` of the pictures, spread evenly."""
        return self.subset(np.linspace(0, len(self) - 1, min(count, len(self))).round().astype(np.int64))

    def batches(self, spec: InputSpec, size: int = 64) -> Iterator[NDArray[np.uint8]]:
        """Every picture in order, preprocessed: uint8 RGB (at most `size`, H, W, 3). PictureError names a bad one."""

        def prepared(entry: tuple[str, Path | bytes]) -> NDArray[np.uint8]:
            name, content = entry
            try:
                return preprocess(content, spec)
            except PictureError as error:
                raise error.named(f"{self.source}: {name}") from error

        contents = _tar_contents(self.source, self.names) if self.source.is_file() else self._files()
        with ThreadPoolExecutor(usable_cores()) as pool:
            while chunk := [entry for _, entry in zip(range(size), contents)]:
                yield np.stack(list(pool.map(prepared, chunk)))

    def array(self, spec: InputSpec) -> NDArray[np.uint8]:
        """All pictures at once, uint8 RGB (N, H, W, 3)."""
        return np.concatenate(list(self.batches(spec)))

    def _files(self) -> Iterator[tuple[str, Path | bytes]]:
        return ((name, self.source / name) for name in self.names)


def find_pictures(source: Path, labels: Labels) -> dict[str, PictureSet]:
    """The pictures in `source`, a folder or tar, by split.

    1. Where there are train/<label>/*, test/<label>/* or val/<label>/* at any depth: those, and nothing beside them.
    2. Otherwise all pictures are one split, named "". In folders, they are labelled by them; all in one place, and
       that place not named like a label, they have no labels.

    UsageError where there is no picture, a folder cannot be read, or one is not named like one of `labels`.
    """
    names = _tar_names(source) if source.is_file() else _folder_names(source)
    if not names:
        raise UsageError(f"{source}: got no picture in it, expected {' '.join(sorted(SUFFIXES))}; check the path")
    splits: dict[str, list[str]] = {}
    for name in names:
        parts = PurePosixPath(name).parts
        if len(parts) >= 3 and parts[-3] in (TRAINING_SPLIT, *EVALUATION_SPLITS):
            splits.setdefault(parts[-3], []).append(name)
    if splits:
        return {split: _labelled(source, split, found, labels) for split, found in splits.items()}
    places = {PurePosixPath(name).parent for name in names}
    if len(places) == 1 and next(iter(places)).name not in labels:
        return {"": PictureSet(source, "", tuple(names), None)}
    return {"": _labelled(source, "", names, labels)}


def evaluation_pictures(source: Path, labels: Labels) -> PictureSet:
    """What to judge with: test/, else val/, else all pictures where nothing is split. UsageError for train/ alone."""
    sets = find_pictures(source, labels)
    for split in (*EVALUATION_SPLITS, ""):
        if split in sets:
            return sets[split]
    raise UsageError(
        f"{source}: got train/ alone, expected test/ or val/ beside it: pictures that a network was trained on prove "
        f"little; give {source}/train if you mean them"
    )


def calibration_and_judging(source: Path, labels: Labels, count: int) -> tuple[PictureSet, PictureSet]:
    """At most `count` pictures to calibrate with, and those to judge the outcome with; never the same.

    train/ calibrates; val/ judges, or test/ where there is no val/, so that test/ can stay untouched for verify.
    Without one of the two, the split that is there is divided: every second picture calibrates, the others judge.
    The pictures that calibrate are spread evenly over their split. UsageError for fewer than 2 pictures.
    """
    sets = find_pictures(source, labels)
    judging = next((sets[split] for split in ("val", "test") if split in sets), None)
    calibrating = sets.get(TRAINING_SPLIT)
    if calibrating is None or judging is None:
        whole = judging or calibrating or sets[""]
        if len(whole) < 2:
            raise UsageError(f"{source}: got 1 picture, expected some to calibrate and others to judge with; give more")
        calibrating, judging = (whole.subset(np.arange(first, len(whole), 2)) for first in (0, 1))
    return calibrating.spread(count), judging


def _labelled(source: Path, split: str, names: list[str], labels: Labels) -> PictureSet:
    index = {label: i for i, label in enumerate(labels)}
    found = [PurePosixPath(name).parent.name for name in names]
    if unknown := sorted(set(found) - set(index)):
        raise UsageError(
            f"{source}: got {_some(unknown)} for folders, expected the model's labels: {_some(labels)}; "
            "rename the folders, or put pictures without labels into one folder"
        )
    return PictureSet(source, split, tuple(names), np.array([index[label] for label in found], np.int64))


def _some(names: Collection[str], count: int = 5) -> str:
    shown = ", ".join(repr(name) for name in list(names)[:count])
    return shown if len(names) <= count else f"{shown} and {len(names) - count} more"


def _pictures(names: Iterable[str]) -> list[str]:
    return [
        name
        for name in names
        if PurePosixPath(name).suffix.lower() in SUFFIXES
        and not any(part.startswith(".") for part in PurePosixPath(name).parts)
    ]


def _folder_names(folder: Path) -> list[str]:
    if not folder.is_dir():
        raise UsageError(f"{folder}: got no such file or folder, expected a folder or tar of pictures; check the path")
    # os.walk and not rglob: label folders are often links.
    walked = os.walk(folder, onerror=refuse_folder, followlinks=True)
    found = (Path(parent, name).relative_to(folder).as_posix() for parent, _, names in walked for name in names)
    return sorted(_pictures(found))


def _tar_names(path: Path) -> list[str]:
    with _opened(path) as archive:
        return list(dict.fromkeys(_pictures(member.name for member in archive if member.isfile())))


def _tar_contents(path: Path, names: Sequence[str]) -> Iterator[tuple[str, Path | bytes]]:
    wanted = set(names)
    with _opened(path) as archive:
        for member in archive:
            if member.name in wanted and (content := archive.extractfile(member)):
                wanted.remove(member.name)
                yield member.name, content.read()


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tarfile.TarFile]:
    try:
        with tarfile.open(path) as archive:
            yield archive
    except (tarfile.TarError, LZMAError, zlib.error, EOFError, OSError) as error:
        raise UsageError(
            f"{path}: got no readable tar ({error}), expected a .tar, .tar.gz, .tar.xz or folder"
        ) from None
