"""Undecoded pictures in any order, and the decoder that makes network input of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.utils.data
from numpy.typing import NDArray
from torch import Tensor

from taijitu_runtime.card import InputSpec
from taijitu_runtime.datasets import Content, Split, chosen, name_of, prepare
from taijitu_runtime.errors import PictureError
from taijitu_training.data.augmentation.crop import random_resized_crop
from taijitu_training.data.pictures import input_spec
from taijitu_training.data.share import Cut, Share, epoch_order, generator_of
from taijitu_training.recipes.recipe import Recipe


class Job(NamedTuple):
    """A picture to decode: at random as `drawn` seeds it, or by the evaluation transform if that is empty."""

    content: Content
    target: int
    drawn: tuple[int, ...] = ()


@dataclass(frozen=True)
class Samples:
    """Undecoded pictures and their targets, int64 (N,), from a folder, an archive or an array of pixels."""

    contents: Sequence[Content] | NDArray[np.uint8]
    targets: Tensor

    @classmethod
    def of(cls, split: Split) -> Samples:
        """Return the pictures of a split that has labels."""
        return cls(split.contents, torch.from_numpy(split.known_targets))

    def __len__(self) -> int:
        return len(self.targets)

    def subset(self, index: Tensor) -> Samples:
        """Return the pictures at `index`, int64 (M,)."""
        return Samples(chosen(self.contents, index.numpy()), self.targets[index])

    def in_an_epoch(self, share: Share) -> int:
        """Return the number of all of them."""
        return len(self)

    def shuffled(self, recipe: Recipe, epoch: int, first_step: int, cut: Cut) -> Iterator[tuple[Content, int]]:
        """Yield this process's pictures of `epoch` from `first_step` on, batch by batch."""
        order = epoch_order(self.targets, recipe, epoch)
        for step in range(first_step, cut.steps):
            batch = order[cut.where(step)]
            for part in cut.parts(step):
                yield from self._at(batch[part])

    def in_order(self, share: Share) -> Iterator[tuple[Content, int]]:
        """Yield this process's pictures; each picture goes to exactly one process."""
        return self._at(torch.arange(share.rank, len(self), share.processes))

    def _at(self, index: Tensor) -> Iterator[tuple[Content, int]]:
        for i, target in zip(index.tolist(), self.targets[index].tolist(), strict=True):
            yield self.contents[i], target


@dataclass(frozen=True)
class Decoder(torch.utils.data.Dataset[tuple["NDArray[np.uint8] | str", int]]):
    """The decoder into the network's input: like the runtime, or for training with a random crop if asked."""

    spec: InputSpec
    crop_area: float | None  # smallest share of the area that a random crop takes; None: no random crop

    @classmethod
    def of(cls, size: tuple[int, int], recipe: Recipe) -> Decoder:
        """Return the decoder for `recipe`."""
        return cls(input_spec(size, recipe), recipe.crop_area if recipe.crop == "resized" else None)

    @property
    def size(self) -> tuple[int, int]:
        """The (H, W) of the result."""
        return self.spec.height, self.spec.width

    def keeps(self, shape: tuple[int, ...]) -> bool:
        """Return whether pixels of `shape` are returned unchanged."""
        return shape == (*self.size, 3) and self.spec.resize_size == min(self.size)

    def __getitem__(self, job: Job) -> tuple[NDArray[np.uint8] | str, int]:
        """Return uint8 (H, W, 3) RGB and the target; for a broken file, its fault in place of the pixels."""
        try:
            if self.crop_area is not None and job.drawn:
                generator = generator_of(*job.drawn)
                return random_resized_crop(job.content, self.size, self.crop_area, generator), job.target
            return prepare(job.content, self.spec), job.target
        except PictureError as error:
            return fault(job.content, error), job.target


def fault(content: Content, error: PictureError) -> str:
    """Return the file's name and, in brackets, why it cannot be decoded."""
    return f"{name_of(content)} ({error.reason.partition(', expected')[0].removeprefix('got ')})"
