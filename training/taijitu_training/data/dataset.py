"""A data set that is ready to train on, in memory or streamed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from taijitu_runtime.datasets import Content, TrainedOn, role_of
from taijitu_training.data.pictures import Pictures
from taijitu_training.data.share import Cut, Share
from taijitu_training.data.workers import Workers


class Undecoded(Protocol):
    """Pictures as they lie on the disk: `Samples` has them in any order, `Shards` one shard after the other."""

    def __len__(self) -> int: ...

    def in_an_epoch(self, share: Share) -> int:
        """Pictures that all processes together read in an epoch."""

    def shuffled(self, seed: int, epoch: int, first_step: int, cut: Cut) -> Iterator[tuple[Content, int]]:
        """This process's pictures and targets of `epoch` from `first_step` on, batch by batch."""

    def in_order(self, share: Share) -> Iterator[tuple[Content, int]]:
        """This process's pictures and targets, each of all of them in exactly one process."""


@dataclass(frozen=True)
class Stream:
    """One split that is decoded anew in every epoch, by `workers`."""

    undecoded: Undecoded
    workers: Workers

    def __len__(self) -> int:
        return len(self.undecoded)


Source: TypeAlias = Pictures | Stream


@dataclass(frozen=True)
class Dataset:
    """Pictures to learn from, to judge every epoch by, and to measure the result with; all with the same labels.

    `evaluation_name` says which split the second are: without a split for validation the test pictures, and then
    `test` is None and nothing is chosen by them.
    """

    name: str
    sha256: str  # see dataset_sha256; empty for shards
    labels: tuple[str, ...]
    train: Source
    evaluation: Source
    evaluation_name: str
    size: tuple[int, int]  # (H, W)
    form: str  # as which of the forms it was read, and whether it lies in memory
    test: Source | None = None
    trained_on: TrainedOn | None = None  # None for shards
    left_out: str = ""  # which files are not used, in words
    unreadable: tuple[str, ...] = ()  # pictures that were left out, as asked for

    @property
    def chooses(self) -> bool:
        """Whether the best epoch may be chosen by the evaluation pictures."""
        return role_of(self.evaluation_name) != "test"

    @property
    def counts(self) -> str:
        """How many pictures each split has, in words."""
        test = "" if self.test is None else f", {len(self.test)} to measure the result with (test)"
        return f"{len(self.train)} to train, {len(self.evaluation)} to evaluate ({self.evaluation_name}){test}"
