"""TrivialAugment (Müller and Hutter 2021): one change of random kind and strength for each picture of a batch.

The changes, their strengths and their pixels are torchvision's TrivialAugmentWide; pictures with the same kind
of change are changed together.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as V

from taijitu_training.data.augmentation.colour import blend, change_contrast, change_saturation
from taijitu_training.data.augmentation.warp import moved, sheared, turned, warp

STEPS = 30  # of strength, from nothing to the maximum


class _Kind(NamedTuple):
    """`most`: the largest strength; `signed`: whether it may be negative; `change`: of uint8 (B, 3, H, W) by (B,)."""

    most: float
    signed: bool
    change: Callable[[Tensor, Tensor], Tensor]


def _warped(images: Tensor, matrices: Tensor) -> Tensor:
    return warp(images.float(), matrices, mode="nearest", padding="zeros").to(torch.uint8)


def _enhanced(change: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """Return a change of colours whose factor is 1 plus the strength."""

    def enhanced(images: Tensor, strength: Tensor) -> Tensor:
        return change(images.float(), (1.0 + strength).to(images.device)).to(torch.uint8)

    return enhanced


def _posterized(images: Tensor, strength: Tensor) -> Tensor:
    bits = 8 - strength.round().long()
    masks = (256 - 2 ** (8 - bits)).to(images.device, torch.uint8)
    return images & masks[:, None, None, None]


def _solarized(images: Tensor, strength: Tensor) -> Tensor:
    threshold = (255.0 - strength).to(images.device)[:, None, None, None]
    return torch.where(images >= threshold, 255 - images, images)


def _sheared(axis: int) -> Callable[[Tensor, Tensor], Tensor]:
    # From the upper left corner, not the centre, as in the paper.
    return lambda images, strength: _warped(images, sheared(strength, axis, -images.shape[2 + axis] / 2))


KINDS = {
    "Identity": _Kind(0.0, False, lambda images, strength: images),
    "ShearX": _Kind(0.99, True, _sheared(0)),
    "ShearY": _Kind(0.99, True, _sheared(1)),
    "TranslateX": _Kind(32.0, True, lambda images, strength: _warped(images, moved(strength.trunc(), 0))),
    "TranslateY": _Kind(32.0, True, lambda images, strength: _warped(images, moved(strength.trunc(), 1))),
    "Rotate": _Kind(135.0, True, lambda images, strength: _warped(images, turned(strength))),
    "Brightness": _Kind(0.99, True, _enhanced(lambda images, factor: blend(images, torch.zeros_like(images), factor))),
    "Color": _Kind(0.99, True, _enhanced(change_saturation)),
    "Contrast": _Kind(0.99, True, _enhanced(change_contrast)),
    "Sharpness": _Kind(
        0.99, True, _enhanced(lambda images, factor: blend(images, V.adjust_sharpness(images / 255, 0.0) * 255, factor))
    ),
    "Posterize": _Kind(6.0, False, _posterized),
    "Solarize": _Kind(255.0, False, _solarized),
    "AutoContrast": _Kind(0.0, False, lambda images, strength: V.autocontrast(images)),
    "Equalize": _Kind(0.0, False, lambda images, strength: V.equalize(images)),
}


def trivial_augment(images: Tensor, drawn: Tensor) -> Tensor:
    """Change each of `images`, uint8 (B, 3, H, W), once: a new tensor.

    `drawn`: float32 (3, B) on the CPU, uniform in [0, 1): kind, strength, sign.
    """
    which = (drawn[0] * len(KINDS)).long()
    level = (drawn[1] * (STEPS + 1)).long() / STEPS
    sign = torch.where(drawn[2] < 0.5, -1.0, 1.0)
    changed = images.clone()
    for number, kind in enumerate(KINDS.values()):
        index = (which == number).nonzero().flatten()
        if len(index):
            strength = kind.most * level[index] * (sign[index] if kind.signed else 1.0)
            mine = index.to(images.device)
            changed[mine] = kind.change(images[mine], strength)
    return changed
