"""Make a data set of a folder's WebDataset shards: their numbers of samples, and the names of the labels."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import torch

from taijitu_runtime.console import Progress, shown
from taijitu_runtime.datasets import SPLIT_NAMES, Role, role_of
from taijitu_runtime.errors import DataError, listed
from taijitu_runtime.labels import read_labels
from taijitu_training.data.augmentation.augment import padded_bytes
from taijitu_training.data.checks import check_labels, check_readable
from taijitu_training.data.dataset import DataRequest, Dataset, Source, Stream
from taijitu_training.data.in_memory import Unreadable, decode
from taijitu_training.data.pictures import Pictures
from taijitu_training.data.samples import Samples
from taijitu_training.data.share import Share
from taijitu_training.data.webdataset_shards import Shards, headers_in, picture_of, target_of
from taijitu_training.data.workers import Workers
from taijitu_training.torchrun import is_first

LABEL_FILES = ("labels.txt", "classes.txt")  # one name per line, in the order of the numbers
INFO_FILE = "_info.json"  # timm's and Hugging Face's: {"splits": {NAME: {"filenames": [], "shard_lengths": []}}}
_NAMES = "|".join(name for names in SPLIT_NAMES.values() for name in names)
_SHARD = re.compile(rf"(?:.+[-_.])?({_NAMES})[-_.].*\.tar", re.IGNORECASE)


@dataclass(frozen=True)
class FoundShards:
    """The shards of a folder by split, with the labels of their targets."""

    form: str
    labels: tuple[str, ...]
    splits: dict[Role, Shards]


def shards_by_split(folder: Path) -> dict[Role, list[Path]]:
    """Return train-000.tar, val-000.tar and the like, also imagenet1k-train-000.tar, by split; {} if there are none.

    Also {} if there is a folder train/: archives next to it are copies of it.
    """
    splits: dict[Role, list[Path]] = {}
    with contextlib.suppress(OSError, ValueError):  # of a tar, and of a path that the reader of folders reports
        for name in sorted(os.listdir(folder)):
            path = folder / name
            if role_of(name) == "train" and path.is_dir():
                return {}
            if (match := _SHARD.fullmatch(name)) and path.is_file():
                splits.setdefault(role_of(match[1]), []).append(path)
    return splits


def dataset_of_shards(
    request: DataRequest, splits: dict[Role, list[Path]], pool: Workers, unreadable: Unreadable
) -> Dataset:
    """Return the data set of the shards in `splits`, from `shards_by_split`. DataError where they cannot be used."""
    path, recipe = request.path, request.recipe
    if request.validation:
        raise DataError(
            f"{path}: got --validation for WebDataset shards, expected none; rename some of train-*.tar to val-*.tar"
        )
    if request.other is not None:
        raise DataError(f"{path}: got --other for WebDataset shards, expected none; unpack them into folders")
    for name, value, usual in (("sampler", recipe.sampler, "all"), ("class_weights", recipe.class_weights, "none")):
        if value != usual:
            raise DataError(
                f"{path}: got {name}={value} for WebDataset shards, expected {usual}; unpack them into folders"
            )
    found = read_shards(path, splits)
    check_labels(path, found.labels)
    judging: Role = "val" if "val" in found.splits else "test"
    to_judge = {role: shards for role, shards in found.splits.items() if role != "train"}
    in_memory = padded_bytes(sum(map(len, to_judge.values())), request.size, 0) <= request.room
    judged: dict[Role, Source] = {
        role: _in_memory(shards, pool, unreadable) if in_memory else Stream(shards, pool)
        for role, shards in to_judge.items()
    }
    unreadable.check()
    if unreadable.listed:
        decoded = {role: split.targets.numpy() for role, split in judged.items() if isinstance(split, Pictures)}
        check_readable(path, found.labels, decoded)
    return Dataset(
        name=shown(path.absolute().name),
        sha256="",
        labels=found.labels,
        train=Stream(found.splits["train"], pool),
        evaluation=judged[judging],
        evaluation_name=judging,
        size=request.size,
        form=f"{found.form}, decoded while training",
        test=judged.get("test") if judging == "val" else None,
        unreadable=tuple(unreadable.listed),
    )


def _in_memory(shards: Shards, pool: Workers, unreadable: Unreadable) -> Pictures:
    contents, targets = zip(*shards.in_order(Share()), strict=True)
    return decode(Samples(contents, torch.tensor(targets)), pool.decoder, unreadable)


def read_shards(folder: Path, splits: dict[Role, list[Path]]) -> FoundShards:
    """Return labels and numbers of samples of the shards in `splits`.

    Samples are counted by reading every header of the tars, and every label with them; no picture is decoded. If
    _info.json states the numbers and labels.txt the names, only the first sample of each shard is read. DataError
    for a truncated shard, one that _info.json states and is not there, a sample without picture or label, and a label
    without samples.
    """
    roles: tuple[Role, ...] = ("train", "val", "test")
    there = [role for role in roles if role in splits]
    if "train" not in there or len(there) == 1:
        lacking = "train-*.tar" if "train" not in there else "val-*.tar or test-*.tar"
        raise DataError(f"{folder}: got WebDataset shards, but no {lacking}; add some, or rename some of the others")
    labels = _labels(folder)
    if labels and (stated := _stated_lengths(folder)):
        _require_every_shard(folder, splits, stated)
        found = {role: _stated(folder, splits[role], stated, len(labels)) for role in there}
        return FoundShards(f"WebDataset shards, counted by {INFO_FILE}", labels, found)
    found = {}
    for role in there:
        lengths, per_label = _counted(splits[role], len(labels) if labels else None)
        labels = labels or _numbers(folder, per_label)
        _require_every_label(folder, role, per_label, labels)
        found[role] = _shards(splits[role], lengths, len(labels))
    return FoundShards("WebDataset shards, counted by their headers", labels, found)


def _shards(paths: list[Path], lengths: list[int], classes: int) -> Shards:
    return Shards(tuple(map(str, paths)), tuple(lengths), classes)


def _labels(folder: Path) -> tuple[str, ...]:
    """Return the names in the folder's file of labels; () if there is none."""
    for name in LABEL_FILES:
        if (folder / name).is_file():
            return read_labels(folder / name)
    return ()


