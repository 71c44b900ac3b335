"""Mixed precision: the 16-bit type that a device computes fast in."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from taijitu_training.recipes.recipe import Recipe


def mixed_dtype(device: str) -> torch.dtype:
    """Return the 16-bit type in which `device` computes fast; float32 on a CPU without one."""
    if device == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if native else torch.float32


def computed_in(device: str, recipe: Recipe) -> torch.dtype:
    """Return the type in which a run of `recipe` computes on `device`: `mixed_dtype` if the recipe asks for it."""
    return mixed_dtype(device) if recipe.mixed_precision else torch.float32


def name_of(dtype: torch.dtype) -> str:
    """Return the type's name, such as "bfloat16"."""
    return str(dtype).removeprefix("torch.")


def autocast(device: str, recipe: Recipe) -> AbstractContextManager[Any]:
    """Return a context that computes in the type of `computed_in`."""
    dtype = computed_in(device, recipe)
    return nullcontext() if dtype == torch.float32 else torch.autocast(device, dtype)
