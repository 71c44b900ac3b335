"""VGNet: half of every block's channels pass through unchanged, and fixed kernels replace depthwise ones.

Source: the VGNet paper (README, references): Section 4, Fig. 8 and Table 1 for the network, Tables 2 and 4 for the
variants C, G and F, Fig. 7 and Appendix D for the fixed kernels, Table 3 for parameters and accuracy. What the paper
leaves open (channels of the sizes beyond 1.0MP, BN after fixed kernels, torch's own initialisation) follows the first
author's public code. BN comes after the activation, and only after 1x1 convolutions, fixed kernels and the stem.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from taijitu_runtime.errors import UnknownNameError
from taijitu_training.models.activations import create_activation
from taijitu_training.models.layers import DepthwiseConv2d, FixedDepthwiseConv2d, SqueezeExcite, concat, global_average
from taijitu_training.models.registry import ModelOptions, Network, register_model

# Fig. 7 and Appendix D, float32 (6, 3, 3): E1, E2 Sobel, E3, E4 Laplacian, E5, E6 diagonal.
EDGES = torch.tensor(
    [
        [[-1 / 2, -1.0, -1 / 2], [0.0, 0.0, 0.0], [1 / 2, 1.0, 1 / 2]],
        [[-1 / 2, 0.0, 1 / 2], [-1.0, 0.0, 1.0], [-1 / 2, 0.0, 1 / 2]],
        [[-1 / 12, -2 / 12, -1 / 12], [-2 / 12, 1.0, -2 / 12], [-1 / 12, -2 / 12, -1 / 12]],
        [[0.0, -1 / 4, 0.0], [-1 / 4, 1.0, -1 / 4], [0.0, -1 / 4, 0.0]],
        [[-1.0, -2 / 3, -1 / 3], [-2 / 3, 0.0, 2 / 3], [1 / 3, 2 / 3, 1.0]],
        [[-1 / 3, -2 / 3, -1.0], [2 / 3, 0.0, -2 / 3], [1.0, 2 / 3, 1 / 3]],
    ]
)
# The same source, float32 (2, 3, 3): G1 wide, G2 narrow.
GAUSSIANS = torch.tensor(
    [
        [[0.0811, 0.1226, 0.0811], [0.1226, 0.1853, 0.1226], [0.0811, 0.1226, 0.0811]],
        [[0.0277, 0.1110, 0.0277], [0.1110, 0.4452, 0.1110], [0.0277, 0.1110, 0.0277]],
    ]
)
_SIGMA1 = torch.exp(-torch.tensor([[2.0, 1.0, 2.0], [1.0, 0.0, 1.0], [2.0, 1.0, 2.0]]) / 2)

# Kernels (K, 3, 3) before a downsampling: those of the weights first published, and of the author's later code.
BLURS: dict[str, Tensor] = {
    "alternating": torch.stack((GAUSSIANS[0], -GAUSSIANS[0])),
    "sigma1": (_SIGMA1 / _SIGMA1.sum()).unsqueeze(0),
}

# Input size (H, W in pixels), then the strides of the stem and of stages 1 to 4. Appendix B has 32x32 pictures; the
# public code learns the kernels of stage 1 for those in every variant; in this code G and F blur there too.
STEMS: dict[str, tuple[tuple[int, int], tuple[int, ...]]] = {
    "imagenet": ((224, 224), (2, 2, 2, 2, 2)),
    "thumbnail": ((32, 32), (1, 1, 2, 2, 2)),
}

# Channels c0 to c4, then the layers of stages 1 to 4 (Table 1): one downsampling, the rest half-identity blocks.
SIZES: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "1.0MP": ((28, 56, 112, 224, 368), (4, 7, 13, 2)),
    "1.5MP": ((32, 64, 128, 256, 512), (3, 7, 14, 2)),
    "2.0MP": ((32, 72, 168, 376, 512), (3, 6, 13, 2)),
    "2.5MP": ((32, 80, 192, 400, 544), (3, 6, 16, 2)),
}


@dataclass(frozen=True)
class VGNetCOptions(ModelOptions):
    """`stem` is a key of STEMS."""

    stem: str = "imagenet"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.stem not in STEMS:
            raise UnknownNameError("stem", self.stem, STEMS)


@dataclass(frozen=True)
class VGNetOptions(VGNetCOptions):
    """`blur` is a key of BLURS; VGNetC learns those kernels, so it does not have this option."""

    blur: str = "alternating"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.blur not in BLURS:
            raise UnknownNameError("blur", self.blur, BLURS)


@dataclass(frozen=True)
class VGNetFOptions(VGNetOptions):
    """`last` says whether the last depthwise kernels are "learnable" (shared, no BN) or "fixed" like the rest."""

    last: str = "learnable"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.last not in ("learnable", "fixed"):
            raise UnknownNameError("last", self.last, ("learnable", "fixed"))


# Table 4 lets F1 and F3 learn their last kernels (1,485,448 parameters); the public code fixes them (1,485,896).
F_PRESETS: dict[str, dict[str, str]] = {"paper": {}, "public_code": {"last": "fixed"}}


class SharedDepthwiseConv2d(nn.Module):
    """`times` slices of the channels pass through the same depthwise kernels (Table 1): shape (N, C, H, W) is kept."""

    def __init__(self, channels: int, times: int = 8) -> None:
        super().__init__()
        self.times = times
        self.conv = DepthwiseConv2d(channels // times)

    def forward(self, x: Tensor) -> Tensor:
        # Exporters fold the repeat, so that an artefact has one plain convolution; slicing x would stay slow there.
        return F.conv2d(x, self.conv.weight.repeat(self.times, 1, 1, 1), None, 1, 1, 1, x.shape[1])


class DownsamplingBlock(nn.Module):
    """Fig. 8a: `depthwise` halves (N, B, H, W), a 1x1 adds channels to its output: a pair of (N, C/2, H/2, W/2).

    The pair is the last k = min(B, C/2) channels unchanged and the C - k new ones, cut again if those are more
    than C/2. No network here has B > C, for which the public code keeps none.
    """

    def __init__(self, in_channels: int, channels: int, depthwise: nn.Module, act: str, se: bool) -> None:
        super().__init__()
        self.kept = min(in_channels, channels // 2)
        self.even = self.kept == channels // 2
        self.depthwise = depthwise
        self.pointwise = _pointwise(in_channels, channels - self.kept, act, se)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.depthwise(x)
        a, b = x[:, -self.kept :], self.pointwise(x)
        if self.even:
            return a, b
        a, b = concat((a, b)).chunk(2, 1)
        return a, b


class HalfIdentityBlock(nn.Module):
    """Fig. 8b: of a pair (a, b) of (N, C/2, H, W), b becomes the next a, and a and depthwise(b) make the next b."""

    def __init__(self, channels: int, depthwise: nn.Module, act: str, se: bool) -> None:
        super().__init__()
        self.depthwise = depthwise
        self.pointwise = _pointwise(channels, channels // 2, act, se)

    def forward(self, pair: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        a, b = pair
        return b, self.pointwise(concat((a, self.depthwise(b))))


class VGNet(Network):
    """Stem, four stages, a last depthwise and 1x1, global average, Linear (Table 1).

    Maps float32 (N, 3, H, W), normalised RGB, to logits (N, K). `size` is a key of SIZES; `kernels` (K, 3, 3) are
    those of the half-identity blocks, and of the last depthwise where `options.last` is "fixed": None learns them all.
    `se` puts channel attention after every 1x1 but the last (Table 3).
    """

    def __init__(self, size: str, options: VGNetCOptions, kernels: Tensor | None = None, se: bool = False) -> None:
        super().__init__()
        act = options.act
        blur = BLURS[options.blur] if isinstance(options, VGNetOptions) else None
        channels, layers = SIZES[size]
        self.input_size, strides = STEMS[options.stem]
        stem = nn.Conv2d(3, channels[0], 3, strides[0], padding=1, bias=False)
        self.stem = nn.Sequential(stem, create_activation(act), nn.BatchNorm2d(channels[0]))
        self.stages = nn.ModuleList()
        for before, c, stride, n in zip(channels, channels[1:], strides[1:], layers, strict=False):
            halved = DepthwiseConv2d(before, stride) if blur is None else FixedDepthwiseConv2d(before, blur, stride)
            blocks = [HalfIdentityBlock(c, _mixing(c // 2, kernels), act, se) for _ in range(n - 1)]
            self.stages.append(nn.Sequential(DownsamplingBlock(before, c, halved, act, se), *blocks))
        c = channels[-1]
        fixed_last = isinstance(options, VGNetFOptions) and options.last == "fixed"
        last = _mixing(c, kernels) if fixed_last else SharedDepthwiseConv2d(c)
        self.last = nn.Sequential(last, _pointwise(c, c, act, se=False))
        self.classifier = nn.Linear(c, options.num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for stage in self.stages:
            x = concat(stage(x))
        logits: Tensor = self.classifier(global_average(self.last(x)).flatten(1))
        return logits


def _mixing(channels: int, kernels: Tensor | None) -> nn.Module:
    """Create a depthwise convolution: learnable, or with fixed `kernels` (K, 3, 3) and BN after it."""
    if kernels is None:
        return DepthwiseConv2d(channels)
    return nn.Sequential(FixedDepthwiseConv2d(channels, kernels), nn.BatchNorm2d(channels))


def _pointwise(in_channels: int, channels: int, act: str, se: bool) -> nn.Sequential:
    """Create 1x1 convolution - activation - BN, and channel attention with its own ReLU if `se`."""
    attention = [SqueezeExcite(channels, _squeezed(channels), "relu")] if se else []
    conv = nn.Conv2d(in_channels, channels, 1, bias=False)
    return nn.Sequential(conv, create_activation(act), nn.BatchNorm2d(channels), *attention)


def _squeezed(channels: int) -> int:
    """Round a quarter of `channels` to the nearest multiple of 8, from 8 up, and up if that is under 90 % of it."""
    quarter = channels / 4
    nearest = max(8, int(quarter + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * quarter else nearest + 8


@register_model(VGNetOptions())
def vgnetg_1_0mp(options: VGNetOptions) -> VGNet:
    """Build VGNetG-1.0MP, 997,358 parameters (Table 3: 66.6 % on ImageNet; 67.7 % with act="silu")."""
    return VGNet("1.0MP", options)


@register_model(VGNetOptions())
def vgnetg_1_0mp_se(options: VGNetOptions) -> VGNet:
    """Build VGNetG-1.0MP+SE, 1,143,190 parameters (Table 3: 69.2 %)."""
    return VGNet("1.0MP", options, se=True)


@register_model(VGNetOptions())
def vgnetg_1_5mp(options: VGNetOptions) -> VGNet:
    """Build VGNetG-1.5MP, 1,502,024 parameters (Table 3: 69.3 %)."""
    return VGNet("1.5MP", options)


@register_model(VGNetOptions())
def vgnetg_1_5mp_se(options: VGNetOptions) -> VGNet:
    """Build VGNetG-1.5MP+SE, 1,701,680 parameters (Table 3: 71.3 %)."""
    return VGNet("1.5MP", options, se=True)


@register_model(VGNetOptions())
def vgnetg_2_0mp(options: VGNetOptions) -> VGNet:
    """Build VGNetG-2.0MP, 2,006,380 parameters (Table 3: 71.3 %)."""
    return VGNet("2.0MP", options)


@register_model(VGNetOptions())
def vgnetg_2_0mp_se(options: VGNetOptions) -> VGNet:
    """Build VGNetG-2.0MP+SE, 2,344,696 parameters (Table 3: 73.5 %)."""
    return VGNet("2.0MP", options, se=True)


@register_model(VGNetOptions())
def vgnetg_2_5mp(options: VGNetOptions) -> VGNet:
    """Build VGNetG-2.5MP, 2,492,756 parameters (Table 3: 72.6 %)."""
    return VGNet("2.5MP", options)


@register_model(VGNetOptions())
def vgnetg_2_5mp_se(options: VGNetOptions) -> VGNet:
    """Build VGNetG-2.5MP+SE, 2,922,284 parameters (Table 3: 74.2 %)."""
    return VGNet("2.5MP", options, se=True)


@register_model(VGNetCOptions())
def vgnetc_1_5mp(options: VGNetCOptions) -> VGNet:
    """Build VGNetC-1.5MP, every depthwise kernel learnable, 1,506,344 parameters (Table 4: 67.6 %)."""
    return VGNet("1.5MP", options)


@register_model(VGNetFOptions(), F_PRESETS)
def vgnetf1_1_5mp(options: VGNetFOptions) -> VGNet:
    """Build VGNetF1-1.5MP, six edge and two Gaussian kernels, the last ones learnable (Table 4: 66.8 %)."""
    return VGNet("1.5MP", options, torch.cat((EDGES, GAUSSIANS)))


@register_model(VGNetFOptions(last="fixed"))
def vgnetf2_1_5mp(options: VGNetFOptions) -> VGNet:
    """Build VGNetF2-1.5MP, F1 with the last ones fixed too, BN after them, 1,485,896 parameters (Table 4: 66.2 %)."""
    return VGNet("1.5MP", options, torch.cat((EDGES, GAUSSIANS)))


@register_model(VGNetFOptions(), F_PRESETS)
def vgnetf3_1_5mp(options: VGNetFOptions) -> VGNet:
    """Build VGNetF3-1.5MP, four edge kernels, the last ones learnable (Table 4: 66.1 %)."""
    return VGNet("1.5MP", options, EDGES[:4])


@register_model(VGNetFOptions(last="fixed"))
def vgnetf4_1_5mp(options: VGNetFOptions) -> VGNet:
    """Build VGNetF4-1.5MP, F3 with the last ones fixed too, BN after them, 1,485,896 parameters (Table 4: 64.4 %)."""
    return VGNet("1.5MP", options, EDGES[:4])
