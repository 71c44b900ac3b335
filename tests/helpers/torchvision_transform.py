"""The transform to compare the runtime's pixels with: Pillow decodes, torchvision resizes and crops."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert a Pillow image to 8-bit RGB, upright: EXIF applied, 16 bits scaled (not cut), alpha composed on black."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        image = Image.fromarray(np.rint(np.asarray(image, dtype=np.float64) / 257.0).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or (image.mode == "P" and "transparency" in image.info):
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, (0, 0, 0, 255)), rgba)
    return image.convert("RGB")


def evaluation_transform(image: Image.Image, size: tuple[int, int], resize_size: int) -> NDArray[np.uint8]:
    """Resize the shorter side to `resize_size` (bilinear, antialiased), crop to `size`: uint8 (H, W, 3) RGB."""
    from torchvision.transforms.v2 import functional as transforms

    resized = transforms.resize(to_rgb(image), [resize_size], antialias=True)
    return np.asarray(transforms.center_crop(resized, list(size)), dtype=np.uint8)
