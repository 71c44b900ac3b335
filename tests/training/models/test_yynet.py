"""YYNet's fusions, inputs and presets."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from taijitu_runtime.errors import TaijituError, UnknownNameError
from taijitu_training.models import create_model, model_options
from taijitu_training.models.yynet import MBConv

# Table I, worked out by hand for a (Yang, colour) = 2 and i (Yin, form) = 3.
FUSED_2_AND_3 = {
    "a+i": 5.0,
    "a*(1-i)": -4.0,
    "a*i+a+i": 11.0,
    "a*(1-i)+a-i": -5.0,
    "a*i": 6.0,
    "a*(1-i)+a+i": 1.0,
}


class Constant(nn.Module):
    """A stand-in for a branch: (N, 16, H / 2, W / 2), all of one value."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def forward(self, x: Tensor) -> Tensor:
        return torch.full((x.shape[0], 16, x.shape[2] // 2, x.shape[3] // 2), self.value)


def inputs_of(module: nn.Module) -> list[Tensor]:
    """Return a list that grows by the inputs of `module`."""
    seen: list[Tensor] = []
    module.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    return seen


@pytest.mark.parametrize("fusion", FUSED_2_AND_3)
@torch.inference_mode()
def test_fusions_of_table_1(fusion: str) -> None:
    model = create_model("yynet_small_16", fusion=fusion).eval()
    model.yang, model.yin = Constant(2.0), Constant(3.0)
    fused = inputs_of(model.path)
    model(torch.zeros(2, 3, 32, 32))
    assert fused[0].shape == (2, 16, 16, 16)
    assert torch.equal(fused[0], torch.full((2, 16, 16, 16), FUSED_2_AND_3[fusion]))


@torch.inference_mode()
def test_the_fusion_joins_the_outputs_of_the_branches() -> None:
    model = create_model("yynet_small_16").eval()
    x = torch.randn(2, 3, 32, 32)
    fused = inputs_of(model.path)
    model(x)
    torch.testing.assert_close(fused[0], model.yang(x) + model.yin(x[:, :1]))


@torch.inference_mode()
def test_the_input_of_yin() -> None:
    x = torch.randn(2, 3, 32, 32)
    for yin_input, expected in (("red", x[:, 0:1]), ("mean", (x[:, 0:1] + x[:, 1:2] + x[:, 2:3]) / 3)):
        model = create_model("yynet_small_16", yin_input=yin_input).eval()
        seen, colours = inputs_of(model.yin), inputs_of(model.yang)
        model(x)
        torch.testing.assert_close(seen[0], expected)
        assert colours[0] is x


@torch.inference_mode()
def test_the_single_path_ends_in_4_by_4() -> None:
    model = create_model("yynet_small_32").eval()
    path = model.path(torch.randn(1, 32, 16, 16))
    assert path.shape == (1, 32, 4, 4)


def test_presets() -> None:
    paper = model_options("yynet_small_16")
    assert (paper["act"], paper["fusion"], paper["yin_input"]) == ("gelu", "a+i", "red")
    public = model_options("yynet_small_16", preset="public_code")
    assert (public["act"], public["fusion"], public["yin_input"]) == ("silu", "a*i", "mean")
    changed = model_options("yynet_small_16", num_classes=3, preset="public_code", fusion="a+i")
    assert changed == public | {"fusion": "a+i", "num_classes": 3}


@pytest.mark.parametrize("pre_norm", [True, False])
@torch.inference_mode()
def test_pre_norm_decides_whether_the_first_bn_counts(pre_norm: bool) -> None:
    model = create_model("yynet", num_classes=3, pre_norm=pre_norm).eval()
    x = torch.randn(1, 3, 64, 64)
    before = model(x)
    first_norms = [block.bn0 for block in model.modules() if isinstance(block, MBConv)]
    assert sum(p.numel() for norm in first_norms for p in norm.parameters()) == 1_304
    for norm in first_norms:
        norm.weight.fill_(0.5)
    assert torch.equal(model(x), before) is not pre_norm


def test_dropout_is_only_in_training() -> None:
    torch.manual_seed(0)
    model = create_model("yynet_small_16", dropout=0.5).eval()
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(model(x), model(x))
    model.dropout.train()
    assert not torch.equal(model(x), model(x))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fusion": "a+i*a"}, r"unknown fusion 'a\+i\*a'; did you mean .*a\+i"),
        ({"yin_input": "green"}, r"unknown yin_input 'green'; known: mean, red"),
        ({"fussion": "a+i"}, "unknown option of yynet_small_16 'fussion'; did you mean fusion"),
        ({"pre_norm": False}, "unknown option of yynet_small_16 'pre_norm'; known: act, dropout, fusion"),
        ({"preset": "publiccode"}, "unknown preset of yynet_small_16 'publiccode'; did you mean public_code"),
    ],
)
def test_unknown_names_list_the_close_ones(options: dict[str, str], message: str) -> None:
    with pytest.raises(UnknownNameError, match=message):
        create_model("yynet_small_16", **options)