def _numbers(folder: Path, per_label: Counter[int]) -> tuple[str, ...]:
    """Return the labels that are called by their numbers. DataError for a number that leaves a gap in any case."""
    if (largest := max(per_label)) >= per_label.total():
        raise DataError(
            f"{folder}: got the label {largest} in shards of {per_label.total()} samples, expected numbers from 0 "
            "without gaps; number the labels so"
        )
    return tuple(map(str, range(largest + 1)))


def _stated_lengths(folder: Path) -> dict[str, int]:
    """Return the samples by the shard's file name; empty if there is no _info.json."""
    path = folder / INFO_FILE
    if not path.is_file():
        return {}
    try:
        splits = json.loads(path.read_text("utf-8"))["splits"].values()
        lengths = {
            name: int(length)
            for split in splits
            for name, length in zip(split["filenames"], split["shard_lengths"], strict=True)
        }
        if lengths and min(lengths.values()) < 1:
            raise ValueError(f"a shard of {min(lengths.values())} samples")
        return lengths
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path}: got {error!r}, expected splits with filenames and shard_lengths; correct it, or remove it to "
            "count the samples"
        ) from None


def _require_every_shard(folder: Path, splits: dict[Role, list[Path]], stated: dict[str, int]) -> None:
    """Raise DataError if a shard of one of `splits` is not there: the others would be taken for all of it."""
    there = {path.name for paths in splits.values() for path in paths}
    named = [(name, match) for name in stated if (match := _SHARD.fullmatch(name))]
    if missing := [name for name, match in named if role_of(match[1]) in splits and name not in there]:
        raise DataError(
            f"{folder}: got no {listed(missing, 3)}, which {INFO_FILE} has; fetch the rest, or remove {INFO_FILE} to "
            "train without"
        )


def _stated(folder: Path, paths: list[Path], lengths: dict[str, int], classes: int) -> Shards:
    for path in paths:
        if path.name not in lengths:
            raise DataError(f"{folder / INFO_FILE}: lacks {path.name}; add it, or remove the file to count the samples")
        for sample in headers_in(str(path)):
            picture_of(sample)
            target_of(sample, classes)
            break
    return _shards(paths, [lengths[path.name] for path in paths], classes)


def _counted(paths: list[Path], classes: int | None) -> tuple[list[int], Counter[int]]:
    """Count (samples of each shard, samples of each label)."""
    lengths, per_label = [], Counter[int]()
    with Progress(len(paths), "shards", what="counting", hidden=not is_first()) as bar:
        for path in paths:
            before = per_label.total()
            for sample in headers_in(str(path)):
                picture_of(sample)
                per_label[target_of(sample, classes)] += 1
            lengths.append(per_label.total() - before)
            if lengths[-1] == 0:
                raise DataError(f"{path}: got no samples, expected KEY.jpg with KEY.cls; remove it, or fetch it again")
            bar.advance()
    return lengths, per_label


def _require_every_label(folder: Path, split: str, per_label: Counter[int], labels: tuple[str, ...]) -> None:
    if missing := [label for number, label in enumerate(labels) if not per_label[number]]:
        raise DataError(
            f"{folder}: the {split} shards have no pictures of: {listed(missing)}; number the labels from 0 "
            "without gaps, and add pictures of each"
        )
