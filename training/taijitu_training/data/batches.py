"""Make the batches of an epoch, the same for any number of processes and accumulated parts."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from taijitu_runtime.errors import DataError
from taijitu_training.data.augmentation.augment import augment, draw, pad_reflecting, padded_bytes
from taijitu_training.data.budget import fits_device
from taijitu_training.data.dataset import Source
from taijitu_training.data.pictures import Pictures
from taijitu_training.data.share import Batches, Share, Step, cut_for, epoch_order, generator_of
from taijitu_training.data.stream import StreamBatches, stream_in_order
from taijitu_training.recipes.recipe import Recipe


def batches(source: Source, recipe: Recipe, device: torch.device, share: Share) -> Batches:
    """Return the training batches of `source`, which was loaded for `recipe`.

    DataError where it is less than one batch.
    """
    if isinstance(source, Pictures):
        return MemoryBatches(source, recipe, device, share)
    return StreamBatches(source, recipe, device, share)


class MemoryBatches:
    """Batches of padded pictures on the training device, or on the host if they do not fit there."""

    def __init__(self, pictures: Pictures, recipe: Recipe, device: torch.device, share: Share) -> None:
        if recipe.crop == "resized":
            raise DataError("got pictures already resized, expected undecoded ones for crop=resized; load them for it")
        self.recipe, self.device = recipe, device
        self.cut = cut_for(len(pictures), recipe, share)
        height, width = pictures.images.shape[1:3]
        needed = padded_bytes(len(pictures), (height, width), recipe.pad)
        home = device if fits_device(needed, device) else torch.device("cpu")
        self.padded = pad_reflecting(pictures.images.to(home), recipe.pad)
        self.targets = pictures.targets.to(device)

    def epoch(self, epoch: int, first_step: int) -> Iterator[Step]:
        """See `Batches`."""
        order = epoch_order(self.targets.cpu(), self.recipe, epoch).to(self.device)
        for step in range(first_step, self.cut.steps):
            index = order[self.cut.where(step)]
            drawn = draw(len(index), self.recipe, generator_of(self.recipe.seed, epoch, step))
            yield [
                (augment(*self._padded_at(index[part]), drawn.part(part), self.recipe), self.targets[index[part]])
                for part in self.cut.parts(step)
            ]

    def _padded_at(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Return padded pictures on the training device, and the positions among them of those at `index`."""
        if self.padded.device.type == self.device.type:
            return self.padded, index
        chosen = self.padded[index.to(self.padded.device)].to(self.device)
        return chosen, torch.arange(len(index), device=self.device)


def evaluation_batches(
    source: Source, device: torch.device, share: Share, batch_size: int = 250
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield this process's share of `source`, each picture once: uint8 (B, H, W, 3) and int64 (B,) on `device`."""
    if not isinstance(source, Pictures):
        yield from stream_in_order(source, device, share, batch_size)
        return
    mine = slice(share.rank, None, share.processes)
    if share.rank >= len(source):  # an empty batch, which torch would split off, is an error in many networks
        return
    split = source.images[mine].split(batch_size), source.targets[mine].split(batch_size)
    for images, targets in zip(*split, strict=True):
        yield images.to(device), targets.to(device)
