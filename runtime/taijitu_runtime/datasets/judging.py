"""Which pictures of a data set judge a model, and which calibrate it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from taijitu_runtime.datasets.fingerprints import fingerprints
from taijitu_runtime.datasets.found import Found, LeftOut, Split
from taijitu_runtime.datasets.held_out import TrainedOn
from taijitu_runtime.datasets.label_statistics import label_counts
from taijitu_runtime.datasets.layout import Reading
from taijitu_runtime.datasets.names import Role
from taijitu_runtime.datasets.picture_set import PictureSet
from taijitu_runtime.datasets.read import FORMS, read_dataset
from taijitu_runtime.errors import DataError, listed
from taijitu_runtime.labels import composed

Labels = Sequence[str]


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
    prints = tuple(fingerprints(judging.contents))
    judging = dataclasses.replace(judging, prints=prints)
    if trained_on is not None and role in ("", "train") and (held := _held_out(judging, labels, trained_on, prints)):
        part = _parted(judging, held, trained_on)[1]
        return dataclasses.replace(part, seen=_seen(trained_on.found_of_before(part.prints or ())))
    if role != "train":
        return dataclasses.replace(judging, seen="" if trained_on is None else _seen(trained_on.found_of_all(prints)))
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


def _seen(share: float) -> str:
    """Return the caution that `share` of the pictures that the network was trained on are here; empty for none."""
    if not share:
        return ""
    return (
        f"got pictures that the network was trained on ({100 * share:.0f} % of all such are here), expected others; on "
        "new ones it will do worse: give pictures that were held out, or made since"
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
