"""The pictures of a data set for evaluation and calibration, as the network's input."""

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
from taijitu_runtime.datasets.fingerprints import UNREADABLE, fingerprints
from taijitu_runtime.datasets.found import Content, Found, LeftOut, Split, bytes_of, chosen, name_of
from taijitu_runtime.datasets.held_out import TrainedOn
from taijitu_runtime.datasets.label_statistics import counts_in_words, label_counts, warnings_of
from taijitu_runtime.datasets.layout import Reading
from taijitu_runtime.datasets.names import Role
from taijitu_runtime.datasets.read import FORMS, read_dataset
from taijitu_runtime.errors import DataError, PictureError, UsageError, listed
from taijitu_runtime.labels import composed
from taijitu_runtime.machine import usable_cores
from taijitu_runtime.pictures.preprocess import preprocess
from taijitu_runtime.pictures.resizing.resize import resize_picture

Labels = Sequence[str]


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
        cautions: Reasons, apart from the labels' counts, why a judgement on them may mislead.
    """

    source: Path
    split: str
    contents: Sequence[Content] | NDArray[np.uint8]
    targets: NDArray[np.int64] | None
    labels: tuple[str, ...]
    left_out: LeftOut = dataclasses.field(default_factory=LeftOut)
    part: str = ""
    cautions: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.contents)

    def __str__(self) -> str:
        split = f"/{self.split}" if self.split else ""
        return f"{len(self)} pictures of {shown(self.source.name)}{split}{f', {self.part}' if self.part else ''}"

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
        return dataclasses.replace(self, contents=chosen(self.contents, index), targets=targets)

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


def evaluation_pictures(source: Path, labels: Labels, trained_on: TrainedOn | None = None) -> PictureSet:
    """Return the pictures to judge with: test/, or val/, or a set without splits, except training pictures.

    Args:
        source: The data set.
        labels: The model's labels.
        trained_on: The sample in the model's card. If the model was trained on pictures of `source` and the card tells
            which share was held out, only that share is returned; otherwise the set has a warning. Pictures of the
            label that it was trained not to be sure of are left out.

    Raises:
        DataError: There is only train/, and no share of it was held out.
    """
    return evaluation_and_other_pictures(source, labels, trained_on)[0]


def evaluation_and_other_pictures(
    source: Path, labels: Labels, trained_on: TrainedOn | None, other: str | None = None
) -> tuple[PictureSet, PictureSet]:
    """Return the pictures of `evaluation_pictures`, and those with the label `other`, which show none of the labels.

    `other`: None for the label that the model was trained not to be sure of, whose pictures are never in the first set.
    The second set may be empty.
    """
    known = _with_other(labels, trained_on, other)
    return _divided(_judging(_found(source, known), known, trained_on), labels)


def _judging(found: Found, labels: Labels, trained_on: TrainedOn | None) -> PictureSet:
    source = found.source
    roles: tuple[Role, ...] = ("test", "val", "", "train")
    role = next(role for role in roles if role in found.splits)
    judging = _labelled(found, found.splits[role], labels)
    prints = fingerprints(judging.contents)
    if trained_on is not None and role in ("", "train") and (held := _held_out(judging, labels, trained_on, prints)):
        _, held_out = _parted(judging, held, trained_on)
        return dataclasses.replace(held_out, cautions=_copies(held_out, [*itertools.compress(prints, held)]))
    if role != "train":
        seen = () if trained_on is None else _seen(trained_on, prints)
        return dataclasses.replace(judging, cautions=(*seen, *_copies(judging, prints)))
    raise _train_alone(source)


def _train_alone(source: Path) -> DataError:
    meant = f"give {source}/train" if (source / "train").is_dir() else "give that folder alone, unpacked,"
    return DataError(
        f"{source}: got train/ alone, expected test/ or val/ next to it: pictures that a network was trained on prove "
        f"little; {meant} if you mean them"
    )


def calibration_and_judging(
    source: Path, labels: Labels, count: int, trained_on: TrainedOn | None = None
) -> tuple[PictureSet, PictureSet]:
    """Return at most `count` pictures to calibrate with, and others to judge the result with.

    train/ calibrates; val/ judges, or test/ where there is no val/, so that test/ can stay unused until verify. With
    only one set, it is divided: the pictures that were held out of training judge, if `trained_on` tells them;
    otherwise every second picture calibrates, and the others judge. Calibration takes evenly spaced pictures.

    Raises:
        DataError: There are fewer than 2 pictures, or there is only train/, and no share of it was held out.
    """
    known = _with_other(labels, trained_on)
    found = _found(source, known)
    sets = {role: _divided(_labelled(found, split, known), labels)[0] for role, split in found.splits.items()}
    judging = next((sets[role] for role in ("val", "test") if role in sets), None)
    calibrating = sets.get("train")
    if calibrating is None or judging is None:
        whole = judging or calibrating or sets[""]
        if len(whole) < 2:
            raise DataError(f"{source}: got 1 picture, expected some to calibrate and others to judge with; give more")
        parts = None
        if judging is None and trained_on is not None:
            held = _held_out(whole, labels, trained_on, fingerprints(whole.contents))
            parts = _parted(whole, held, trained_on) if held else None
        if parts is None and "train" in sets:
            raise _train_alone(source)
        calibrating, judging = parts or _every_second(whole)
    return calibrating.spread(count), judging


def _every_second(whole: PictureSet) -> tuple[PictureSet, PictureSet]:
    return whole.subset(np.arange(0, len(whole), 2)), whole.subset(np.arange(1, len(whole), 2))


def _held_out(whole: PictureSet, labels: Labels, trained_on: TrainedOn, prints: Sequence[str]) -> list[bool]:
    """Return which pictures training held out; [] if it is not known to have held out some and trained on others."""
    if trained_on.held_out is None or whole.targets is None:
        return []
    held = trained_on.held_out.mask(prints, whole.targets, labels)
    if not trained_on.found(prints) or held.all() or not held.any():
        return []
    return list(map(bool, held))


def _parted(whole: PictureSet, held: Sequence[bool], trained_on: TrainedOn) -> tuple[PictureSet, PictureSet]:
    """Return the pictures that were trained on, and those of `_held_out`."""
    out = np.array(held)
    trained, judging = (whole.subset(np.flatnonzero(side)) for side in (~out, out))
    return trained, dataclasses.replace(judging, part=f"the {trained_on.held_out}")


def _with_other(labels: Labels, trained_on: TrainedOn | None, other: str | None = None) -> tuple[str, ...]:
    """Return the labels, and behind them those of pictures that show none of them: training's, and then `other`."""
    of_training = None if trained_on is None else trained_on.other
    more = (composed(each) for each in (of_training, other) if each is not None and each not in labels)
    return (*labels, *dict.fromkeys(more))


