"""Augment whole batches on the training device; random numbers are drawn separately from the pictures."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from taijitu_runtime.errors import DataError
from taijitu_training.data.augmentation.colour import change_contrast, change_saturation, turn_hue
from taijitu_training.data.augmentation.trivial_augment import trivial_augment
from taijitu_training.data.augmentation.warp import turned, warp
from taijitu_training.data.pictures import normalise
from taijitu_training.recipes.recipe import Recipe

ERASED_AREA, ERASED_ASPECT = (0.02, 1 / 3), (0.3, 10 / 3)  # Random Erasing (Zhong et al. 2017) with the sizes of timm


@dataclass(frozen=True)
class Draw:
    """The random numbers of B pictures, on the CPU: the same ones for any device and process that uses them."""

    corner: Tensor  # int64 (2, B): top and left of the crop, 0 to 2 * pad
    mirrored: Tensor  # bool (B,)
    brightness: Tensor  # float32 (B,): factors
    upside_down: Tensor  # bool (B,)
    contrast: Tensor  # float32 (B,): factors
    saturation: Tensor  # float32 (B,): factors
    hue: Tensor  # float32 (B,): turns
    angle: Tensor  # float32 (B,): degrees
    trivial: Tensor  # float32 (3, B): as trivial_augment takes it
    erased: Tensor  # float32 (4, B): height, width, top, left of the erased rectangle, in shares; or height 0

    def part(self, where: slice) -> Draw:
        """Return the numbers of the pictures at `where`."""
        return Draw(**{field.name: getattr(self, field.name)[..., where] for field in fields(self)})


def draw(n: int, recipe: Recipe, generator: torch.Generator) -> Draw:
    """Draw random numbers for `n` pictures: always as many, so that one more augmentation does not change others."""

    def within(largest: float) -> Tensor:
        return largest * (2.0 * torch.rand(n, generator=generator) - 1.0)

    return Draw(
        corner=(torch.rand(2, n, generator=generator) * (2 * recipe.pad + 1)).long(),
        mirrored=torch.rand(n, generator=generator) < recipe.flip,
        brightness=1.0 + within(recipe.brightness),
        upside_down=torch.rand(n, generator=generator) < recipe.vertical_flip,
        contrast=1.0 + within(recipe.contrast),
        saturation=1.0 + within(recipe.saturation),
        hue=within(recipe.hue),
        angle=within(recipe.rotation),
        trivial=torch.rand(3, n, generator=generator),
        erased=_rectangles(recipe.erase, torch.rand(5, n, generator=generator)),
    )


def _rectangles(probability: float, drawn: Tensor) -> Tensor:
    area = ERASED_AREA[0] + (ERASED_AREA[1] - ERASED_AREA[0]) * drawn[1]
    low, high = map(math.log, ERASED_ASPECT)
    aspect = torch.exp(low + (high - low) * drawn[2])
    height, width = (area * aspect).sqrt().clamp_max(1.0), (area / aspect).sqrt().clamp_max(1.0)
    chosen = drawn[0] < probability
    return torch.stack((height * chosen, width, (1.0 - height) * drawn[3], (1.0 - width) * drawn[4]))


def pad_reflecting(images: Tensor, pad: int) -> Tensor:
    """Pad `images`, uint8 (N, H, W, 3), with `pad` pixels of reflection on every side.

    DataError where they are smaller.
    """
    if pad >= min(images.shape[1:3]):
        raise DataError(f"got pad={pad}, expected less than the pictures' {images.shape[1]}x{images.shape[2]} pixels")
    if pad == 0:
        return images
    rows, columns = (_reflected(side, pad, images.device) for side in images.shape[1:3])
    # One gather, since F.pad would need floats, four times the memory.
    return images[:, rows[:, None], columns]


def _reflected(side: int, pad: int, device: torch.device) -> Tensor:
    """Return the sources of a padded side's pixels, int64 (side + 2 * pad,): pad, ..., 1, 0, 1, ..., side - 2, ..."""
    distance = torch.arange(-pad, side + pad, device=device).abs()
    return torch.where(distance < side, distance, 2 * (side - 1) - distance)


def padded_bytes(n: int, size: tuple[int, int], pad: int) -> int:
    """Return the bytes of `n` pictures of `size` (H, W) while they are padded: the pictures, and their padded copy."""
    plain = n * size[0] * size[1] * 3
    return plain + n * (size[0] + 2 * pad) * (size[1] + 2 * pad) * 3 if pad else plain


def augment(padded: Tensor, index: Tensor, drawn: Draw, recipe: Recipe) -> Tensor:
    """Crop, mirror and change the pictures at `index`, int64 (B,), of `padded` (from `pad_reflecting`).

    Crop and mirrors are one gather. Normalised float32 (B, 3, H, W) in channels_last memory, on the device of `padded`.
    """
    device = padded.device
    height, width = (side - 2 * recipe.pad for side in padded.shape[1:3])
    top, left = drawn.corner.to(device)[:, :, None]
    rows = torch.arange(height, device=device).expand(len(index), -1)
    rows = torch.where(drawn.upside_down.to(device)[:, None], height - 1 - rows, rows) + top
    columns = torch.arange(width, device=device).expand(len(index), -1)
    columns = torch.where(drawn.mirrored.to(device)[:, None], width - 1 - columns, columns) + left
    pixels = padded[index[:, None, None], rows[:, :, None], columns[:, None, :]]
    if recipe.trivial_augment:
        pixels = trivial_augment(pixels.permute(0, 3, 1, 2), drawn.trivial).permute(0, 2, 3, 1)
    images = pixels.float()
    factor = drawn.brightness.to(device)[:, None, None, None]
    images = _changed((images * factor).clamp_(0.0, 255.0), drawn, recipe)
    return _erased(normalise(images, recipe), drawn) if recipe.erase else normalise(images, recipe)


def _changed(images: Tensor, drawn: Draw, recipe: Recipe) -> Tensor:
    """Turn the pictures and change their colours, where the recipe does; float32 (B, H, W, 3) in [0, 255]."""
    device, images = images.device, images.permute(0, 3, 1, 2)
    if recipe.rotation:
        images = warp(images, turned(drawn.angle))
    if recipe.contrast:
        images = change_contrast(images, drawn.contrast.to(device))
    if recipe.saturation:
        images = change_saturation(images, drawn.saturation.to(device))
    if recipe.hue:
        images = turn_hue(images, drawn.hue.to(device))
    return images.permute(0, 2, 3, 1)


def _erased(images: Tensor, drawn: Draw) -> Tensor:
    """Replace a rectangle of each picture by the mean; normalised float32 (B, 3, H, W), changed in place."""
    height, width, top, left = drawn.erased.to(images.device)[:, :, None]
    y, x = ((torch.arange(side, device=images.device) + 0.5) / side for side in images.shape[2:])
    inside = ((y >= top) & (y < top + height))[:, :, None] & ((x >= left) & (x < left + width))[:, None, :]
    return images.masked_fill_(inside[:, None], 0.0)
