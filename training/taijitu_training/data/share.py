"""Share a batch between processes and accumulated parts, and seed its random numbers."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from taijitu_runtime.errors import DataError, UsageError
from taijitu_training.recipes.recipe import Recipe

Step = list[tuple[Tensor, Tensor]]  # this process's parts of one batch: normalised float32 (B, 3, H, W), int64 (B,)


@dataclass(frozen=True)
class Share:
    """The parts of every batch that are this process's: a batch is cut into processes * accumulate equal parts."""

    rank: int = 0
    processes: int = 1
    accumulate: int = 1  # parts that a process computes one after the other before a step

    @property
    def parts(self) -> int:
        """The number of parts of every batch, in all processes together."""
        return self.processes * self.accumulate

    @property
    def least(self) -> int:
        """The smallest batch that can be cut: batch norm needs two pictures per part."""
        return 2 * self.parts

    def check(self, batch_size: int) -> None:
        """Raise UsageError where a batch cannot be cut into equal parts of at least two pictures."""
        if batch_size % self.parts or batch_size < self.least:
            raise UsageError(
                f"got a batch of {batch_size} for {self.processes} processes x {self.accumulate} accumulated parts; "
                f"expected a multiple of {self.parts}, at least {self.least}: set --set batch_size=..."
            )


@dataclass(frozen=True)
class Cut:
    """The division of an epoch of `pictures` into batches, and of each batch into parts.

    The last batch holds the remainder, if `train_last`. A remainder too small to give every part two pictures, which
    batch norm needs, is added to the batch before it; fewer pictures than one batch are one batch.
    """

    pictures: int
    batch_size: int
    share: Share
    train_last: bool = True

    @property
    def steps(self) -> int:
        """The number of batches in an epoch; 0 if the pictures are fewer than one."""
        whole, rest = divmod(self.pictures, self.batch_size)
        return whole + (self.train_last and rest >= self.share.least)

    @property
    def used(self) -> int:
        """The number of pictures in an epoch."""
        return sum(map(self.size, range(self.steps)))

    def size(self, step: int) -> int:
        """Return the number of pictures in the batch of `step`, over all processes."""
        if not self.train_last or step < self.steps - 1:
            return self.batch_size
        return self.pictures - step * self.batch_size

    def where(self, step: int) -> slice:
        """Return the position of the batch of `step` in the epoch."""
        return slice(step * self.batch_size, step * self.batch_size + self.size(step))

    def parts(self, step: int) -> list[slice]:
        """Return the positions of this process's parts in the batch of `step`: equal, in the last batch nearly so."""
        first = self.share.rank * self.share.accumulate
        # The ends depend only on the number of parts: 2 processes x 3 parts compute the same as 1 process x 6 parts.
        ends = [self.size(step) * i // self.share.parts for i in range(first, first + self.share.accumulate + 1)]
        return [slice(start, stop) for start, stop in itertools.pairwise(ends)]


def cut_for(pictures: int, recipe: Recipe, share: Share) -> Cut:
    """Divide an epoch of `pictures` as `recipe` says. DataError if they are less than one batch.

    A batch that is larger than the data set shrinks to it, unless the recipe drops incomplete batches.
    """
    share.check(recipe.batch_size)
    cut = Cut(pictures, recipe.batch_size, share, recipe.last_batch == "train")
    if cut.steps == 0:
        least = share.least if cut.train_last else recipe.batch_size
        raise DataError(f"got {pictures} training pictures, expected at least {least}, one batch; add some")
    return cut


class Batches(Protocol):
    """The source of the loop's pictures."""

    cut: Cut

    def epoch(self, epoch: int, first_step: int) -> Iterator[Step]:
        """Yield steps `first_step` to `cut.steps` of `epoch` (from 0), shuffled and augmented by the recipe's seed."""


def epoch_order(targets: Tensor, recipe: Recipe, epoch: int) -> Tensor:
    """Return the pictures of `epoch` in their order: int64 (N,), indices of `targets`, int64 (N,).

    All of them once, or with the balanced sampler equally many of each label: those of a rare one several times, each
    as often as the others of its label, within one.
    """
    generator = generator_of(recipe.seed, epoch)
    order = torch.randperm(len(targets), generator=generator)
    if recipe.sampler == "all":
        return order
    members = [order[targets[order] == label] for label in targets.unique()]
    extra = set(torch.randperm(len(members), generator=generator)[: len(targets) % len(members)].tolist())
    drawn = [_repeated(mine, len(targets) // len(members) + (i in extra)) for i, mine in enumerate(members)]
    return torch.cat(drawn)[torch.randperm(len(targets), generator=generator)]


def _repeated(members: Tensor, count: int) -> Tensor:
    """Return `count` of `members`, from the beginning again if they are fewer."""
    return members.repeat(-(-count // len(members)))[:count]


def combine_seeds(*numbers: int) -> int:
    """Make one seed from several numbers, such as (seed, epoch, step); neighbouring numbers give unlike seeds."""
    folded = 0
    for number in numbers:
        folded = (folded * 6_364_136_223_846_793_005 + number + 1_442_695_040_888_963_407) % (2**63 - 25)
    return folded


def generator_of(*numbers: int) -> torch.Generator:
    """Return a generator on the CPU seeded with `combine_seeds(*numbers)`, so that a resumed run draws the same."""
    return torch.Generator().manual_seed(combine_seeds(*numbers))
