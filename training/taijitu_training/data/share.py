"""How a batch is shared between processes and accumulated parts, and where its random numbers come from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from taijitu_runtime.errors import TaijituError

Step = list[tuple[Tensor, Tensor]]  # this process's parts of one batch: normalised float32 (B, 3, H, W), int64 (B,)


@dataclass(frozen=True)
class Share:
    """Which parts of every batch are this process's: the batch is cut into processes * accumulate equal parts."""

    rank: int = 0
    processes: int = 1
    accumulate: int = 1  # parts that a process computes one after the other before a step

    def parts(self, batch_size: int) -> list[slice]:
        """Where this process's parts lie in a batch. TaijituError where it cannot be cut equally, or into single ones.

        Batch norm needs two pictures a part.
        """
        count = self.processes * self.accumulate
        if batch_size % count or batch_size // count < 2:
            raise TaijituError(
                f"got a batch of {batch_size} for {self.processes} processes x {self.accumulate} accumulated parts; "
                f"expected a multiple of {count}, at least {2 * count}: set --set batch_size=..."
            )
        size = batch_size // count
        first = self.rank * self.accumulate
        return [slice(i * size, (i + 1) * size) for i in range(first, first + self.accumulate)]


class Batches(Protocol):
    """Where the loop gets its pictures from."""

    steps: int  # whole batches in an epoch; what is left over is left out

    def epoch(self, epoch: int, first_step: int) -> Iterator[Step]:
        """Steps `first_step` to `steps` of `epoch` (from 0), shuffled and augmented by the recipe's seed alone."""


def fold(*numbers: int) -> int:
    """One seed from several numbers, such as (seed, epoch, step); neighbours in one number give unlike seeds."""
    folded = 0
    for number in numbers:
        folded = (folded * 6_364_136_223_846_793_005 + number + 1_442_695_040_888_963_407) % (2**63 - 25)
    return folded


def generator_of(*numbers: int) -> torch.Generator:
    """A generator on the CPU seeded with `fold(*numbers)`, so that a resumed run draws what it would have drawn."""
    return torch.Generator().manual_seed(fold(*numbers))
