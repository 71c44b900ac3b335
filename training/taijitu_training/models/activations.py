"""The activation factory, and Nish.

Nish is Eq. 3 of its paper (README, references)::

    nish(x) = x                           for x >= 0
              sigmoid(x) * (x + sin(x))   for x <  0

Its derivative is 1 for x >= 0 and, with s = sigmoid(x), ``s (1 - s) (x + sin x) + s (1 + cos x)`` for x < 0 (the
paper's Eq. 4 misprints the s of the second term as x). Range [-0.4974, inf), minimum at x = -1.08287.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from taijitu_training.errors import UnknownNameError


def _value(x: Tensor) -> Tensor:
    n = _negative_part(x)
    return torch.where(x >= 0, x, torch.sigmoid(n) * (n + torch.sin(n)))


def _slope(x: Tensor) -> Tensor:
    n = _negative_part(x)
    s = torch.sigmoid(n)
    return torch.where(x >= 0, 1.0, s * (1 - s) * (n + torch.sin(n)) + s * (1 + torch.cos(n)))


def _negative_part(x: Tensor) -> Tensor:
    """min(x, 0), cut where sigmoid(x) rounds to 0 already: sin and sigmoid of -inf would make NaN of it."""
    return x.clamp(-746.0 if x.dtype == torch.float64 else -104.0, 0.0)


class _NishFunction(torch.autograd.Function):
    """Keeps only its input for the backward pass; float16 and bfloat16 are computed in float32 and rounded once."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        return _value(wide).to(x.dtype)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *grads: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors  # type: ignore[attr-defined]  # torch's stub lacks it
        wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        return (grads[0] * _slope(wide)).to(x.dtype)


def nish(x: Tensor) -> Tensor:
    """Nish of every element, Eq. 3: any shape and floating dtype, same shape and dtype back. NaN in, NaN out."""
    out: Tensor = _NishFunction.apply(x)
    return out


class Nish(nn.Module):
    """`nish` as a module."""

    def forward(self, x: Tensor) -> Tensor:
        return nish(x)


_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "mish": nn.Mish,
    "hardswish": nn.Hardswish,
    "nish": Nish,
}


def list_activations() -> list[str]:
    """Every name that `act` takes."""
    return sorted(_ACTIVATIONS)


def create_activation(name: str) -> nn.Module:
    """A new module for `name` (see `list_activations`); UnknownNameError with the close names for any other."""
    if name not in _ACTIVATIONS:
        raise UnknownNameError("activation", name, _ACTIVATIONS)
    return _ACTIVATIONS[name]()
