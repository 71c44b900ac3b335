"""A data set as it is asked for, and ready for training, in memory or streamed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from taijitu_runtime.datasets import Content, LeftOut, Level, TrainedOn, counts_in_words, role_of, warnings_of
from taijitu_runtime.datasets.budget import host_budget
from taijitu_training.data.pictures import Pictures
from taijitu_training.data.samples import Decoder
from taijitu_training.data.share import Cut, Share
from taijitu_training.data.workers import Workers, default_workers
from taijitu_training.recipes.recipe import Recipe


class Undecoded(Protocol):
    """Undecoded pictures: `Samples` has them in any order, `Shards` one shard after the other."""

    def __len__(self) -> int: ...

    def in_an_epoch(self, share: Share) -> int:
        """Return how many pictures all processes together read in an epoch."""

    def shuffled(self, recipe: Recipe, epoch: int, first_step: int, cut: Cut) -> Iterator[tuple[Content, int]]:
        """Yield this process's pictures and targets of `epoch` from `first_step` on, batch by batch."""

    def in_order(self, share: Share) -> Iterator[tuple[Content, int]]:
        """Yield this process's pictures and targets; each picture goes to exactly one process."""


@dataclass(frozen=True)
class Stream:
    """One split that is decoded again in every epoch, by `workers`."""

    undecoded: Undecoded
    workers: Workers

    def __len__(self) -> int:
        return len(self.undecoded)


Source: TypeAlias = Pictures | Stream


@dataclass(frozen=True)
class DataRequest:
    """The data set at `path` for networks of input `size` (H, W), as `recipe` draws and crops it.

    `validation` > 0 holds that share of each label's training pictures out, drawn by the recipe's seed, in place of
    val; None holds out a fifth of them if there is neither val nor test, or if there is no val and the caller has to
    `choose` an epoch. `workers`: processes that decode what does not fit in memory (None: as many as there are cores,
    up to 16; 0: this one). `label_level` decides which level of folders is the label if both are possible.
    `skip_unreadable` leaves out pictures that cannot be decoded; `Dataset.unreadable` lists them.

    `budget`: the bytes of memory that the pictures may take; None for what this process has. Several processes need one
    number: pictures in memory are divided among them in another way than shards that are streamed.

    `before`: a sample of the pictures that the weights to start from were trained on, which should not judge the run.

    `other`: the label whose pictures show none of the labels. It is not among `Dataset.labels`, its pictures to train
    on have the target K behind those of the K labels, and its others are not judged.
    """

    path: Path
    size: tuple[int, int]
    recipe: Recipe
    validation: float | None = None
    workers: int | None = None
    label_level: Level | None = None
    skip_unreadable: bool = False
    choose: bool = False
    other: str | None = None
    budget: int | None = None
    before: TrainedOn | None = None

    @property
    def room(self) -> int:
        """The bytes of memory that the pictures may take."""
        return host_budget() if self.budget is None else self.budget

    def pool(self) -> Workers:
        """Return the processes that decode."""
        count = default_workers() if self.workers is None else self.workers
        return Workers(Decoder.of(self.size, self.recipe), count)


@dataclass(frozen=True)
class Dataset:
    """Pictures to learn from, to judge every epoch by, and to measure the result with; all with the same labels.

    `evaluation_name` names the split of the second: without a split for validation it is the test pictures, and then
    `test` is None and nothing is chosen by them.
    """

    name: str
    sha256: str  # see dataset_sha256; empty for shards
    labels: tuple[str, ...]
    train: Source
    evaluation: Source
    evaluation_name: str
    size: tuple[int, int]  # (H, W)
    form: str  # the form that was recognised, and whether it is in memory
    test: Source | None = None
    trained_on: TrainedOn | None = None  # None for shards
    label_counts: Mapping[str, int] = field(default_factory=dict)  # of the pictures to train on; empty for shards
    others: int = 0  # pictures to train on that show none of the labels; their target is the number of labels
    left_out: LeftOut = field(default_factory=LeftOut)  # files that are not used
    unreadable: tuple[str, ...] = ()  # pictures that were left out on request
    repeated: Mapping[str, int] = field(default_factory=dict)  # pictures of other splits that train has too, by split
    test_in_val: int = 0  # pictures of test that val has too
    contradicted: int = 0  # pictures to train on that have more than one label
    seen_before: Mapping[str, float] = field(default_factory=dict)  # share of `before` in other splits, by split
    before: TrainedOn | None = None  # the request's
    is_balanced: bool = False  # whether the recipe counts each label alike
    remarks: tuple[str, ...] = ()  # what may have been read otherwise than it was meant

    @property
    def chooses(self) -> bool:
        """Whether the best epoch may be chosen by the evaluation pictures."""
        return role_of(self.evaluation_name) != "test"

    @property
    def counts(self) -> str:
        """The number of pictures of each split, in words."""
        test = "" if self.test is None else f", {len(self.test)} to measure the result with (test)"
        others = f" ({self.others} of them of none of the labels)" if self.others else ""
        return f"{len(self.train)} to train{others}, {len(self.evaluation)} to evaluate ({self.evaluation_name}){test}"

    @property
    def labels_in_words(self) -> str:
        """The labels with their numbers of training pictures, a long list shortened."""
        return counts_in_words(self.label_counts) if self.label_counts else f"{len(self.labels)} labels"

    @property
    def warnings(self) -> list[str]:
        """Warnings about the reading and the counts that may spoil the training."""
        found = [
            f"got {count} pictures of {name} among the training pictures too, so that its accuracy will be too high; "
            "remove them from one of the two"
            for name, count in self.repeated.items()
        ]
        if self.test_in_val:
            found.append(
                f"got {self.test_in_val} pictures of test in {self.evaluation_name} too, which chooses the best epoch: "
                "its accuracy on test will be too high; remove them from one of the two"
            )
        found += [self._of_seen_before(name, share) for name, share in self.seen_before.items()]
        if self.contradicted:
            found.append(
                f"got {self.contradicted} pictures to train on with more than one label each, of which at most one can "
                "be learned; keep each under one label"
            )
        balance = "add some of the rare ones" if self.is_balanced else "try --set class_weights=balanced"
        return [
            *self.remarks,
            *found,
            *warnings_of(self.label_counts, f"the rare ones may never be answered: {balance}"),
        ]

    def _of_seen_before(self, name: str, share: float) -> str:
        held = None if self.before is None else self.before.held_out
        is_drawn = self.trained_on is not None and self.trained_on.held_out is not None and role_of(name) != "test"
        same = f" those that they held out (--validation {held.share:g} --set seed={held.seed}), or" if held else ""
        return (
            f"got pictures of {name} that the weights to start from were trained on ({100 * share:.3g} % of all such "
            f"are there), so that its accuracy will be too high; judge by{same if is_drawn else ''} pictures that they "
            "were not trained on"
        )

    def to_card(self) -> dict[str, Any]:
        """Return the entries for a card's `training`, plain JSON; None where there is nothing to say."""
        return {
            "data": self.name,
            "data_sha256": self.sha256,
            "train_pictures": len(self.train),
            "label_counts": list(self.label_counts.values()),
            "evaluation": self.evaluation_name,
            "evaluation_pictures": len(self.evaluation),
            "test_pictures": None if self.test is None else len(self.test),
            "other_pictures": self.others or None,
            **({} if self.trained_on is None else self.trained_on.to_card()),
        }
