"""Nish: Eq. 3 of its paper (README, references)::

    nish(x) = x                           for x >= 0
              sigmoid(x) * (x + sin(x))   for x <  0

Its derivative is 1 for x >= 0 and, with s = sigmoid(x), ``s (1 - s) (x + sin x) + s (1 + cos x)`` for x < 0 (the
paper's Eq. 4 misprints the s of the second term as x). Range [-0.4974, inf), minimum at x = -1.08287.

Written in torch's operators a training step of Nish takes ten passes over memory and more. So where one is under way on
a CPU, torch.compile makes one pass of each direction; where it cannot, for lack of a C++ compiler, the operators stay.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable

import torch
from torch import Tensor, nn

_log = logging.getLogger(__name__)

# From here on (elements) the passes saved outweigh what calling a compiled function costs; and tests, and answers to a
# single picture, do not wait for the compiler.
FUSED_FROM = 1 << 16


def _value(x: Tensor) -> Tensor:
    n, wide = _negative_part(x)
    return (wide.relu() + torch.sigmoid(n) * (n + torch.sin(n))).to(x.dtype)


def _gradient(x: Tensor, grad: Tensor) -> Tensor:
    n, _ = _negative_part(x)
    s = torch.sigmoid(n)
    return (grad * (s * ((1 - s) * (n + torch.sin(n)) + 1 + torch.cos(n)))).to(x.dtype)


def _negative_part(x: Tensor) -> tuple[Tensor, Tensor]:
    """min(x, 0), and x, both in float32 at least: 16-bit types are rounded once, at the end.

    At 0 the negative branch has value 0 and slope 1, exactly, so no branch is needed. The cut is where sigmoid(x) is 0
    already: at -inf, sin would make NaN of it.
    """
    wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    return wide.clamp(-746.0 if x.dtype == torch.float64 else -104.0, 0.0), wide