def test_dropout_has_a_range() -> None:
    with pytest.raises(TaijituError, match=r"dropout=1\.0.*\[0, 1\)"):
        create_model("yynet_small_16", dropout=1.0)


@pytest.mark.parametrize("network", ["yynet_small_16", "yynet_small_64", "yynet"])
def test_the_public_codes_initialisation_tensor_by_tensor(network: str) -> None:
    torch.manual_seed(0)
    model = create_model(network, preset="public_code")
    for name, module in model.named_modules():
        if not isinstance(module, (nn.Conv2d, nn.Linear)):
            continue
        inside = next(
            (part for key, part in model.named_modules() if isinstance(part, MBConv) and f"{key}." in name), None
        )
        weight = module.weight
        if inside is None:  # residual blocks, their shortcuts, both linear layers: torch's default, uniform
            bound = 1 / (weight[0].numel()) ** 0.5
            std, largest, bias = bound / 3**0.5, bound, bound
        elif ".shortcut" in name:  # Dirac, in the public code too: those of stride 2, and those between widths
            torch.testing.assert_close(weight, torch.eye(*weight.shape[:2])[:, :, None, None])
            assert module.bias is None or not module.bias.any(), name
            continue
        else:  # truncated normal; its fans count all channels of a depthwise convolution
            fan_in = weight[0, 0].numel() * module.in_channels
            std = (2 / (fan_in + weight[0, 0].numel() * module.out_channels)) ** 0.5
            largest, bias = 2 * std / 0.8796, 0.0
        assert weight.std().item() == pytest.approx(std, rel=4 / weight.numel() ** 0.5), name
        assert weight.abs().max() <= largest * 1.0001, name
        if module.bias is not None:
            assert (module.bias.abs().max() > 0) == (bias > 0), name
            assert module.bias.abs().max() <= bias, name


def test_the_initialisations_in_numbers() -> None:
    torch.manual_seed(0)
    small = create_model("yynet_small_16", preset="public_code")
    assert small.yin[1].depthwise.weight.std().item() == pytest.approx(0.042, abs=0.004)  # not fan-in 9's 0.0585
    assert small.yin[0].conv2.weight.std().item() == pytest.approx(0.048, abs=0.003)
    assert small.fc2.weight.std().item() == pytest.approx(0.092, abs=0.008)
    assert small.yin[0].conv1.bias.abs().max() > 0


@pytest.mark.parametrize("name", ["yynet_small_16", "yynet"])
def test_the_papers_initialisation_tensor_by_tensor(name: str) -> None:
    """Check every layer by the rule, with the true fan in of depthwise convolutions; shortcuts are the identity."""
    torch.manual_seed(0)
    for key, module in create_model(name).named_modules():
        if not isinstance(module, (nn.Conv2d, nn.Linear)):
            continue
        weight = module.weight
        if module.bias is not None:
            assert not module.bias.any(), key
        if "shortcut" in key:
            expected = torch.eye(*weight.shape[:2])[:, :, None, None]
            torch.testing.assert_close(weight, expected)
            continue
        area = weight[0, 0].numel() if weight.ndim == 4 else 1
        std = (2 / (area * (weight.shape[1] + weight.shape[0]))) ** 0.5
        assert weight.std().item() == pytest.approx(std, rel=4 / weight.numel() ** 0.5), key
        assert weight.abs().max() <= 2 * std / 0.8796 * 1.0001, key