def _divided(whole: PictureSet, labels: Labels) -> tuple[PictureSet, PictureSet]:
    """Return the pictures of `labels`, the first ones of the set's, and those of the last one behind them, if any."""
    if whole.targets is None or len(whole.labels) == len(labels):
        return whole, whole.subset(np.zeros(0, np.int64))
    other, is_own, is_other = whole.labels[-1], whole.targets < len(labels), whole.targets == len(whole.labels) - 1
    own, others = whole.subset(np.flatnonzero(is_own)), whole.subset(np.flatnonzero(is_other))
    counts = label_counts(whole.targets, whole.labels)
    more = {label: count for label in whole.labels[len(labels) :] if (count := counts[label])}
    if not len(own):
        alone = listed(map(repr, more))
        raise DataError(f"{whole.source}: got pictures of {alone} alone, expected some of the labels; add them")
    left_out = LeftOut()
    left_out.add(whole.left_out)
    for label, count in more.items():
        left_out.count(f"pictures of {label!r}, none of the labels", count)
    own = dataclasses.replace(own, labels=tuple(labels), left_out=left_out)
    return own, dataclasses.replace(others, targets=None, part=f"those of {other}", left_out=LeftOut())


def _seen(trained_on: TrainedOn, prints: Sequence[str]) -> tuple[str, ...]:
    """Return the caution that the network was trained on some of the pictures, whose fingerprints are `prints`."""
    if not (share := trained_on.found(prints)):
        return ()
    return (
        f"got pictures that the network was trained on ({100 * share:.0f} % of all such are here), expected others; on "
        "new ones it will do worse: give pictures that were held out, or made since",
    )


def _copies(pictures: PictureSet, prints: Sequence[str]) -> tuple[str, ...]:
    """Return the caution that some pictures, whose fingerprints are `prints`, are there more than once."""
    first: dict[str, int] = {}
    copies = [(i, original) for i, one in enumerate(prints) if (original := first.setdefault(one, i)) != i]
    copies = [pair for pair in copies if prints[pair[0]] != UNREADABLE]
    if not copies:
        return ()
    names, targets = pictures.names, pictures.targets
    other_label = [pair for pair in copies if targets is not None and targets[pair[0]] != targets[pair[1]]]
    copy, original = (other_label or copies)[0]
    labels = f", {len(other_label)} of them with another label" if other_label else ""
    return (
        f"got {len(copies)} copies of pictures that are here already{labels} ({shown(names[copy])} is "
        f"{shown(names[original])}), which count each time; remove the copies",
    )


def _found(source: Path, labels: Labels) -> Found:
    found = read_dataset(source, Reading(known=tuple(map(composed, labels)), unlabelled=True))
    if not any(len(split) for split in found.splits.values()):
        left_out = f" ({found.left_out} left out)" if found.left_out else ""
        raise DataError(f"{source}: got no picture in it{left_out}, expected {FORMS}; check the path")
    used: dict[Role, Split] = {role: split for role, split in found.splits.items() if len(split)}
    return dataclasses.replace(found, splits=used)


def _labelled(found: Found, split: Split, labels: Labels) -> PictureSet:
    """Return a split with the model's targets instead of those of the data."""
    targets = split.targets
    if targets is not None:
        index = {composed(label): i for i, label in enumerate(labels)}
        used = [found.labels[i] for i in np.unique(targets)]
        if unknown := [label for label in used if label not in index]:
            raise DataError(
                f"{found.source}: got {listed(map(repr, unknown))} for labels, expected the model's: "
                f"{listed(map(repr, labels))}; rename the folders, or put pictures without labels into one folder"
            )
        targets = np.array([index.get(label, -1) for label in found.labels], np.int64)[targets]
    return PictureSet(found.source, split.name, split.contents, targets, tuple(labels), found.left_out)
