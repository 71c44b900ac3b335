"""Augmentation of whole batches on the training device, its random numbers drawn apart from the pictures."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from taijitu_training.data.pictures import normalise
from taijitu_training.errors import DataError
from taijitu_training.recipe import Recipe


@dataclass(frozen=True)
class Draw:
    """The random numbers of B pictures, on the CPU: the same ones whichever device or process uses which of them."""

    corner: Tensor  # int64 (2, B): top and left of the crop, 0 to 2 * pad
    mirrored: Tensor  # bool (B,)
    brightness: Tensor  # float32 (B,): factors
    upside_down: Tensor  # bool (B,)

    def part(self, where: slice) -> Draw:
        """The numbers of the pictures at `where`."""
        return Draw(self.corner[:, where], self.mirrored[where], self.brightness[where], self.upside_down[where])


def draw(n: int, recipe: Recipe, generator: torch.Generator) -> Draw:
    """The random numbers for `n` pictures."""
    corner = (torch.rand(2, n, generator=generator) * (2 * recipe.pad + 1)).long()
    mirrored = torch.rand(n, generator=generator) < recipe.flip
    brightness = 1.0 + recipe.brightness * (2.0 * torch.rand(n, generator=generator) - 1.0)
    upside_down = torch.rand(n, generator=generator) < recipe.vertical_flip
    return Draw(corner, mirrored, brightness, upside_down)


def pad_reflecting(images: Tensor, pad: int) -> Tensor:
    """`images`, uint8 (N, H, W, 3), with `pad` pixels of reflection on every side. DataError where they are smaller."""
    if pad >= min(images.shape[1:3]):
        raise DataError(f"got pad={pad}, expected less than the pictures' {images.shape[1]}x{images.shape[2]} pixels")
    if pad == 0:
        return images
    rows, columns = (_reflected(side, pad, images.device) for side in images.shape[1:3])
    # One gather, as F.pad would want floats, four times the memory.
    return images[:, rows[:, None], columns]


def _reflected(side: int, pad: int, device: torch.device) -> Tensor:
    """Where the pixels of a padded side come from, int64 (side + 2 * pad,): pad, ..., 1, 0, 1, ..., side - 2, ..."""
    distance = torch.arange(-pad, side + pad, device=device).abs()
    return torch.where(distance < side, distance, 2 * (side - 1) - distance)


def padded_bytes(n: int, size: tuple[int, int], pad: int) -> int:
    """What `n` pictures of `size` (H, W) take at most while they are padded: themselves, and their padded copy."""
    plain = n * size[0] * size[1] * 3
    return plain + n * (size[0] + 2 * pad) * (size[1] + 2 * pad) * 3 if pad else plain


def augment(padded: Tensor, index: Tensor, drawn: Draw, recipe: Recipe) -> Tensor:
    """The pictures at `index`, int64 (B,), of `padded` (from `pad_reflecting`), cropped, mirrored and brightened.

    Crop and mirrors are one gather. Normalised float32 (B, 3, H, W) in channels_last memory, on the device of `padded`.
    """
    device = padded.device
    height, width = (side - 2 * recipe.pad for side in padded.shape[1:3])
    top, left = drawn.corner.to(device)[:, :, None]
    rows = torch.arange(height, device=device).expand(len(index), -1)
    rows = torch.where(drawn.upside_down.to(device)[:, None], height - 1 - rows, rows) + top
    columns = torch.arange(width, device=device).expand(len(index), -1)
    columns = torch.where(drawn.mirrored.to(device)[:, None], width - 1 - columns, columns) + left
    images = padded[index[:, None, None], rows[:, :, None], columns[:, None, :]].float()
    factor = drawn.brightness.to(device)[:, None, None, None]
    return normalise((images * factor).clamp_(0.0, 255.0), recipe)
