"""Nish, by Eq. 3 of its paper (README, references).

    nish(x) = x                           for x >= 0
              sigmoid(x) * (x + sin(x))   for x <  0

Its derivative is 1 for x >= 0 and, with s = sigmoid(x), ``s (1 - s) (x + sin x) + s (1 + cos x)`` for x < 0 (the
paper's Eq. 4 misprints the s of the second term as x). Range [-0.4974, inf), minimum at x = -1.08287.

In torch's operators each direction takes ten passes over memory and more, slower than Mish. So in training on a CPU
torch.compile makes it one pass, at the first large tensor; if it cannot (no C++ compiler, a damaged cache), the
operators stay, and one warning says so, with the cure.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

_log = logging.getLogger(__name__)

NO_COMPILER = "InvalidCxxCompiler"
"""Error of torch.compile where there is no C++ compiler."""

FLOAT32_FLOOR = -104.0
"""Below it float32's sigmoid, and so Nish, is 0."""

FUSED_FROM = 1 << 16
"""Elements from which a fused pass is worthwhile; below, tests and small runs need not wait for the compiler."""

_fusion_works = True


def nish(x: Tensor) -> Tensor:
    """Compute Nish of every element, Eq. 3: any shape and floating dtype, same shape and dtype back; NaN for NaN."""
    out: Tensor = _NishFunction.apply(x)
    return out


class Nish(nn.Module):
    """`nish` as a module."""

    def forward(self, x: Tensor) -> Tensor:
        return nish(x)


class _NishFunction(torch.autograd.Function):
    """Keeps only its input for the backward pass."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return _evaluate(_value, x)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *grads: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors  # type: ignore[attr-defined]  # torch's stub lacks it
        return _evaluate(_gradient, x, grads[0])


def _value(x: Tensor) -> Tensor:
    wide, n = _with_negative_part(x)
    return (wide.relu() + torch.sigmoid(n) * (n + torch.sin(n))).to(x.dtype)


def _gradient(x: Tensor, grad: Tensor) -> Tensor:
    _, n = _with_negative_part(x)
    s = torch.sigmoid(n)
    return (grad * (s * ((1 - s) * (n + torch.sin(n)) + 1 + torch.cos(n)))).to(x.dtype)


def _with_negative_part(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return x, in float32 if it is of a 16-bit type, so that those are rounded once; and min(x, 0).

    The branch for x < 0 has value 0 and slope 1 at 0, exactly: on min(x, 0) it may be used for every x. The limit is
    where sigmoid(x) is already 0; for -inf, sin would give NaN.
    """
    wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    return wide, wide.clamp(-746.0 if x.dtype == torch.float64 else FLOAT32_FLOOR, 0.0)


def _evaluate(formula: Callable[..., Tensor], x: Tensor, *others: Tensor) -> Tensor:
    """Evaluate `formula` on tensors of one shape and dtype; the result has that shape and dtype, and x's layout."""
    global _fusion_works
    if _fusion_works and _is_worth_fusing(x):
        try:
            return _fused_pass(formula, x, *others)
        except Exception as error:  # a compiler can be missing in many ways, and none may stop a training
            _fusion_works = False
            _log.warning("Nish trains several times slower, not fused: %s", _reason_and_cure(error))
    return formula(x, *others)


def _reason_and_cure(error: Exception) -> str:
    # Seconds to import; torch does not export the name.
    from torch._inductor.runtime.runtime_utils import cache_dir  # type: ignore[attr-defined]

    reason = f"torch.compile raised {type(error).__name__}: {str(error).partition(chr(10))[0]}"
    # Without a compiler the cache does not matter; another process may be writing to it.
    if NO_COMPILER not in reason and (broken := _empty_libraries(cache := Path(cache_dir()))):
        return (
            f"{broken} in torch.compile's cache is empty, from a compilation that was killed; delete {cache} ({reason})"
        )
    return f"{reason}; it needs a C++ compiler (on Debian: apt-get install g++)"


def _empty_libraries(cache: Path) -> str:
    """Return the first empty shared library below `cache`, or an empty string: a killed linker leaves such files."""
    return next((str(library) for library in cache.rglob("*.so") if library.stat().st_size == 0), "")


def _is_worth_fusing(x: Tensor) -> bool:
    """Return whether x is part of a training step on a CPU, and contiguous in memory.

    Gradients are off in an autograd.Function, except in a backward pass that is to be differentiated again.
    """
    if torch.is_grad_enabled() or not x.requires_grad or torch.compiler.is_compiling():
        return False
    if torch.jit.is_tracing():  # type: ignore[attr-defined,no-untyped-call]  # torch does not export or annotate it
        return False
    if type(x) not in (Tensor, nn.Parameter) or x.device.type != "cpu" or x.numel() < FUSED_FROM:
        return False
    return x.is_contiguous() or x.is_contiguous(memory_format=torch.channels_last)


def _fused_pass(formula: Callable[..., Tensor], x: Tensor, *others: Tensor) -> Tensor:
    # All shapes and layouts are a flat run of memory: each dtype is compiled once. The compiler must not see
    # a view, because it would inspect its base, nor autograd one, because an in-place operation could not change it.
    alike = (t if t.stride() == x.stride() else torch.empty_like(x).copy_(t) for t in (x, *others))
    flat = (t.as_strided((t.numel(),), (1,)).detach() for t in alike)
    return _compiled(formula)(*flat).as_strided(x.shape, x.stride()).detach()


@functools.cache
def _compiled(formula: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return torch.compile(formula, dynamic=True)
