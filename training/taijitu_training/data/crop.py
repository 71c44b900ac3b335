"""A random crop of random area and shape, resized: the augmentation that needs the original picture every epoch."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import ExifTags, Image

from taijitu_training.data.pictures import to_rgb

NARROWEST, WIDEST = 3 / 4, 4 / 3  # width / height
_LOG_NARROWEST, _LOG_WIDEST = torch.tensor([NARROWEST, WIDEST]).log().tolist()  # in torchvision's precision


def random_box(width: int, height: int, smallest_area: float, generator: torch.Generator) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) in pixels: area even in [smallest_area, 1], log of the aspect in [log 3/4, log 4/3].

    Szegedy et al., Going deeper with convolutions (2015), section 6; the same box as torchvision's RandomResizedCrop
    from the same random numbers. Ten boxes that do not fit are followed by the largest centred one that does.
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
    image: Image.Image, size: tuple[int, int], smallest_area: float, generator: torch.Generator
) -> NDArray[np.uint8]:
    """A `random_box` of the upright `image`, resized (bilinear, antialiased) to `size`: uint8 (H, W, 3) RGB.

    A JPEG is decoded at 1/2, 1/4 or 1/8 where the box stays larger than `size`: quicker, and nearly the same pixels.
    """
    width, height = image.size
    if image.getexif().get(ExifTags.Base.Orientation, 1) >= 5:  # lies on its side
        width, height = height, width
    box = random_box(width, height, smallest_area, generator)
    shrink = min((box[2] - box[0]) // size[1], (box[3] - box[1]) // size[0])
    if shrink >= 2:
        image.draft(None, (image.width // shrink, image.height // shrink))
    upright = to_rgb(image)
    x, y = upright.width / width, upright.height / height
    drawn = upright.crop((round(box[0] * x), round(box[1] * y), round(box[2] * x), round(box[3] * y)))
    return np.asarray(drawn.resize((size[1], size[0]), Image.Resampling.BILINEAR), dtype=np.uint8)
