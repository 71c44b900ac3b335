"""Pictures in memory, and the contract of how a picture becomes the network's input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from taijitu_runtime.card import InputSpec
from taijitu_training.checkpoint import plain_input
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


def evaluation_resize(size: tuple[int, int], recipe: Recipe) -> int:
    """Pixels that the shorter side is resized to before the centre crop to `size`, which has to lie within."""
    return round(max(size) / recipe.evaluation_crop)


def input_contract(size: tuple[int, int], recipe: Recipe) -> dict[str, Any]:
    """How a picture becomes the network's input: what checkpoints carry and every later artefact repeats."""
    return plain_input(input_spec(size, recipe))


def input_spec(size: tuple[int, int], recipe: Recipe) -> InputSpec:
    """The same contract as the runtime reads it."""
    return InputSpec(
        height=size[0],
        width=size[1],
        resize=recipe.resize,
        resize_size=min(size) if recipe.resize == "stretch" else evaluation_resize(size, recipe),
        interpolation=recipe.interpolation,
        mean=recipe.mean,
        std=recipe.std,
    )


def normalise(images: Tensor, recipe: Recipe) -> Tensor:
    """uint8 (N, H, W, 3) -> float32 (N, 3, H, W) with mean 0 and std 1 per channel, in channels_last memory."""
    mean = torch.tensor(recipe.mean, device=images.device) * 255.0
    std = torch.tensor(recipe.std, device=images.device) * 255.0
    return ((images.float() - mean) / std).permute(0, 3, 1, 2)
