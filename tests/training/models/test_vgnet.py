"""VGNet's fixed kernels, blocks and variants."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from taijitu_runtime.errors import UnknownNameError
from taijitu_training.models import create_model, list_models, vgnet
from taijitu_training.models.layers import DepthwiseConv2d, FixedDepthwiseConv2d

# Fig. 7 and Appendix D of the paper, to four decimals, rows top to bottom.
FIXED = torch.tensor(
    [
        [-0.5, -1, -0.5, 0, 0, 0, 0.5, 1, 0.5],
        [-0.5, 0, 0.5, -1, 0, 1, -0.5, 0, 0.5],
        [-0.0833, -0.1667, -0.0833, -0.1667, 1, -0.1667, -0.0833, -0.1667, -0.0833],
        [0, -0.25, 0, -0.25, 1, -0.25, 0, -0.25, 0],
        [-1, -0.6667, -0.3333, -0.6667, 0, 0.6667, 0.3333, 0.6667, 1],
        [-0.3333, -0.6667, -1, 0.6667, 0, -0.6667, 1, 0.6667, 0.3333],
        [0.0811, 0.1226, 0.0811, 0.1226, 0.1853, 0.1226, 0.0811, 0.1226, 0.0811],
        [0.0277, 0.1110, 0.0277, 0.1110, 0.4452, 0.1110, 0.0277, 0.1110, 0.0277],
    ]
).view(8, 3, 3)


def of_type(model: nn.Module, block: type[nn.Module]) -> list[nn.Module]:
    return [module for module in model.modules() if isinstance(module, block)]


def fixed_in(model: nn.Module) -> list[FixedDepthwiseConv2d]:
    return [module for module in model.modules() if isinstance(module, FixedDepthwiseConv2d)]


def kernels_in_turn(kernels: Tensor, channels: int) -> Tensor:
    return kernels.repeat(math.ceil(channels / len(kernels)), 1, 1)[:channels].unsqueeze(1)


@pytest.mark.parametrize("name", list_models("vgnet*"))
def test_what_is_fixed(name: str) -> None:
    model = create_model(name, num_classes=2)
    fixed_blur = [
        isinstance(block.depthwise, FixedDepthwiseConv2d) for block in of_type(model, vgnet.DownsamplingBlock)
    ]
    fixed_mixing = [len(fixed_in(block)) == 1 for block in of_type(model, vgnet.HalfIdentityBlock)]
    assert fixed_blur == [not name.startswith("vgnetc")] * 4
    assert set(fixed_mixing) == {name.startswith("vgnetf")}
    assert (len(fixed_in(model.last)) == 1) is name.startswith(("vgnetf2", "vgnetf4"))


@pytest.mark.parametrize(("name", "kernels"), [("vgnetf2_1_5mp", FIXED), ("vgnetf4_1_5mp", FIXED[:4])])
def test_fixed_kernels_are_the_paper_s(name: str, kernels: Tensor) -> None:
    model = create_model(name, num_classes=2)
    for module in [*of_type(model, vgnet.HalfIdentityBlock), model.last]:
        (fixed,) = fixed_in(module)
        torch.testing.assert_close(fixed.weight, kernels_in_turn(kernels, len(fixed.weight)), rtol=0, atol=5e-5)


@pytest.mark.parametrize("name", ["vgnetg_1_0mp", "vgnetf1_1_5mp"])
def test_blurs(name: str) -> None:
    wide = FIXED[6]
    gaussian = torch.tensor([[math.exp(-(x * x + y * y) / 2) for x in (-1, 0, 1)] for y in (-1, 0, 1)])
    for blur, kernels in (
        ("alternating", torch.stack((wide, -wide))),
        ("sigma1", (gaussian / gaussian.sum()).unsqueeze(0)),
    ):
        model = create_model(name, num_classes=2, blur=blur)
        for block in of_type(model, vgnet.DownsamplingBlock):
            weight = block.depthwise.weight
            torch.testing.assert_close(weight, kernels_in_turn(kernels, len(weight)), rtol=0, atol=1e-6)
    assert torch.equal(
        create_model(name).stages[0][0].depthwise.weight,
        create_model(name, blur="alternating").stages[0][0].depthwise.weight,
    )


def test_vgnetc_learns_its_blur() -> None:
    with pytest.raises(UnknownNameError, match=r"vgnetc_1_5mp.*'blur'.* act, num_classes, stem"):
        create_model("vgnetc_1_5mp", blur="sigma1")


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("blur", "sigma2", "unknown blur 'sigma2'; did you mean sigma1"),
        ("stem", "thumb", "unknown stem 'thumb'; did you mean thumbnail"),
    ],
)
def test_unknown_choices_list_the_close_ones(option: str, value: str, message: str) -> None:
    with pytest.raises(UnknownNameError, match=message):
        create_model("vgnetg_1_0mp", **{option: value})


def test_fixed_kernels_are_saved_but_do_not_learn() -> None:
    torch.manual_seed(0)
    model = create_model("vgnetf2_1_5mp", num_classes=2, stem="thumbnail")
    names = {f"{name}.weight" for name, module in model.named_modules() if isinstance(module, FixedDepthwiseConv2d)}
    assert len(names) == 4 + (2 + 6 + 13 + 1) + 1
    assert names <= model.state_dict().keys()
    assert names.isdisjoint(name for name, _ in model.named_parameters())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.1)
    F.cross_entropy(model(torch.randn(4, 3, 32, 32)), torch.tensor([0, 1, 0, 1])).backward()
    optimizer.step()
    unchanged = {name for name, value in model.state_dict().items() if torch.equal(value, before[name])}
    assert unchanged == names


@pytest.mark.parametrize("stem", vgnet.STEMS)
@torch.inference_mode()
def test_stems(stem: str) -> None:
    model = create_model("vgnetg_1_0mp", num_classes=3, stem=stem).eval()
    assert model.input_size == {"imagenet": (224, 224), "thumbnail": (32, 32)}[stem]
    sizes = []
    for block in [model.stem, *model.stages]:
        block.register_forward_hook(lambda _, __, out: sizes.append(out[0].shape[-1]))
    model(torch.randn(1, 3, *model.input_size))
    assert sizes == {"imagenet": [112, 56, 28, 14, 7], "thumbnail": [32, 32, 16, 8, 4]}[stem]


@torch.inference_mode()
def test_half_identity_passes_one_half_on_unchanged() -> None:
    block = vgnet.HalfIdentityBlock(8, DepthwiseConv2d(4), "relu", se=False).eval()
    a, b = torch.randn(2, 4, 5, 5), torch.randn(2, 4, 5, 5)
    left, right = block((a, b))
    assert left is b
    mixed = F.conv2d(b, block.depthwise.weight, padding=1, groups=4)
    made = F.conv2d(torch.cat((a, mixed), 1), block.pointwise[0].weight)
    # activation, then BN, which is the identity except for its epsilon
    torch.testing.assert_close(right, made.relu() / math.sqrt(1 + 1e-5))


@pytest.mark.parametrize(("channels", "kept"), [(8, 4), (12, 6), (14, 6), (20, 6)])
@torch.inference_mode()
def test_downsampling_keeps_the_last_channels_and_adds_new_ones(channels: int, kept: int) -> None:
    before = 6
    halving = DepthwiseConv2d(before, 2)
    block = vgnet.DownsamplingBlock(before, channels, halving, "relu", se=False).eval()
    x = torch.randn(2, before, 9, 9)
    a, b = block(x)
    assert a.shape == b.shape == (2, channels // 2, 5, 5)
    halved = F.conv2d(x, halving.weight, stride=2, padding=1, groups=before)
    new = F.conv2d(halved, block.pointwise[0].weight).relu() / math.sqrt(1 + 1e-5)
    assert new.shape[1] == channels - kept
    torch.testing.assert_close(torch.cat((a, b), 1), torch.cat((halved[:, before - kept :], new), 1))


@torch.inference_mode()
def test_shared_kernels_are_the_same_in_every_slice() -> None:
    layer = vgnet.SharedDepthwiseConv2d(24, times=8)
    assert sum(p.numel() for p in layer.parameters()) == 24 // 8 * 9
    x = torch.randn(2, 24, 5, 5)
    for before, after in zip(x.chunk(8, 1), layer(x).chunk(8, 1), strict=True):
        torch.testing.assert_close(after, F.conv2d(before, layer.conv.weight, padding=1, groups=3))


def test_channel_attention_follows_every_1x1_but_the_last() -> None:
    model = create_model("vgnetg_1_0mp_se", num_classes=2)
    blocks = of_type(model, vgnet.DownsamplingBlock) + of_type(model, vgnet.HalfIdentityBlock)
    assert all(isinstance(block.pointwise[-1], vgnet.SqueezeExcite) for block in blocks)
    assert len(of_type(model, vgnet.SqueezeExcite)) == len(blocks)


@pytest.mark.parametrize(("channels", "squeezed"), [(16, 8), (28, 8), (36, 16), (56, 16), (112, 32), (272, 72)])
def test_width_of_channel_attention(channels: int, squeezed: int) -> None:
    assert vgnet._squeezed(channels) == squeezed


@pytest.mark.parametrize("make", [lambda: DepthwiseConv2d(6, 2), lambda: FixedDepthwiseConv2d(6, FIXED, 2)])
@pytest.mark.parametrize("size", [8, 9])
def test_bfloat16_gradients_of_a_strided_depthwise_convolution(make: Callable[[], nn.Module], size: int) -> None:
    torch.manual_seed(0)
    layer = make()
    x = torch.randn(2, 6, size, size, requires_grad=True)
    grad = torch.randn(2, 6, math.ceil(size / 2), math.ceil(size / 2))
    layer(x).backward(grad)
    exact = [x.grad, *(p.grad for p in layer.parameters())]
    x.grad = None
    layer.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        out = layer(x)
    assert out.dtype == torch.bfloat16
    out.backward(grad.bfloat16())
    mixed = [x.grad, *(p.grad for p in layer.parameters())]
    torch.testing.assert_close(mixed, exact, rtol=0.03, atol=0.03)


def test_exported_fixed_convolutions_have_constant_weights() -> None:
    model = create_model("vgnetf2_1_5mp", num_classes=2, stem="thumbnail").eval()
    program = torch.export.export(model, (torch.randn(2, 3, 32, 32),))
    weights = [node.args[1] for node in program.graph.nodes if node.target == torch.ops.aten.conv2d.default]
    assert len(weights) == 1 + 4 + 4 + 2 * (2 + 6 + 13 + 1) + 2
    assert {weight.op for weight in weights} == {"placeholder"}
