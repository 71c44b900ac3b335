"""YYNet: two branches, Yin for form and Yang for colour, fused and followed by one single path.

Source: the YYNet papers (README, references), Fig. 2 and Eq. 1 for the network, Table I for the six fusions; what the
papers leave open (biases, order of batch norm, initialisation) follows the authors' public code. Parameters with the
paper's head: YYNet Small 52,882 (16 channels), 191,330 (32), 726,274 (64); YYNet for ImageNet 1,608,144.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from taijitu_runtime.errors import UnknownNameError, UsageError
from taijitu_training.models.activations import create_activation
from taijitu_training.models.layers import DepthwiseConv2d, SqueezeExcite, global_average
from taijitu_training.models.registry import ModelOptions, Network, register_model

# Table I; a is the output of Yang (colour), i that of Yin (form).
FUSIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "a+i": lambda a, i: a + i,
    "a*(1-i)": lambda a, i: a * (1 - i),
    "a*i+a+i": lambda a, i: a * i + a + i,
    "a*(1-i)+a-i": lambda a, i: a * (1 - i) + a - i,
    "a*i": lambda a, i: a * i,
    "a*(1-i)+a+i": lambda a, i: a * (1 - i) + a + i,
}

# The input of the one-channel Yin branch, from (N, 3, H, W).
YIN_INPUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "red": lambda x: x[:, :1],
    "mean": lambda x: x.mean(1, keepdim=True),
}

# The paper says GELU, A + I and the red channel; the code that produced its Table IV chose otherwise.
PRESETS: dict[str, dict[str, str]] = {
    "paper": {},
    "public_code": {"act": "silu", "fusion": "a*i", "yin_input": "mean", "init": "public_code"},
}


@dataclass(frozen=True)
class YYNetOptions(ModelOptions):
    """Options of every YYNet.

    `fusion` is a key of FUSIONS, `yin_input` of YIN_INPUTS, `dropout` the rate in [0, 1) before the last layer,
    `init` a key of INITIALISATIONS.
    """

    num_classes: int = 10
    act: str = "gelu"
    fusion: str = "a+i"
    yin_input: str = "red"
    dropout: float = 0.0
    init: str = "paper"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.fusion not in FUSIONS:
            raise UnknownNameError("fusion", self.fusion, FUSIONS)
        if self.yin_input not in YIN_INPUTS:
            raise UnknownNameError("yin_input", self.yin_input, YIN_INPUTS)
        if self.init not in INITIALISATIONS:
            raise UnknownNameError("init", self.init, INITIALISATIONS)
        if not 0.0 <= self.dropout < 1.0:
            raise UsageError(f"got dropout={self.dropout}, expected a rate in [0, 1)")


@dataclass(frozen=True)
class YYNetImageNetOptions(YYNetOptions):
    """`pre_norm=False` discards the output of each MBConv's first BN, as the authors' ImageNet script does."""

    num_classes: int = 1000
    pre_norm: bool = True


class ResidualBlock(nn.Module):
    """conv3x3 - BN - act - conv3x3 - BN, plus a 1x1 shortcut that is always there and has no BN, then act."""

    def __init__(self, in_channels: int, channels: int, stride: int, act: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1)
        self.bn1 = nn.BatchNorm2d(channels)
        self.act1 = create_activation(act)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = nn.Conv2d(in_channels, channels, 1, stride)
        self.act2 = create_activation(act)

    def forward(self, x: Tensor) -> Tensor:
        main = self.bn2(self.conv2(self.act1(self.bn1(self.conv1(x)))))
        out: Tensor = self.act2(main + self.shortcut(x))
        return out


class MBConv(nn.Module):
    """BN - 1x1 up to 4 C - BN - act - depthwise 3x3 - BN - act - SE - 1x1 down to C - BN, plus a shortcut, no last act.

    With `pre_norm=False` the first BN exists but its output is discarded, as in the authors' ImageNet script.
    """

    def __init__(
        self, in_channels: int, channels: int, stride: int, act: str, gate: str = "sigmoid", pre_norm: bool = True
    ) -> None:
        super().__init__()
        hidden = 4 * channels
        self.pre_norm = pre_norm
        self.bn0 = nn.BatchNorm2d(in_channels)
        self.expand = nn.Conv2d(in_channels, hidden, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(hidden)
        self.act1 = create_activation(act)
        self.depthwise = DepthwiseConv2d(hidden, stride)
        self.bn2 = nn.BatchNorm2d(hidden)
        self.act2 = create_activation(act)
        self.se = SqueezeExcite(hidden, hidden // 4, act, gate)
        self.project = nn.Conv2d(hidden, channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels)
        self.shortcut = self._shortcut(in_channels, channels, stride)

    @staticmethod
    def _shortcut(in_channels: int, channels: int, stride: int) -> nn.Module:
        if stride == 2:
            return nn.Sequential(nn.MaxPool2d(3, 2, padding=1), nn.Conv2d(in_channels, channels, 1, bias=False))
        return nn.Identity() if in_channels == channels else nn.Conv2d(in_channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        main = self.expand(self.bn0(x) if self.pre_norm else x)
        main = self.act2(self.bn2(self.depthwise(self.act1(self.bn1(main)))))
        out: Tensor = self.bn3(self.project(self.se(main))) + self.shortcut(x)
        return out


class YYNet(Network):
    """Yin(one channel) and Yang(RGB), fused, then `path`, then global average - Linear - act - dropout - Linear.

    Maps float32 (N, 3, H, W), normalised RGB, to logits (N, K). `head` is (channels that the path ends with, width
    of the hidden layer).
    """

    def __init__(
        self,
        yin: nn.Sequential,
        yang: nn.Sequential,
        path: nn.Sequential,
        head: tuple[int, int],
        input_size: tuple[int, int],
        options: YYNetOptions,
    ) -> None:
        super().__init__()
        self.input_size = input_size
        self.yin_input = options.yin_input
        self.fusion = options.fusion
        channels, hidden = head
        self.yin = yin
        self.yang = yang
        self.path = path
        self.fc1 = nn.Linear(channels, hidden)
        self.act = create_activation(options.act)
        self.dropout = nn.Dropout(options.dropout)
        self.fc2 = nn.Linear(hidden, options.num_classes)
        self.unused_parameters = any(isinstance(part, MBConv) and not part.pre_norm for part in self.modules())
        INITIALISATIONS[options.init](self)

    def forward(self, x: Tensor) -> Tensor:
        colour = self.yang(x)
        form = self.yin(YIN_INPUTS[self.yin_input](x))
        features = global_average(self.path(FUSIONS[self.fusion](colour, form))).flatten(1)
        logits: Tensor = self.fc2(self.dropout(self.act(self.fc1(features))))
        return logits


def _initialise(module: nn.Module, fans: Callable[[Tensor], tuple[float, float]]) -> None:
    """Initialise by a truncated normal of variance 1 / mean(fans) after the cut at 2 standard deviations; zero bias."""
    if isinstance(module, (nn.Conv2d, nn.Linear)):
        fan_in, fan_out = fans(module.weight)
        std = (2.0 / (fan_in + fan_out)) ** 0.5 / 0.8796
        nn.init.trunc_normal_(module.weight, std=std, a=-2 * std, b=2 * std)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _initialise_shortcut(shortcut: nn.Module) -> None:
    for layer in shortcut.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.dirac_(layer.weight)


def _initialise_all(network: nn.Module) -> None:
    """Initialise every layer by the rule of the public code's functions, as its authors intended."""
    network.apply(lambda module: _initialise(module, nn.init._calculate_fan_in_and_fan_out))
    for block in network.modules():
        if isinstance(block, (ResidualBlock, MBConv)):
            _initialise_shortcut(block.shortcut)


