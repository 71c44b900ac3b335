"""Pictures in memory, and the contract of how a picture becomes the network's input."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from taijitu_runtime.card import MAX_SIDE, InputSpec
from taijitu_runtime.errors import UsageError
from taijitu_training.checkpoint import plain_input
from taijitu_training.errors import CheckpointError
from taijitu_training.recipes.recipe import Recipe

_ARITHMETIC = {"colour": "RGB", "scale": 1 / 255}


@dataclass(frozen=True)
class Pictures:
    """One split in memory: `images` uint8 (N, H, W, 3) RGB after the evaluation transform, `targets` int64 (N,)."""

    images: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.targets)

    def subset(self, index: Tensor) -> Pictures:
        """Return the pictures at `index`, int64 (M,)."""
        return Pictures(self.images[index], self.targets[index])


def evaluation_resize(size: tuple[int, int], recipe: Recipe) -> int:
    """Return the pixels that the shorter side is resized to before the centre crop to `size`, which must fit in it."""
    return round(cropped_side(size, recipe.resize) / recipe.evaluation_crop)


def cropped_side(size: tuple[int, int], resize: str) -> int:
    """Return the side of `size` to compare with a resize of the shorter side: "stretch" keeps the shape of `size`."""
    return min(size) if resize == "stretch" else max(size)


def input_contract(size: tuple[int, int], recipe: Recipe) -> dict[str, Any]:
    """Return how a picture becomes the network's input, as checkpoints carry it and every later artefact repeats it."""
    return plain_input(input_spec(size, recipe))


def input_spec(size: tuple[int, int], recipe: Recipe) -> InputSpec:
    """Return the same contract in the runtime's form. UsageError where the recipe's crop is too small for `size`."""
    least = cropped_side(size, recipe.resize) / MAX_SIDE
    if recipe.evaluation_crop < least:
        raise UsageError(
            f"got evaluation_crop={recipe.evaluation_crop:g}, expected at least {least:.3g}: {size[0]}x{size[1]} "
            f"pixels of a picture whose shorter side has at most {MAX_SIDE}; set it larger"
        )
    return InputSpec(
        height=size[0],
        width=size[1],
        resize=recipe.resize,
        resize_size=evaluation_resize(size, recipe),
        interpolation=recipe.interpolation,
        mean=recipe.mean,
        std=recipe.std,
    )


def check_arithmetic(path: Path, contract: Mapping[str, Any]) -> None:
    """Raise CheckpointError unless the checkpoint's network at `path` takes the output of `normalise`: RGB / 255."""
    differing = {name: contract.get(name, usual) for name, usual in _ARITHMETIC.items()}
    if differing != _ARITHMETIC:
        got = " and ".join(f"{name} {value}" for name, value in differing.items())
        raise CheckpointError(
            f"{path}: got a network that takes {got}, expected {_ARITHMETIC['colour']} multiplied by 1/255, the "
            "input of training; adopt it as ONNX, or train one from the start"
        )


def normalise(images: Tensor, recipe: Recipe) -> Tensor:
    """Normalise uint8 (N, H, W, 3), or floats of that range, to mean 0 and std 1 per channel.

    float32 (N, 3, H, W) in channels_last memory.
    """
    mean = torch.tensor(recipe.mean, device=images.device) * 255.0
    std = torch.tensor(recipe.std, device=images.device) * 255.0
    return ((images.float() - mean) / std).permute(0, 3, 1, 2)
