"""Pictures of a data set with the model's labels, as the network's input."""

from __future__ import annotations

import dataclasses
import itertools
import operator
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from taijitu_runtime.card import InputSpec
from taijitu_runtime.console import shown
from taijitu_runtime.datasets.fingerprints import copies_among
from taijitu_runtime.datasets.found import Content, LeftOut, bytes_of, chosen, name_of
from taijitu_runtime.datasets.label_statistics import counts_in_words, label_counts, warnings_of
from taijitu_runtime.errors import DataError, PictureError, UsageError
from taijitu_runtime.machine import usable_cores
from taijitu_runtime.pictures.preprocess import preprocess
from taijitu_runtime.pictures.resizing.resize import resize_picture


def check_skipping(skip_unreadable: bool, data: Path | None, flag: str = "--data") -> None:
    """Raise UsageError for `skip_unreadable` without pictures, those of `flag`."""
    if skip_unreadable and data is None:
        raise UsageError(f"got --skip-unreadable without pictures; give {flag} DIR, or remove it")


@dataclasses.dataclass(frozen=True)
class PictureSet:
    """Pictures of one split of `source`, decoded at every access.

    Attributes:
        split: As `source` spells it, or empty without splits.
        targets: int64 (N,), indices of `labels`, which are the model's; None for pictures without labels.
        left_out: The files of `source` that were not taken.
        part: A description of these pictures where they are only a part of the split.
        prints: The fingerprints of the pictures, by which copies among them are named; None where nobody asked.
        seen: That the network was trained on some of them, in words; empty if it was not, or if nobody asked.
    """

    source: Path
    split: str
    contents: Sequence[Content] | NDArray[np.uint8]
    targets: NDArray[np.int64] | None
    labels: tuple[str, ...]
    left_out: LeftOut = dataclasses.field(default_factory=LeftOut)
    part: str = ""
    prints: tuple[str, ...] | None = None
    seen: str = ""

    def __len__(self) -> int:
        return len(self.contents)

    def __str__(self) -> str:
        split = f"/{self.split}" if self.split else ""
        return f"{len(self)} pictures of {self.source_name}{split}{f', {self.part}' if self.part else ''}"

    @property
    def source_name(self) -> str:
        """The name of the folder or file, also where its path is only a dot."""
        return shown(Path(os.path.abspath(self.source)).name or self.source)  # noqa: PTH100 -- ".." is one above

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the pictures within `source`."""
        if isinstance(self.contents, np.ndarray):
            return tuple(f"picture {i}" for i in range(len(self)))
        return tuple(self._name(content) for content in self.contents)

    @property
    def label_counts(self) -> dict[str, int]:
        """The number of pictures per label, in the model's order; empty without labels."""
        return {} if self.targets is None else label_counts(self.targets, self.labels)

    @property
    def cautions(self) -> tuple[str, ...]:
        """The reasons, apart from the labels' counts, why a judgement on these pictures may mislead."""
        return tuple(filter(None, (self.seen, self._copies())))

    @property
    def warnings(self) -> list[str]:
        """The reasons why a judgement on these pictures may mislead."""
        uneven = "the accuracy says little of the rare ones: look at each label's (--report)"
        return [*self.cautions, *warnings_of(self.label_counts, uneven)]

    @property
    def remarks(self) -> list[str]:
        """Lines about the pictures, the files that were left out, and warnings."""
        there = {label: count for label, count in self.label_counts.items() if count}
        lines = [counts_in_words(there)] if there else []
        lines += [f"left out: {self.left_out}"] if self.left_out else []
        return lines + [f"warning: {text}" for text in self.warnings]

    def subset(self, index: NDArray[np.int64]) -> PictureSet:
        """Return the pictures at `index`, int64 (M,), ascending."""
        targets = None if self.targets is None else self.targets[index]
        prints = None if self.prints is None else tuple(self.prints[i] for i in index.tolist())
        return dataclasses.replace(self, contents=chosen(self.contents, index), targets=targets, prints=prints)

    def readable(self, spec: InputSpec) -> PictureSet:
        """Return the pictures that can be decoded; `left_out` names the others. DataError if there is none."""
        if isinstance(self.contents, np.ndarray):
            return self
        with ThreadPoolExecutor(usable_cores()) as pool:
            readable = list(pool.map(lambda content: _can_prepare(content, spec), self.contents))
        if not any(readable):
            raise DataError(f"{self.source}: got no picture that can be decoded, expected some; check the files")
        left_out = LeftOut()
        left_out.add(self.left_out)
        for content in itertools.compress(self.contents, map(operator.not_, readable)):
            left_out.name("that cannot be decoded", self._name(content))
        return dataclasses.replace(self.subset(np.flatnonzero(readable)), left_out=left_out)

    def spread(self, count: int) -> PictureSet:
        """Return at most `count` of the pictures, evenly spaced."""
        return self.subset(np.linspace(0, len(self) - 1, min(count, len(self))).round().astype(np.int64))

    def batches(self, spec: InputSpec, size: int = 64) -> Iterator[NDArray[np.uint8]]:
        """Yield all pictures, preprocessed: uint8 RGB (at most `size`, H, W, 3). PictureError for a bad one."""

        def prepared(content: Content) -> NDArray[np.uint8]:
            try:
                return prepare(content, spec)
            except PictureError as error:
                raise _skippable(error).named(f"{self.source}: {self._name(content)}") from error

        with ThreadPoolExecutor(usable_cores()) as pool:
            for first in range(0, len(self), size):
                yield np.stack(list(pool.map(prepared, self.contents[first : first + size])))

    def array(self, spec: InputSpec) -> NDArray[np.uint8]:
        """Return all pictures in one array, uint8 RGB (N, H, W, 3)."""
        return np.concatenate(list(self.batches(spec)))

    def _copies(self) -> str:
        """Return the caution that some of the pictures are there more than once; empty where none is."""
        if not (copies := copies_among(self.prints or ())):
            return ""
        names, targets = self.names, self.targets
        other_label = [pair for pair in copies if targets is not None and targets[pair[0]] != targets[pair[1]]]
        copy, original = (other_label or copies)[0]
        labels = f", {len(other_label)} of them with another label" if other_label else ""
        return (
            f"got {len(copies)} copies of pictures that are here already{labels} ({shown(names[copy])} is "
            f"{shown(names[original])}), which count each time; remove the copies"
        )

    def _name(self, content: Content) -> str:
        name = name_of(content)
        within = f"{self.source}{os.sep}"
        return name.removeprefix(within) if isinstance(content, str) else name


def prepare(content: Content, spec: InputSpec) -> NDArray[np.uint8]:
    """Preprocess a picture of a data set to uint8 RGB (spec.height, spec.width, 3)."""
    if isinstance(content, np.ndarray):
        return resize_picture(content if content.ndim == 3 else np.repeat(content[:, :, None], 3, axis=2), spec)
    return preprocess(content if isinstance(content, str) else bytes_of(content), spec)


def _skippable(error: PictureError) -> PictureError:
    """Return the error of a picture of a data set, with the flag that leaves it out."""
    return type(error)(f"{error.reason}, or leave out all such pictures with --skip-unreadable", error.name)


def _can_prepare(content: Content, spec: InputSpec) -> bool:
    try:
        prepare(content, spec)
    except PictureError:
        return False
    return True