def _initialise_as_public_code(network: nn.Module) -> None:
    """Initialise what those functions reach when the public code runs: they come before the lazy layers exist.

    That is only MBConv, with its squeeze and excitation; the residual blocks with their shortcuts and both linear
    layers keep torch's default, biases included. Fan in of a depthwise convolution counts all of its channels there.
    """

    def fans(weight: Tensor) -> tuple[float, float]:
        out_channels, in_channels = weight.shape[:2]
        is_depthwise = in_channels == 1
        area = weight[0, 0].numel()
        return float(area * (out_channels if is_depthwise else in_channels)), float(area * out_channels)

    for block in network.modules():
        if isinstance(block, MBConv):
            block.apply(lambda module: _initialise(module, fans))
            _initialise_shortcut(block.shortcut)


INITIALISATIONS: dict[str, Callable[[nn.Module], None]] = {
    "paper": _initialise_all,
    "public_code": _initialise_as_public_code,
}


def _yynet_small(c: int, options: YYNetOptions) -> YYNet:
    act = options.act
    return YYNet(
        yin=nn.Sequential(
            ResidualBlock(1, c, 1, act), MBConv(c, c, 1, act), MBConv(c, c, 1, act), MBConv(c, c, 2, act)
        ),
        yang=nn.Sequential(
            ResidualBlock(3, c, 1, act), MBConv(c, c, 2, act), MBConv(c, c, 1, act), MBConv(c, c, 1, act)
        ),
        path=nn.Sequential(ResidualBlock(c, c, 2, act), MBConv(c, c, 2, act), MBConv(c, c, 1, act)),
        head=(c, 40),
        input_size=(32, 32),
        options=options,
    )


@register_model(YYNetOptions(), PRESETS)
def yynet_small_16(options: YYNetOptions) -> YYNet:
    """Build YYNet Small with 16 channels, for 32x32 pictures (Table IV: 89.46 % on CIFAR-10)."""
    return _yynet_small(16, options)


@register_model(YYNetOptions(), PRESETS)
def yynet_small_32(options: YYNetOptions) -> YYNet:
    """Build YYNet Small with 32 channels (Table IV: 91.91 %)."""
    return _yynet_small(32, options)


@register_model(YYNetOptions(), PRESETS)
def yynet_small_64(options: YYNetOptions) -> YYNet:
    """Build YYNet Small with 64 channels (Table IV: 93.32 %)."""
    return _yynet_small(64, options)


@register_model(YYNetImageNetOptions(), PRESETS)
def yynet(options: YYNetImageNetOptions) -> YYNet:
    """Build YYNet for 224x224 pictures (Table V: 66.49 % on ImageNet's validation set)."""

    def branch(in_channels: int, strides: tuple[int, int, int]) -> nn.Sequential:
        widths = (16, 18, 20, 22)
        blocks = [
            MBConv(b, c, stride, options.act, "hardsigmoid", options.pre_norm)
            for b, c, stride in zip(widths, widths[1:], strides)
        ]
        return nn.Sequential(ResidualBlock(in_channels, 16, 1, options.act), *blocks)

    def stage(in_channels: int, b: int) -> nn.Sequential:
        return nn.Sequential(
            ResidualBlock(in_channels, b, 2, options.act),
            MBConv(b, b + 2, 1, options.act, "hardsigmoid", options.pre_norm),
            MBConv(b + 2, b + 4, 1, options.act, "hardsigmoid", options.pre_norm),
        )

    return YYNet(
        yin=branch(1, (1, 1, 2)),
        yang=branch(3, (2, 1, 1)),
        path=nn.Sequential(stage(22, 64), stage(68, 66), stage(70, 68), stage(72, 70)),
        head=(74, 500),
        input_size=(224, 224),
        options=options,
    )
