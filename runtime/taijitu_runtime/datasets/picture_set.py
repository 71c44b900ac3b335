"""Pictures to judge with, and to calibrate with: what a data set has, as the network's input."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from taijitu_runtime.card import InputSpec
from taijitu_runtime.datasets.found import Content, Found, Split, bytes_of, name_of
from taijitu_runtime.datasets.layout import Reading
from taijitu_runtime.datasets.names import Role
from taijitu_runtime.datasets.read import FORMS, read_dataset
from taijitu_runtime.errors import DataError, PictureError
from taijitu_runtime.machine import usable_cores
from taijitu_runtime.pictures.preprocess import preprocess, resize_picture

Labels = Sequence[str]


@dataclasses.dataclass(frozen=True)
class PictureSet:
    """Pictures of one split of `source` that are decoded anew whenever they are asked for.

    `split`: as `source` spells it, or empty where it has no splits. `targets`: int64 (N,), indices of the model's
    labels; None for pictures without labels. `left_out`: which files of `source` were not taken, in words.
    """

    source: Path
    split: str
    contents: Sequence[Content] | NDArray[np.uint8]
    targets: NDArray[np.int64] | None
    left_out: str = ""

    def __len__(self) -> int:
        return len(self.contents)

    def __str__(self) -> str:
        return f"{len(self)} pictures of {self.source.name}{f'/{self.split}' if self.split else ''}"

    @property
    def names(self) -> tuple[str, ...]:
        """What the pictures are called within `source`."""
        if isinstance(self.contents, np.ndarray):
            return tuple(f"picture {i}" for i in range(len(self)))
        return tuple(self._name(content) for content in self.contents)

    def subset(self, index: NDArray[np.int64]) -> PictureSet:
        """The pictures at `index`, int64 (M,), ascending."""
        targets = None if self.targets is None else self.targets[index]
        contents = self.contents
        chosen = contents[index] if isinstance(contents, np.ndarray) else [contents[i] for i in index]
        return dataclasses.replace(self, contents=chosen, targets=targets)

    def spread(self, count: int) -> PictureSet:
        """At most `count` of the pictures, spread evenly."""
        return self.subset(np.linspace(0, len(self) - 1, min(count, len(self))).round().astype(np.int64))

    def batches(self, spec: InputSpec, size: int = 64) -> Iterator[NDArray[np.uint8]]:
        """Every picture in order, preprocessed: uint8 RGB (at most `size`, H, W, 3). PictureError names a bad one."""

        def prepared(content: Content) -> NDArray[np.uint8]:
            try:
                return prepare(content, spec)
            except PictureError as error:
                raise error.named(f"{self.source}: {self._name(content)}") from error

        with ThreadPoolExecutor(usable_cores()) as pool:
            for first in range(0, len(self), size):
                yield np.stack(list(pool.map(prepared, self.contents[first : first + size])))

    def array(self, spec: InputSpec) -> NDArray[np.uint8]:
        """All pictures at once, uint8 RGB (N, H, W, 3)."""
        return np.concatenate(list(self.batches(spec)))

    def _name(self, content: Content) -> str:
        name = name_of(content)
        within = f"{self.source}{os.sep}"
        return name.removeprefix(within) if isinstance(content, str) else name


def prepare(content: Content, spec: InputSpec) -> NDArray[np.uint8]:
    """A picture of a data set as uint8 RGB (spec.height, spec.width, 3): `preprocess` of what it holds."""
    if isinstance(content, np.ndarray):
        return resize_picture(content if content.ndim == 3 else np.repeat(content[:, :, None], 3, axis=2), spec)
    return preprocess(content if isinstance(content, str) else bytes_of(content), spec)


def evaluation_pictures(source: Path, labels: Labels) -> PictureSet:
    """What to judge with: test/, else val/, else all pictures where nothing is split. DataError for train/ alone."""
    found = _found(source, labels)
    for role in ("test", "val", ""):
        if role in found.splits:
            return _labelled(found, found.splits[role], labels)
    raise DataError(
        f"{source}: got train/ alone, expected test/ or val/ beside it: pictures that a network was trained on prove "
        f"little; give {source}/train if you mean them"
    )


def calibration_and_judging(source: Path, labels: Labels, count: int) -> tuple[PictureSet, PictureSet]:
    """At most `count` pictures to calibrate with, and those to judge the outcome with; never the same.

    train/ calibrates; val/ judges, or test/ where there is no val/, so that test/ can stay untouched for verify.
    Without one of the two, the split that is there is divided: every second picture calibrates, the others judge.
    The pictures that calibrate are spread evenly over their split. DataError for fewer than 2 pictures.
    """
    found = _found(source, labels)
    sets = {role: _labelled(found, split, labels) for role, split in found.splits.items()}
    judging = next((sets[role] for role in ("val", "test") if role in sets), None)
    calibrating = sets.get("train")
    if calibrating is None or judging is None:
        whole = judging or calibrating or sets[""]
        if len(whole) < 2:
            raise DataError(f"{source}: got 1 picture, expected some to calibrate and others to judge with; give more")
        calibrating, judging = (whole.subset(np.arange(first, len(whole), 2)) for first in (0, 1))
    return calibrating.spread(count), judging


def _found(source: Path, labels: Labels) -> Found:
    found = read_dataset(source, Reading(known=tuple(labels), unlabelled=True))
    if not any(len(split) for split in found.splits.values()):
        left_out = f" ({found.left_out} left out)" if found.left_out else ""
        raise DataError(f"{source}: got no picture in it{left_out}, expected {FORMS}; check the path")
    used: dict[Role, Split] = {role: split for role, split in found.splits.items() if len(split)}
    return dataclasses.replace(found, splits=used)


def _labelled(found: Found, split: Split, labels: Labels) -> PictureSet:
    """A split with the model's targets in place of the data's."""
    targets = split.targets
    if targets is not None:
        index = {label: i for i, label in enumerate(labels)}
        used = [found.labels[i] for i in np.unique(targets)]
        if unknown := [label for label in used if label not in index]:
            raise DataError(
                f"{found.source}: got {_some(unknown)} for labels, expected the model's: {_some(labels)}; "
                "rename the folders, or put pictures without labels into one folder"
            )
        targets = np.array([index.get(label, -1) for label in found.labels], np.int64)[targets]
    return PictureSet(found.source, split.name, split.contents, targets, str(found.left_out))


def _some(names: Collection[str], count: int = 5) -> str:
    shown = ", ".join(repr(name) for name in list(names)[:count])
    return shown if len(names) <= count else f"{shown} and {len(names) - count} more"
