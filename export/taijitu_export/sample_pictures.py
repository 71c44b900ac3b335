"""Generate pictures in place of photographs; without torch, which boards that build engines do not have."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SAMPLE_PICTURES = 64
"""How many are compared where the user gives no pictures."""


def sample_pictures(count: int, height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """Generate `count` random pictures with large shapes and fine grain, uint8 (count, height, width, 3).

    Their values are from all of 0 to 255.
    """
    from PIL import Image

    generator = np.random.default_rng(seed)
    coarse = generator.random((count, 3, 4, 4), dtype=np.float32)
    pictures = np.empty((count, height, width, 3), np.uint8)
    for picture, planes in zip(pictures, coarse):
        large = [Image.fromarray(plane).resize((width, height), Image.Resampling.BICUBIC) for plane in planes]
        grain = 0.1 * generator.standard_normal((height, width, 3), dtype=np.float32)
        pixels = (np.stack([np.asarray(plane) for plane in large], axis=-1) + grain) * 255.0
        picture[...] = np.rint(pixels).clip(0, 255)
    return pictures
