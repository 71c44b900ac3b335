"""WebDataset: pictures in shards, tars of KEY.jpg and KEY.cls next to each other, read from beginning to end.

https://github.com/webdataset/webdataset
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from taijitu_runtime.datasets import Content, Encoded
from taijitu_runtime.datasets.archive import members
from taijitu_runtime.datasets.names import PICTURE_SUFFIXES
from taijitu_runtime.errors import DataError, one_line
from taijitu_training.data.share import Cut, Share, generator_of
from taijitu_training.recipes.recipe import Recipe

_USUAL = ("jpg", "jpeg", "png", "webp")  # first, where a sample has several
PICTURES = (*_USUAL, *sorted({suffix.removeprefix(".") for suffix in PICTURE_SUFFIXES} - {*_USUAL}))
SHUFFLED = 2000  # samples that a process holds, undecoded, to draw the next one from


@dataclass(frozen=True)
class Shards:
    """The shards of one split, and how many samples each holds; a target is below `classes`."""

    paths: tuple[str, ...]
    lengths: tuple[int, ...]
    classes: int

    def __len__(self) -> int:
        return sum(self.lengths)

    def in_an_epoch(self, share: Share) -> int:
        """Return how many samples all processes together read in an epoch: each as many as the smallest shards hold.

        Each process reads len(paths) // processes shards per epoch, different ones every time; the others are left out.
        So no sample is left out if shards are of one size and their number is a multiple of the processes. DataError
        if there are fewer shards than processes.
        """
        each = len(self.paths) // share.processes
        if each == 0:
            raise DataError(
                f"got {len(self.paths)} training shards for {share.processes} processes, expected at least one for "
                "each; write smaller shards, or train with fewer processes"
            )
        return sum(sorted(self.lengths)[:each]) * share.processes

    def shuffled(self, recipe: Recipe, epoch: int, first_step: int, cut: Cut) -> Iterator[tuple[Content, int]]:
        """Yield this process's samples of `epoch` from `first_step` on: shards in random order, then through a buffer.

        The order depends on the number of processes. Skipped samples are read, but not decoded.
        """
        import webdataset

        share, seed = cut.share, recipe.seed
        order = torch.randperm(len(self.paths), generator=generator_of(seed, epoch)).tolist()
        each = len(self.paths) // share.processes
        mine = [self.paths[i] for i in order[share.rank :: share.processes][:each]]
        shuffle = webdataset.shuffle(SHUFFLED, initial=SHUFFLED, rng=random.Random(f"{seed} {epoch} {share.rank}"))
        yield from islice(shuffle(self._read(mine)), first_step * cut.batch_size // share.processes, None)
        raise DataError(f"{mine[-1]}: got fewer samples than _info.json says; correct it, or remove it to count again")

    def in_order(self, share: Share) -> Iterator[tuple[Content, int]]:
        """Yield the samples of this process's shards, each shard in exactly one process."""
        return self._read(self.paths[share.rank :: share.processes])

    def _read(self, paths: Sequence[str]) -> Iterator[tuple[Content, int]]:
        for path in paths:
            for sample in samples_in(path):
                name, suffix = picture_of(sample)
                yield Encoded(f"{path}: {name}", sample[suffix]), target_of(sample, self.classes)


def samples_in(path: str) -> Iterator[dict[str, Any]]:
    """Yield the samples of a shard as webdataset groups them: "__key__", "__url__" and the bytes of each suffix."""
    return _grouped(path, lambda name: True)


def headers_in(path: str) -> Iterator[dict[str, Any]]:
    """Yield the same as `samples_in`, but empty bytes in place of pictures, which are not read."""
    return _grouped(path, lambda name: name.lower().endswith((".cls", ".json")))


def _grouped(path: str, is_read: Callable[[str], bool]) -> Iterator[dict[str, Any]]:
    """Group files into samples. DataError if the shard is not a complete tar."""
    from webdataset.tariterators import group_by_keys

    def files() -> Iterator[dict[str, Any]]:
        # Without webdataset, which takes a path for a URL, and a damaged header for the end.
        for member, read in members(Path(path)):
            if member.isfile():
                data = read() if is_read(member.name) else b""
                yield {"fname": member.name, "data": data, "__url__": path}

    try:
        yield from group_by_keys(files())
    except ValueError as error:  # two files of one name
        raise DataError(f"{path}: got {one_line(error)}; write the shard again") from None


def picture_of(sample: dict[str, Any]) -> tuple[str, str]:
    """Return (file name, suffix) of a sample's picture; DataError if it does not have one."""
    for suffix in PICTURES:
        if suffix in sample:
            return f"{sample['__key__']}.{suffix}", suffix
    has = ", ".join(key for key in sample if not key.startswith("__"))
    raise DataError(
        f"{sample['__url__']}: sample {sample['__key__']} has no picture ({has}), expected one of "
        f"{', '.join(PICTURES)} next to its cls, under the same name; write the shard again"
    )


def target_of(sample: dict[str, Any], classes: int | None) -> int:
    """Return a sample's label: the number in its .cls, or "label" of its .json. DataError unless in [0, `classes`)."""
    try:
        got = sample["cls"] if "cls" in sample else json.loads(sample["json"])["label"]
        target = int(got)
        if isinstance(got, float) and got != target:
            raise ValueError(f"label {got}")
        if target < 0 or (classes is not None and target >= classes):
            raise ValueError(f"label {target}")
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        expected = "from 0" if classes is None else f"0 to {classes - 1}"
        reason = f"no {error}" if isinstance(error, KeyError) else one_line(error)
        raise DataError(
            f"{sample['__url__']}: sample {sample['__key__']}: got {reason}, expected a number {expected} in KEY.cls "
            'or as "label" in KEY.json; write the shard again'
        ) from None
    return target
