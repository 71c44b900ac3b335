"""Pictures in memory, and how a picture becomes one: the evaluation transform.

The evaluation transform is the reference that taijitu_runtime.pictures.preprocess is tested against.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from taijitu_training.errors import DataError
from taijitu_training.recipe import Recipe


@dataclass(frozen=True)
class Pictures:
    """One split in memory: `images` uint8 (N, H, W, 3) RGB after the evaluation transform, `targets` int64 (N,)."""

    images: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.targets)

    def subset(self, index: Tensor) -> Pictures:
        """The pictures at `index`, int64 (M,)."""
        return Pictures(self.images[index], self.targets[index])


def to_rgb(image: Image.Image) -> Image.Image:
    """Any Pillow image as 8-bit RGB, upright: EXIF applied, 16 bits scaled (not cut), alpha laid on black.

    DataError for float and 32-bit pixels, whose range nobody states.
    """
    image = ImageOps.exif_transpose(image)
    if image.mode == "F":
        raise DataError("got float pixels, expected 8 or 16 bits")
    if image.mode.startswith("I"):
        values = np.asarray(image, dtype=np.float64)
        if np.min(values) < 0 or np.max(values) > 65535:
            raise DataError("got 32-bit pixels, expected 8 or 16 bits")
        image = Image.fromarray(np.rint(values / 257.0).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or (image.mode == "P" and "transparency" in image.info):
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, (0, 0, 0, 255)), rgba)
    return image.convert("RGB")


def evaluation_transform(image: Image.Image, size: tuple[int, int], resize_size: int) -> NDArray[np.uint8]:
    """Shorter side to `resize_size` pixels (bilinear, antialiased), centre crop to `size`: uint8 (H, W, 3) RGB."""
    resized = TF.resize(to_rgb(image), [resize_size], antialias=True)
    return np.asarray(TF.center_crop(resized, list(size)), dtype=np.uint8)


def evaluation_resize(size: tuple[int, int], recipe: Recipe) -> int:
    """Pixels that the shorter side is resized to before the centre crop to `size`."""
    return round(min(size) / recipe.evaluation_crop)


def input_contract(size: tuple[int, int], recipe: Recipe) -> dict[str, Any]:
    """How a picture becomes the network's input: what checkpoints carry and every later artefact repeats."""
    return {
        "height": size[0],
        "width": size[1],
        "colour": "RGB",
        "resize": "shorter_side",
        "resize_size": evaluation_resize(size, recipe),
        "crop": "centre",
        "interpolation": "bilinear_antialias",
        "mean": list(recipe.mean),
        "std": list(recipe.std),
    }


def normalise(images: Tensor, recipe: Recipe) -> Tensor:
    """uint8 (N, H, W, 3) -> float32 (N, 3, H, W) with mean 0 and std 1 per channel, in channels_last memory."""
    mean = torch.tensor(recipe.mean, device=images.device) * 255.0
    std = torch.tensor(recipe.std, device=images.device) * 255.0
    return ((images.float() - mean) / std).permute(0, 3, 1, 2)
