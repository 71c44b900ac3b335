"""Crop at random in area and shape, and resize: the augmentation that needs the original picture every epoch."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from taijitu_runtime.datasets import Content, bytes_of
from taijitu_runtime.pictures.decoding.decode import Decoded, decode

NARROWEST, WIDEST = 3 / 4, 4 / 3  # width / height
_LOG_NARROWEST, _LOG_WIDEST = torch.tensor([NARROWEST, WIDEST]).log().tolist()  # in torchvision's precision


def random_box(width: int, height: int, smallest_area: float, generator: torch.Generator) -> tuple[int, int, int, int]:
    """Draw (left, top, right, bottom) in pixels: area uniform in [smallest_area, 1], log aspect in [log 3/4, log 4/3].

    Szegedy et al., Going deeper with convolutions (2015), section 6; the same box as torchvision's RandomResizedCrop
    from the same random numbers. After ten boxes that do not fit, the largest centred one that does.
    """

    def uniform(low: float, high: float) -> torch.Tensor:
        return torch.empty(1).uniform_(low, high, generator=generator)

    for _ in range(10):
        area = width * height * uniform(smallest_area, 1.0).item()
        aspect = uniform(_LOG_NARROWEST, _LOG_WIDEST).exp().item()
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            top = int(torch.randint(height - h + 1, (), generator=generator))
            left = int(torch.randint(width - w + 1, (), generator=generator))
            return left, top, left + w, top + h
    aspect = min(max(width / height, NARROWEST), WIDEST)
    w, h = min(width, round(height * aspect)), min(height, round(width / aspect))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def random_resized_crop(
    content: Content, size: tuple[int, int], smallest_area: float, generator: torch.Generator
) -> NDArray[np.uint8]:
    """Resize a `random_box` of the upright picture (bilinear, antialiased) to `size`: uint8 (H, W, 3) RGB.

    A JPEG is decoded at 1/2, 1/4 or 1/8 where the box stays larger than `size`: quicker, and nearly the same pixels.
    PictureError where the picture is damaged or refused.
    """
    drawn: list[tuple[int, int, int, int]] = []

    def draw(width: int, height: int) -> int:
        left, top, right, bottom = box = random_box(width, height, smallest_area, generator)
        drawn.append(box)
        return min((right - left) // size[1], (bottom - top) // size[0])

    picture = _decoded(content, draw)
    if not drawn:
        draw(picture.width, picture.height)
    box = _within(drawn[0], picture)
    if isinstance(picture.pixels, np.ndarray):
        cropped = Image.fromarray(picture.pixels[box[1] : box[3], box[0] : box[2]])
    else:
        cropped = picture.pixels.crop(box)
    return np.asarray(cropped.resize((size[1], size[0]), Image.Resampling.BILINEAR), dtype=np.uint8)


def _decoded(content: Content, draw: Callable[[int, int], int]) -> Decoded:
    if isinstance(content, np.ndarray):
        pixels = content if content.ndim == 3 else np.repeat(content[:, :, None], 3, axis=2)
        height, width = content.shape[:2]
        return Decoded(pixels, width, height, (0, 0, width, height))
    return decode(bytes_of(content), shrink_for=draw)


def _within(box: tuple[int, int, int, int], picture: Decoded) -> tuple[int, int, int, int]:
    """Return a box of the whole picture in the pixels that were decoded."""
    left, top, right, bottom = picture.extent
    x, y = (right - left) / picture.width, (bottom - top) / picture.height
    return round(left + box[0] * x), round(top + box[1] * y), round(left + box[2] * x), round(top + box[3] * y)
