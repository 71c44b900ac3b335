"""Load a data set from a path: its form, its consistency, and whether it is in memory or streamed."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
from collections import Counter

import numpy as np
import torch

from taijitu_runtime.console import shown
from taijitu_runtime.datasets import (
    Found,
    HeldOut,
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
from taijitu_training.data.augmentation.augment import padded_bytes
from taijitu_training.data.checks import check_judged, check_names, check_readable, check_trained
from taijitu_training.data.dataset import DataRequest, Dataset, Source, Stream
from taijitu_training.data.in_memory import Unreadable, checked, decode, is_first
from taijitu_training.data.pictures import Pictures
from taijitu_training.data.samples import Samples
from taijitu_training.data.shard_folder import dataset_of_shards, shards_by_split
from taijitu_training.data.workers import Workers
from taijitu_training.errors import DataError
from taijitu_training.recipes.recipe import Recipe

UNSPLIT_SHARE = 0.2
"""The held-out share of a data set without splits, unless the user sets another."""
EMPTY = hashlib.sha256().hexdigest()  # the fingerprint of every file without content: copies of nothing


def load_dataset(request: DataRequest) -> Dataset:
    """Load what is asked for; `Dataset.form` names the form of the data set.

    - A folder or tar of train/<label>/*, val/<label>/* and test/<label>/*, or of <label>/* alone with `validation`.
      A list of path,label[,split].
    - cifar-10-batches-py and -bin, cifar-100-python and -binary, MNIST's idx files: the folder, the folder above it,
      or the archive as it was downloaded.
    - A folder of WebDataset shards train-*.tar and val-*.tar (or test-*.tar).

    The network learns from train, is judged after every epoch on val, and measured once, at the end, on test. Without
    val it is judged on test, and nothing is chosen by that.

    Pictures are decoded into memory if the recipe crops padded ones and all of them, with the padded copies, take at
    most half of the free memory, except shards. The others are decoded while the network trains. DataError names what
    is missing, corrupt or does not match, before training starts; for streamed pictures, see `checked`; training
    pictures in a shard are not checked.
    """
    pool, unreadable = request.pool(), Unreadable(request.skip_unreadable)
    if splits := shards_by_split(request.path):
        return dataset_of_shards(request, splits, pool, unreadable)
    validation, other, recipe = request.validation, request.other, request.recipe
    needed: tuple[Role, ...] = ("train", "test", "") if validation else ("train", "val", "test", "")
    found = read_dataset(request.path, Reading(request.label_level, needed=needed))
    if other is not None:
        found = _with_other(found, other)
    check_names(found, other)
    parts = _Parts.of(found)
    check_trained(found, parts.samples)
    if validation is None and (request.choose or "test" not in parts.samples) and "val" not in parts.samples:
        validation = UNSPLIT_SHARE
    trained_on = TrainedOn.of(parts.prints["train"], other=other)
    repeated, contradicted = parts.repeated(), parts.contradicted()
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
        name=shown(request.path.absolute().name),
        sha256=parts.sha256,
        labels=found.labels,
        train=sources["train"],
        evaluation=sources[judging],
        evaluation_name=parts.names[judging],
        size=request.size,
        form=f"{found.form}, {'in memory' if in_memory else 'decoded while training'}",
        test=sources.get("test") if judging == "val" else None,
        trained_on=trained_on,
        label_counts=label_counts(labelled.numpy(), found.labels),
        others=len(targets["train"]) - len(labelled),
        left_out=found.left_out,
        unreadable=tuple(unreadable.listed),
        repeated=repeated,
        contradicted=contradicted,
        remarks=found.remarks,
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
        train = set(self.prints["train"]) - {EMPTY}
        others = [(self.names[role], prints) for role, prints in self.prints.items() if role != "train"]
        counts = {name: sum(map(train.__contains__, prints)) for name, prints in others}
        return {name: count for name, count in counts.items() if count}

    def contradicted(self) -> int:
        """Return the number of different pictures to train on that have more than one label."""
        pairs = set(zip(self.prints["train"], self.samples["train"].targets.tolist(), strict=True))
        counts = Counter(fingerprint for fingerprint, _ in pairs if fingerprint != EMPTY)
        return sum(count > 1 for count in counts.values())

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
    rooms = {role: padded_bytes(len(split), size, 0) for role, split in samples.items()}
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


def _with_other(found: Found, other: str) -> Found:
    """Return the data set with `other` as its last label. DataError where it is none of its labels."""
    if other not in found.labels:
        raise DataError(
            f"{found.source}: got --other {other}, expected a label of the data, of pictures that show none of the "
            f"others; {name_hint(other, found.labels)}"
        )
    return found.with_last(other)
