"""Mix the pictures of a batch with each other: mixup (Zhang et al. 2017) and CutMix (Yun et al. 2019)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from taijitu_training.loop.loss import MixedTargets
from taijitu_training.recipes.recipe import Recipe


@dataclass(frozen=True)
class Mix:
    """The mixing of one step's pictures: `share` of each is its own.

    `corner`: for CutMix, the middle of the box from another picture, y and x in [0, 1]; None for mixup.
    """

    share: float
    corner: tuple[float, float] | None


def draw_mix(recipe: Recipe, *numbers: int) -> Mix | None:
    """Draw the recipe's mixing in the step of `numbers`, such as (seed, epoch, step); None if nothing is mixed.

    If the recipe has both, one of the two is drawn with equal probability.
    """
    if not recipe.mixup and not recipe.cutmix:
        return None
    generator = np.random.default_rng(numbers)
    cut = bool(recipe.cutmix) and (not recipe.mixup or generator.random() < 0.5)
    alpha = recipe.cutmix if cut else recipe.mixup
    share = float(generator.beta(alpha, alpha))
    return Mix(share, (float(generator.random()), float(generator.random())) if cut else None)


def mixed(images: Tensor, targets: Tensor, mix: Mix) -> tuple[Tensor, MixedTargets]:
    """Mix each of `images`, float32 (B, 3, H, W), with the one before it; return them with their targets.

    `targets`: int64 (B,).
    """
    partners = images.roll(1, 0)
    if mix.corner is None:
        return images.lerp(partners, 1.0 - mix.share), MixedTargets(targets, targets.roll(1), mix.share)
    (top, bottom), (left, right) = (
        _box(side, middle, mix.share) for side, middle in zip(images.shape[2:], mix.corner, strict=True)
    )
    cut = images.clone()
    cut[:, :, top:bottom, left:right] = partners[:, :, top:bottom, left:right]
    share = 1.0 - (bottom - top) * (right - left) / (images.shape[2] * images.shape[3])
    return cut, MixedTargets(targets, targets.roll(1), share)


def _box(side: int, middle: float, share: float) -> tuple[int, int]:
    """Return where a box begins and ends along a side, cut off at the picture's edge."""
    half, centre = 0.5 * side * (1.0 - share) ** 0.5, middle * side
    return max(0, round(centre - half)), min(side, round(centre + half))
