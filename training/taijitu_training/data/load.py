"""Load a data set from a path: its form, its consistency, and whether it is in memory or streamed."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import torch

from taijitu_runtime.datasets import (
    Found,
    HeldOut,
    Level,
    Reading,
    Role,
    TrainedOn,
    dataset_sha256,
    fingerprints,
    label_counts,
    read_dataset,
)
from taijitu_runtime.datasets.budget import host_budget
from taijitu_runtime.errors import name_hint
from taijitu_training.data.augment import padded_bytes
from taijitu_training.data.checks import check_judged, check_labels, check_names, check_readable, check_trained
from taijitu_training.data.dataset import Dataset, Source, Stream
from taijitu_training.data.in_memory import Unreadable, checked, decode, is_first
from taijitu_training.data.pictures import Pictures
from taijitu_training.data.samples import Decoder, Samples
from taijitu_training.data.shard_folder import read_shards, shards_by_split
from taijitu_training.data.share import Share
from taijitu_training.data.webdataset_shards import Shards
from taijitu_training.data.workers import Workers, default_workers
from taijitu_training.errors import DataError
from taijitu_training.recipes.recipe import Recipe

UNSPLIT_SHARE = 0.2
"""The held-out share of a data set without splits, unless the user sets another."""


def load_dataset(
    path: Path,
    size: tuple[int, int],
    recipe: Recipe,
    validation: float | None = None,
    workers: int | None = None,
    label_level: Level | None = None,
    skip_unreadable: bool = False,
    choose: bool = False,
    other: str | None = None,
) -> Dataset:
    """Load the data set at `path` for networks of input `size` (H, W); `Dataset.form` names its form.

    - A folder or tar of train/<label>/*, val/<label>/* and test/<label>/*, or of <label>/* alone with `validation`;
      `label_level` decides which level is the label if both are possible. A list of path,label[,split].
    - cifar-10-batches-py and -bin, cifar-100-python and -binary, MNIST's idx files: the folder, the folder above it,
      or the archive as it was downloaded.
    - A folder of WebDataset shards train-*.tar and val-*.tar (or test-*.tar).

    The network learns from train, is judged after every epoch on val, and measured once, at the end, on test. Without
    val it is judged on test, and nothing is chosen by that. `validation` > 0 holds that share of each label's training
    pictures out, drawn by the recipe's seed, in place of val; None holds out a fifth of them if there is neither,
    or if there is no val and the caller has to `choose` an epoch.

    Pictures are decoded into memory if the recipe crops padded ones and all of them, with the padded copies, take at
    most half of the free memory, except shards. The others are decoded while the network trains, in `workers` processes
    (None: as many as there are cores, up to 16; 0: in this one). DataError names what is missing, corrupt or does not
    match, before training starts; for streamed pictures, see `checked`; training pictures in a shard are not
    checked. `skip_unreadable` leaves out pictures that cannot be decoded; `Dataset.unreadable` lists them.

    `other`: the label whose pictures show none of the labels. It is not among `Dataset.labels`, its pictures to train
    on have the target K behind those of the K labels, and its others are not judged.
    """
    pool = Workers(Decoder.of(size, recipe), default_workers() if workers is None else workers)
    unreadable = Unreadable(skip_unreadable)
    if splits := shards_by_split(path):
        return _of_shards(path, splits, recipe, validation, other, pool, unreadable)
    needed: tuple[Role, ...] = ("train", "test", "") if validation else ("train", "val", "test", "")
    found = read_dataset(path, Reading(label_level, needed=needed))
    if other is not None:
        found = _with_other(found, other)
    check_names(found, other)
    parts = _Parts.of(found)
    check_trained(found, parts.samples)
    if validation is None and (choose or "test" not in parts.samples) and "val" not in parts.samples:
        validation = UNSPLIT_SHARE
    trained_on = TrainedOn.of(parts.prints["train"], other=other)
    repeated = parts.repeated()
    if validation:
        trained_on = parts.hold_out(found.labels, validation, recipe.seed, other)
    judging: Role = "val" if "val" in parts.samples else "test"
    if other is not None:
        found = dataclasses.replace(found, labels=found.labels[:-1])
        parts.judge_only(found.labels)
    check_judged(found, parts.samples, parts.names, judging)
    sources, in_memory = _sources(parts.samples, pool, recipe, unreadable)
    unreadable.check()
    targets = {role: _targets(source) for role, source in sources.items()}
    check_readable(found, targets)
    labelled = targets["train"][targets["train"] < len(found.labels)]
    return Dataset(
        name=path.absolute().name,
        sha256=parts.sha256,
        labels=found.labels,
        train=sources["train"],
        evaluation=sources[judging],
        evaluation_name=parts.names[judging],
        size=size,
        form=f"{found.form}, {'in memory' if in_memory else 'decoded while training'}",
        test=sources.get("test") if judging == "val" else None,
        trained_on=trained_on,
        label_counts=label_counts(labelled.numpy(), found.labels),
        others=len(targets["train"]) - len(labelled),
        left_out=found.left_out,
        unreadable=tuple(unreadable.listed),
        repeated=repeated,
    )


@dataclasses.dataclass
class _Parts:
    """The pictures of a data set while it is divided, by role: "train", "val" and "test".

    `prints`: the fingerprint of each picture. `names`: of each part, for users.
    """

    samples: dict[Role, Samples]
    prints: dict[Role, list[str]]
    names: dict[Role, str]
    sha256: str

    @classmethod
    def of(cls, found: Found) -> _Parts:
        """Take the splits as they are; all pictures are train where there are none."""
        samples = {role: Samples.of(split) for role, split in found.splits.items()}
        prints = {role: fingerprints(split.contents, hidden=not is_first()) for role, split in found.splits.items()}
        sha256 = dataset_sha256(found, prints)
        if "" in samples:
            samples["train"], prints["train"] = samples.pop(""), prints.pop("")
        return cls(samples, prints, {role: split.name for role, split in found.splits.items()}, sha256)

    def repeated(self) -> dict[str, int]:
        """Return the number of pictures that train has too, by the name of the part that they are in."""
        train = set(self.prints["train"])
        others = [(self.names[role], prints) for role, prints in self.prints.items() if role != "train"]
        counts = {name: sum(map(train.__contains__, prints)) for name, prints in others}
        return {name: count for name, count in counts.items() if count}

    def hold_out(self, labels: tuple[str, ...], share: float, seed: int, other: str | None) -> TrainedOn:
        """Move the same share of every label from train to val."""
        whole, prints = self.samples["train"], self.prints["train"]
        targets = whole.targets.numpy()
        held_out = HeldOut.draw(prints, targets, labels, share, seed)
        held = held_out.mask(prints, targets, labels)
        sides = (whole.subset(torch.from_numpy(np.flatnonzero(side))) for side in (~held, held))
        self.samples["train"], self.samples["val"] = sides
        self.names["val"] = f"validation ({share:g} of train)"
        return TrainedOn.of(list(itertools.compress(prints, ~held)), held_out, other)

    def judge_only(self, labels: tuple[str, ...]) -> None:
        """Remove pictures of other labels than these, the first ones of the data set's, from val and test."""
        for role in self.samples.keys() - {"train"}:
            samples = self.samples[role]
            self.samples[role] = samples.subset((samples.targets < len(labels)).nonzero().flatten())


def _sources(
    samples: dict[Role, Samples], pool: Workers, recipe: Recipe, unreadable: Unreadable
) -> tuple[dict[Role, Source], bool]:
    """Return each split in memory, or to be streamed; and whether the training split is in memory."""
    size, budget = pool.decoder.size, host_budget()
    rooms = {role: _pixels(len(split), size) for role, split in samples.items()}
    rooms["train"] = padded_bytes(len(samples["train"]), size, recipe.pad)
    in_memory = recipe.crop == "padded" and sum(rooms.values()) <= budget
    others_fit = in_memory or sum(room for role, room in rooms.items() if role != "train") <= budget

    def source(role: Role, split: Samples) -> Source:
        if in_memory if role == "train" else others_fit:
            return decode(split, pool.decoder, unreadable)
        return Stream(checked(split, pool.decoder, unreadable), pool)

    return {role: source(role, split) for role, split in samples.items()}, in_memory


def _targets(source: Source) -> torch.Tensor:
    """Return the labels of pictures that are not in shards, int64 (N,)."""
    split = source if isinstance(source, Pictures) else source.undecoded
    assert isinstance(split, (Pictures, Samples))
    return split.targets


def _of_shards(
    path: Path,
    splits: dict[Role, list[Path]],
    recipe: Recipe,
    validation: float | None,
    other: str | None,
    pool: Workers,
    unreadable: Unreadable,
) -> Dataset:
    if validation:
        raise DataError(
            f"{path}: got --validation for WebDataset shards, expected none; rename some of train-*.tar to val-*.tar"
        )
    if other is not None:
        raise DataError(f"{path}: got --other for WebDataset shards, expected none; unpack them into folders")
    for name, value, usual in (("sampler", recipe.sampler, "all"), ("class_weights", recipe.class_weights, "none")):
        if value != usual:
            raise DataError(
                f"{path}: got {name}={value} for WebDataset shards, expected {usual}; unpack them into folders"
            )
    found = read_shards(path, splits)
    check_labels(path, found.labels)
    evaluation: Source = Stream(found.evaluation, pool)
    if _pixels(len(found.evaluation), pool.decoder.size) <= host_budget():
        evaluation = decode(_samples(found.evaluation), pool.decoder, unreadable)
        unreadable.check()
    return Dataset(
        name=path.absolute().name,
        sha256="",
        labels=found.labels,
        train=Stream(found.train, pool),
        evaluation=evaluation,
        evaluation_name=found.evaluation_name,
        size=pool.decoder.size,
        form=f"{found.form}, decoded while training",
        unreadable=tuple(unreadable.listed),
    )


def _samples(shards: Shards) -> Samples:
    contents, targets = zip(*shards.in_order(Share()), strict=True)
    return Samples(contents, torch.tensor(targets))


def _pixels(count: int, size: tuple[int, int]) -> int:
    """Return the bytes of `count` decoded pictures."""
    return count * size[0] * size[1] * 3


def _with_other(found: Found, other: str) -> Found:
    """Return the data set with `other` as its last label. DataError where it is none of its labels."""
    if other not in found.labels:
        raise DataError(
            f"{found.source}: got --other {other}, expected a label of the data, of pictures that show none of the "
            f"others; {name_hint(other, found.labels)}"
        )
    return found.with_last(other)
