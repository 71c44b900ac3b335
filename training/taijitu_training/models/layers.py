"""Layers that several architectures use, and those that make training on a CPU fast."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from taijitu_training.models.activations import create_activation


class _DenseGradient(torch.autograd.Function):
    """The identity, whose backward passes on a gradient without gaps, in the layout of its input."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor) -> Tensor:
        # By the stride, since a slice of the channels is contiguous in neither format.
        layout = torch.channels_last if x.stride(1) == 1 else torch.contiguous_format
        ctx.layout = layout  # type: ignore[attr-defined]  # torch's stub lacks it
        return x.view_as(x)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *grads: Tensor) -> Tensor:
        return grads[0].contiguous(memory_format=ctx.layout)  # type: ignore[attr-defined]  # set in forward


def dense_gradient(x: Tensor) -> Tensor:
    """Return (N, C, H, W) unchanged; its gradient then arrives without gaps in memory.

    The gradient of `torch.cat` is a slice of a channels_last tensor, and with such a slice a batch norm leaves its
    vectorised kernel: 852 ms instead of 10.7 at (128, 64, 32, 32) (torch 2.15, bfloat16, one CPU thread).
    """
    if x.ndim != 4 or not x.requires_grad or not torch.is_grad_enabled() or torch.compiler.is_compiling():
        return x
    out: Tensor = _DenseGradient.apply(x)
    return out


def concat(tensors: Sequence[Tensor]) -> Tensor:
    """Join (N, C_i, H, W) to (N, sum of C_i, H, W), with `dense_gradient` for each."""
    return torch.cat([dense_gradient(x) for x in tensors], 1)


class DenseConcats(TorchFunctionMode):
    """A mode in which `torch.cat` in other libraries' code passes on dense gradients, as `concat` does."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in (torch.cat, torch.concat, torch.concatenate):
            tensors, *rest = args or (kwargs["tensors"],)
            kwargs = {key: value for key, value in kwargs.items() if key != "tensors"}
            args = ([dense_gradient(x) for x in tensors], *rest)
        return func(*args, **kwargs)


def global_average(x: Tensor) -> Tensor:
    """Compute the mean over height and width: (N, C, H, W) -> (N, C, 1, 1).

    In training it goes through avg_pool2d, whose gradient keeps channels_last; the gradient of `mean` does not, and
    adding the two layouts up cost 5 ms of a 90 ms step (YYNet Small 16, batch 64, 2 CPU cores).
    """
    if torch.is_grad_enabled() and x.requires_grad:
        return F.avg_pool2d(x, x.shape[2:])
    return x.mean((2, 3), keepdim=True)


class _StridedDepthwise(torch.autograd.Function):
    """Depthwise convolution of stride 2 whose backward runs as one of stride 1 over the gradient spread with zeros.

    The numbers are the same up to rounding. oneDNN's own backward of the strided one takes ten times as long in
    bfloat16 (24.6 ms against 2.4 ms at (64, 64, 32, 32), 2 CPU cores), but in float32 a half to a third as long.
    """

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return F.conv2d(x, weight, None, 2, 1, 1, x.shape[1])

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *grads: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors  # type: ignore[attr-defined]  # torch's stub lacks it
        spread = torch.zeros_like(x)
        spread[:, :, ::2, ::2] = grads[0]
        wanted = [*ctx.needs_input_grad, False]  # type: ignore[attr-defined]  # torch's stub lacks it
        args = ([1, 1], [1, 1], [1, 1], False, [0, 0], x.shape[1], wanted)
        grad_x, grad_weight, _ = torch.ops.aten.convolution_backward(spread, x, weight, None, *args)
        return grad_x, grad_weight


def _depthwise(x: Tensor, weight: Tensor, stride: int) -> Tensor:
    """Convolve depthwise with 3x3 kernels, padding 1: (N, C, H, W), (C, 1, 3, 3) -> (N, C, ceil(H / stride), ...)."""
    if stride == 2 and x.device.type == "cpu" and torch.is_grad_enabled() and not torch.compiler.is_compiling():
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
        if dtype == torch.bfloat16:
            out: Tensor = _StridedDepthwise.apply(x.to(dtype), weight.to(dtype))
            return out
    return F.conv2d(x, weight, None, stride, 1, 1, x.shape[1])


class DepthwiseConv2d(nn.Conv2d):
    """3x3 depthwise convolution without bias, padding 1: (N, C, H, W) -> (N, C, ceil(H / stride), ceil(W / stride))."""

    def __init__(self, channels: int, stride: int = 1) -> None:
        super().__init__(channels, channels, 3, stride, padding=1, groups=channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return _depthwise(x, self.weight, self.stride[0])


class FixedDepthwiseConv2d(nn.Module):
    """`DepthwiseConv2d` that does not learn: its buffer holds `kernels`, (K, 3, 3), repeated over the channels."""

    weight: Tensor

    def __init__(self, channels: int, kernels: Tensor, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride
        turns = torch.arange(channels) % len(kernels)
        self.register_buffer("weight", kernels[turns].unsqueeze(1))

    def forward(self, x: Tensor) -> Tensor:
        return _depthwise(x, self.weight, self.stride)


class SqueezeExcite(nn.Module):
    """Channel attention: global average - 1x1 - act - 1x1 - gate, multiplied onto the input. Shape is kept.

    `squeezed` is the width between the two 1x1 convolutions, which have biases; `gate` is "sigmoid" or "hardsigmoid".
    """

    def __init__(self, channels: int, squeezed: int, act: str, gate: str = "sigmoid") -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, squeezed, 1)
        self.act = create_activation(act)
        self.expand = nn.Conv2d(squeezed, channels, 1)
        self.gate = nn.Hardsigmoid() if gate == "hardsigmoid" else nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        gate: Tensor = self.gate(self.expand(self.act(self.reduce(global_average(x)))))
        return x * gate
