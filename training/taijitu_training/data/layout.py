"""Which picture belongs to which split and label, by the names of the folders that it lies in."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch

from taijitu_training.data.found import Found
from taijitu_training.data.mnist import digit_in_name
from taijitu_training.data.samples import Content, Samples
from taijitu_training.errors import DataError

TRAIN_SPLITS = ("train", "training")
EVALUATION_SPLITS = ("test", "testing", "val", "valid", "validation")
SPLITS = TRAIN_SPLITS + EVALUATION_SPLITS


class Entry(NamedTuple):
    """A picture, or a folder (which has no content), by the parts of its path within the data set."""

    parts: tuple[str, ...]
    content: Content | None


_Labelled = dict[str, list[Content]]  # by label; a label's empty folder has an empty list


def skipped(parts: tuple[str, ...], evaluation: bool) -> bool:
    """Whether a path is none of the data: hidden, or of an evaluation split where none is wanted."""
    in_label = len(parts) >= 3 and parts[-3] in EVALUATION_SPLITS
    return _hidden(parts) or (not evaluation and (in_label or is_loose(parts)))


def is_loose(parts: tuple[str, ...]) -> bool:
    """Whether a path lies in an evaluation split, but in no label of it; in train/ a label may have a split's name."""
    in_train = any(part in TRAIN_SPLITS for part in parts[:-2])
    return len(parts) >= 2 and parts[-2] in EVALUATION_SPLITS and not in_train and not _hidden(parts)


def _hidden(parts: tuple[str, ...]) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in parts)


def found_in(entries: Iterable[Entry], where: str, form: str) -> Found:
    """The splits and labels of `entries`, in the order of their paths. DataError where they lie as no form has them."""
    ordered = sorted(entries, key=lambda entry: entry.parts)
    splits: dict[str, _Labelled] = {}
    for entry in ordered:
        if place := _place(entry, where):
            contents = splits.setdefault(place[0], {}).setdefault(place[1], [])
            if entry.content is not None:
                contents.append(entry.content)
    if not splits:
        return _unsplit(ordered, where, form)
    train = next((splits[name] for name in TRAIN_SPLITS if name in splits), {})
    labels = tuple(sorted(train))
    name = next((name for name in EVALUATION_SPLITS if name in splits), None)
    if name is None:
        return Found(form, labels, _samples(train, labels), None)
    if unknown := sorted(splits[name].keys() - train.keys()):
        if not labels:
            raise DataError(f"{where}: got {name}/ without train/, expected both, with <label>/*.jpg in each")
        raise DataError(f"{where}: {name}/ has labels that train/ lacks: {', '.join(unknown[:5])}; name folders alike")
    return Found(form, labels, _samples(train, labels), _samples(splits[name], labels), name)


def _place(entry: Entry, where: str) -> tuple[str, str] | None:
    """(split, label), None outside of all splits; DataError for a picture that lies in a split but in no label."""
    parts, is_picture = entry.parts, entry.content is not None
    up = 3 if is_picture else 2
    # The folder test/train/ is no empty label called train, but a data set in a folder called test.
    if len(parts) >= up and parts[-up] in SPLITS and (is_picture or parts[-1] not in SPLITS):
        return parts[-up], parts[1 - up]
    if is_picture and any(part in SPLITS for part in parts[:-3]):
        raise DataError(f"{where}: got {'/'.join(parts)}, expected train/<label>/*; move it up to its label's folder")
    if is_picture and len(parts) >= 2 and parts[-2] in SPLITS:
        raise DataError(
            f"{where}: got {'/'.join(parts)} loose in {parts[-2]}/, expected {parts[-2]}/<label>/*; move each picture "
            "into its label's folder (for ImageNet's val with valprep.sh), or use --validation 0.1 in place of it"
        )
    return None


def _unsplit(ordered: list[Entry], where: str, form: str) -> Found:
    pictures = [(entry.parts, entry.content) for entry in ordered if entry.content is not None]
    if doubtful := [parts for parts, content in ordered if content is None and is_loose((*parts, ""))]:
        raise DataError(
            f"{where}: got {'/'.join(doubtful[0])}/ without train/, which may be a label or pictures to test with; "
            "put the labels into train/<label>/, or rename it"
        )
    form = f"{form} without splits"
    digits = [digit_in_name(parts[-1]) for parts, _ in pictures]
    train: _Labelled = {}
    if pictures and all(digits):
        for digit, (_, picture) in zip(digits, pictures, strict=True):
            train.setdefault(str(digit), []).append(picture)
        labels = tuple(sorted(train))
        return Found(f"{form}, labelled by file names", labels, _samples(train, labels), None)
    depths = sorted({len(parts) for parts, _ in pictures})
    if len(depths) > 1 or depths == [1]:
        first = next(parts for parts, _ in pictures if len(parts) == depths[0])
        raise DataError(
            f"{where}: got {'/'.join(first)}, expected every picture in train/<label>/ and test/<label>/, or all in "
            "<label>/ with --validation; move it into its label's folder"
        )
    for parts, content in ordered:
        if content is not None:
            train.setdefault(parts[-2], []).append(content)
        elif depths and len(parts) == depths[0] - 1:
            train.setdefault(parts[-1], [])
    labels = tuple(sorted(train))
    return Found(form, labels, _samples(train, labels), None)


def _samples(labelled: _Labelled, labels: tuple[str, ...]) -> Samples:
    contents = [content for label in labels for content in labelled.get(label, [])]
    targets = [target for target, label in enumerate(labels) for _ in labelled.get(label, [])]
    return Samples(contents, torch.tensor(targets, dtype=torch.int64))
