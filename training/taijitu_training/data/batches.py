"""The batches of an epoch, the same whatever number of processes and accumulated parts share them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from taijitu_training.data.augment import augment, draw, pad_reflecting
from taijitu_training.data.pictures import Pictures
from taijitu_training.errors import DataError, TaijituError
from taijitu_training.recipe import Recipe

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


class MemoryBatches:
    """Batches of pictures that lie, padded, on the training device."""

    def __init__(self, pictures: Pictures, recipe: Recipe, device: torch.device, share: Share) -> None:
        self.recipe, self.device = recipe, device
        self.parts = share.parts(recipe.batch_size)
        self.steps = len(pictures) // recipe.batch_size
        if self.steps == 0:
            raise DataError(f"got {len(pictures)} training pictures, expected at least {recipe.batch_size}, one batch")
        self.padded = pad_reflecting(pictures.images.to(device), recipe.pad)
        self.targets = pictures.targets.to(device)

    def epoch(self, epoch: int, first_step: int) -> Iterator[Step]:
        """See `Batches`."""
        size = self.recipe.batch_size
        order = torch.randperm(len(self.targets), generator=generator_of(self.recipe.seed, epoch)).to(self.device)
        for step in range(first_step, self.steps):
            index = order[step * size : (step + 1) * size]
            drawn = draw(size, self.recipe, generator_of(self.recipe.seed, epoch, step))
            yield [
                (augment(self.padded, index[part], drawn.part(part), self.recipe), self.targets[index[part]])
                for part in self.parts
            ]


def fold(*numbers: int) -> int:
    """One seed from several numbers, such as (seed, epoch, step); neighbours in one number give unlike seeds."""
    folded = 0
    for number in numbers:
        folded = (folded * 6_364_136_223_846_793_005 + number + 1_442_695_040_888_963_407) % (2**63 - 25)
    return folded


def generator_of(*numbers: int) -> torch.Generator:
    """A generator on the CPU seeded with `fold(*numbers)`, so that a resumed run draws what it would have drawn."""
    return torch.Generator().manual_seed(fold(*numbers))


def evaluation_batches(
    pictures: Pictures, device: torch.device, share: Share, batch_size: int = 250
) -> Iterator[tuple[Tensor, Tensor]]:
    """This process's share of `pictures`, each in exactly one: uint8 (B, H, W, 3) and int64 (B,) on `device`."""
    mine = slice(share.rank, None, share.processes)
    split = pictures.images[mine].split(batch_size), pictures.targets[mine].split(batch_size)
    for images, targets in zip(*split, strict=True):
        yield images.to(device), targets.to(device)
