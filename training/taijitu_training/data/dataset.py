"""A data set that is ready to train on, in memory or streamed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from taijitu_training.data.pictures import Pictures
from taijitu_training.data.samples import Content
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
    """Training and evaluation pictures with the same labels; `evaluation_name` says which split the latter are."""

    name: str
    sha256: str  # of the archive; of a folder fingerprint.folder_sha256 where that was worth its time, else empty
    labels: tuple[str, ...]
    train: Source
    evaluation: Source
    evaluation_name: str
    size: tuple[int, int]  # (H, W)
    form: str  # as which of the forms it was read, and whether it lies in memory
