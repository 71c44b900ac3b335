"""Batches of pictures that are decoded while the network trains."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import torch
from torch import Tensor

from taijitu_training.data.augmentation.augment import Draw, augment, draw, pad_reflecting
from taijitu_training.data.dataset import Stream
from taijitu_training.data.samples import Job
from taijitu_training.data.share import Share, Step, cut_for, generator_of
from taijitu_training.recipes.recipe import Recipe


class StreamBatches:
    """Batches of a `Stream`: decoded, and cropped if crop=resized, on the CPU; everything else is done on the device.

    A batch's random numbers come from its step, as in `MemoryBatches`, a random crop's from its place in the batch too.
    """

    def __init__(self, stream: Stream, recipe: Recipe, device: torch.device, share: Share) -> None:
        self.stream, self.recipe, self.device = stream, recipe, device
        self.cut = cut_for(stream.undecoded.in_an_epoch(share), recipe, share)

    def epoch(self, epoch: int, first_step: int) -> Iterator[Step]:
        """Yield the steps, see `Batches`.

        Those before `first_step` are not decoded. DataError names a broken picture.
        """
        decoded = self.stream.workers.decoded(self._jobs(epoch, first_step), self.device)
        for step in range(first_step, self.cut.steps):
            drawn = draw(self.cut.size(step), self.recipe, generator_of(self.recipe.seed, epoch, step))
            yield [self._augmented(*next(decoded), drawn.part(part)) for part in self.cut.parts(step)]

    def _jobs(self, epoch: int, first_step: int) -> Iterator[list[Job]]:
        seed = self.recipe.seed
        pictures = self.stream.undecoded.shuffled(self.recipe, epoch, first_step, self.cut)
        for step in range(first_step, self.cut.steps):
            for part in self.cut.parts(step):
                places = range(part.start, part.stop)
                yield [Job(*next(pictures), (seed, epoch, step, place)) for place in places]

    def _augmented(self, images: Tensor, targets: Tensor, drawn: Draw) -> tuple[Tensor, Tensor]:
        index = torch.arange(len(images), device=self.device)
        return augment(pad_reflecting(images, self.recipe.pad), index, drawn, self.recipe), targets


def stream_in_order(
    stream: Stream, device: torch.device, share: Share, batch_size: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield this process's share of `stream` after the evaluation transform: see `evaluation_batches`."""
    pictures = stream.undecoded.in_order(share)
    jobs = (Job(content, target) for content, target in pictures)
    return stream.workers.decoded(iter(lambda: list(islice(jobs, batch_size)), []), device)
