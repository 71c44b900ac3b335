"""The pictures of a checkpoint: which there are, their content, and one line for wrong input."""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from taijitu_runtime.card import Architecture, InputSpec
from taijitu_runtime.pictures.preprocess import preprocess
from taijitu_training import checkpoint
from taijitu_training.checkpoint import Checkpoint, plain_input
from taijitu_training.data import normalise
from taijitu_training.figures.activation import _minimum, _value_and_slope, activation_figure
from taijitu_training.figures.checkpoint_figures import (
    activation_figures,
    calls,
    feature_figures,
    kernel_figures,
    network_input,
    stages,
)
from taijitu_training.figures.cli import main
from taijitu_training.figures.kernels import FIXED, depthwise_layers, kernels_figure
from taijitu_training.models import create_activation, create_model, list_activations, list_models, model_options
from taijitu_training.models.vgnet import EDGES, GAUSSIANS
from taijitu_training.recipes.named import get_recipe
from tests.helpers.torchvision_transform import evaluation_transform


def saved(path: Path, name: str, size: tuple[int, int], **options: Any) -> Path:
    """Save a randomly initialised checkpoint for pictures of `size`."""
    torch.manual_seed(0)
    sides = {"height": size[0], "width": size[1], "resize_size": max(size)}
    spec = InputSpec(**sides, resize="shorter_side", mean=(0.5,) * 3, std=(0.25,) * 3)
    content = Checkpoint(
        state_dict=create_model(name, num_classes=2, **options).state_dict(),
        architecture=Architecture(name, model_options(name, num_classes=2, **options)),
        labels=["a", "b"],
        input=plain_input(spec),
        training={},
        producer=checkpoint.producer_versions(),
    )
    checkpoint.save(content, path)
    return path


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """Write 40 x 30 pixels of noise."""
    pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    return tmp_path / "picture.png"


def frames(png: bytes | Path, tmp_path: Path) -> bool:
    """Return whether the colour of the frames of fixed kernels is anywhere in the figure."""
    if isinstance(png, bytes):
        (tmp_path / "figure.png").write_bytes(png)
        png = tmp_path / "figure.png"
    colour = [int(FIXED[i : i + 2], 16) for i in (1, 3, 5)]
    return bool((np.asarray(Image.open(png).convert("RGB")) == colour).all(2).any())


def test_a_checkpoint_and_a_picture_give_every_figure(
    tmp_path: Path, picture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = saved(tmp_path / "best.pt", "yynet_small_16", (32, 32))
    assert main([str(source), "--image", str(picture)]) == 0
    names = [
        *("kernels_yin", "kernels_yang", "kernels_path", "activation"),
        *("features_yin", "features_yang", "features_path", "yin_yang"),
    ]
    out = tmp_path / "best_pictures"
    assert sorted(os.listdir(out)) == sorted(f"{name}.png" for name in names)
    assert sorted(capsys.readouterr().out.splitlines()) == sorted(str(out / f"{name}.png") for name in names)
    for name in names:
        with Image.open(out / f"{name}.png") as figure:
            assert min(figure.size) > 300
            assert np.asarray(figure.convert("L")).std() > 5


def test_the_picture_that_is_read_is_not_overwritten(
    tmp_path: Path, picture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, named_alike = saved(tmp_path / "a.pt", "mlp", (28, 28)), tmp_path / "activation.png"
    before = picture.rename(named_alike).read_bytes()
    assert main([str(source), "--image", str(named_alike), "--out", str(tmp_path)]) == 2
    assert str(named_alike) in capsys.readouterr().err
    assert named_alike.read_bytes() == before


def test_a_folder_whose_name_is_no_text_is_shown_escaped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = saved(tmp_path / "best.pt", "mlp", (28, 28))
    out = tmp_path / os.fsdecode(b"caf\xe9\n\x1b[31m")
    assert main([str(source), "--out", str(out)]) == 0
    assert (out / "activation.png").is_file()
    (line,) = capsys.readouterr().out.splitlines()
    assert line.endswith(r"caf\udce9\n\x1b[31m/activation.png")


def test_the_stages_of_vgnet_are_drawn_one_by_one(tmp_path: Path) -> None:
    source = saved(tmp_path / "a.pt", "vgnetf1_1_5mp", (64, 64))
    assert main([str(source), "--out", str(tmp_path / "deep" / "out")]) == 0
    names = [f"kernels_stages_{index}.png" for index in range(4)]
    assert sorted(os.listdir(tmp_path / "deep" / "out")) == ["activation.png", "kernels_last.png", *names]
    assert frames(tmp_path / "deep" / "out" / "kernels_stages_1.png", tmp_path)
    assert not frames(tmp_path / "deep" / "out" / "kernels_last.png", tmp_path)


def test_fixed_kernels_are_distinguished_from_learnt_ones(tmp_path: Path) -> None:
    layers = depthwise_layers(create_model("vgnetg_1_0mp").stages[1])
    assert [layer.fixed for layer in layers] == [True] + [False] * 6
    assert (layers[0].stride, layers[0].weight.shape) == (2, (56, 3, 3))
    assert frames(kernels_figure("both", layers), tmp_path)
    assert not frames(kernels_figure("learnt", layers[1:]), tmp_path)


def test_the_fixed_kernels_of_vgnetf_are_the_paper_s() -> None:
    downsampling, *mixing = depthwise_layers(create_model("vgnetf1_1_5mp").stages[0])
    assert torch.equal(downsampling.weight[:2], torch.stack((GAUSSIANS[0], -GAUSSIANS[0])))
    assert all(torch.equal(layer.weight[:8], torch.cat((EDGES, GAUSSIANS))) for layer in mixing)


@pytest.mark.parametrize("name", [name for name in list_models() if name != "mlp"])  # which has no convolution
def test_every_depthwise_convolution_of_every_network_belongs_to_a_stage(name: str) -> None:
    model = create_model(name, num_classes=2)
    parts = stages(model)
    found = sum(len(depthwise_layers(part)) for part in parts.values())
    assert found == len(depthwise_layers(model)) > 0
    # and each stage is a part that runs, so that it has something to show
    assert not any(isinstance(part, nn.ModuleList) for part in parts.values())


def test_other_networks_are_drawn_as_far_as_they_can_be(capsys: pytest.CaptureFixture[str]) -> None:
    wide = nn.Sequential(nn.Conv2d(4, 8, 5, groups=4), nn.Conv2d(8, 3, 1))
    assert [name for name, _ in kernel_figures("wide", nn.Sequential(wide))] == ["kernels_0"]
    assert depthwise_layers(wide)[0].weight.shape == (8, 5, 5)
    for network in (nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()), nn.Sequential(nn.Flatten(), nn.Linear(3, 2))):
        assert list(kernel_figures("other", network)) == []
        error = capsys.readouterr().err
        assert error == "taijitu visualize: kernels: not drawn, other has no depthwise convolution\n"


def test_the_stages_of_another_librarys_network_are_its_own() -> None:
    pytest.importorskip("timm")
    model = create_model("timm/test_efficientnet", num_classes=2, image_size=32).eval()
    assert {"conv_stem", "blocks.0", "blocks.1"} <= stages(model).keys()
    pixels, x = np.zeros((32, 32, 3), np.uint8), torch.zeros(1, 3, 32, 32)
    assert "features_blocks_1" in [name for name, _ in feature_figures("timm/test_efficientnet", model, pixels, x)]


def test_the_activations_of_another_librarys_network_are_not_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(activation_figures("torchvision/squeezenet1_1", "own")) == []
    assert "activation: not drawn, torchvision/squeezenet1_1 keeps" in capsys.readouterr().err


class Pyramid(nn.Module):
    """Maps of two sizes, which cannot be drawn as the channels of one stage."""

    def forward(self, x: Tensor) -> list[Tensor]:
        return [x, x[:, :, ::2, ::2]]


class Pair(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x


def test_stages_without_maps_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    pixels, x = np.zeros((8, 8, 3), np.uint8), torch.zeros(1, 3, 8, 8)
    flat = nn.Sequential(nn.Flatten(), nn.Linear(192, 2))
    assert list(feature_figures("flat", flat, pixels, x)) == []
    error = capsys.readouterr().err
    assert error.startswith("taijitu visualize: features: not drawn, ")
    assert error.count("\n") == 1
    assert [name for name, _ in feature_figures("p", nn.Sequential(nn.ReLU(), Pyramid()), pixels, x)] == ["features_0"]
    assert [name for name, _ in feature_figures("p", nn.Sequential(Pair()), pixels, x)] == ["features_0"]


def test_a_picture_goes_through_the_checkpoint_s_own_contract(tmp_path: Path, picture: Path) -> None:
    contract = checkpoint.load(saved(tmp_path / "a.pt", "yynet_small_16", (24, 28))).card().input
    pixels = preprocess(picture, contract)
    with Image.open(picture) as image:
        np.testing.assert_array_equal(pixels, evaluation_transform(image, (24, 28), 28))
    recipe = get_recipe("yynet_cifar10", {"mean": (0.5,) * 3, "std": (0.25,) * 3})
    torch.testing.assert_close(network_input(pixels, contract), normalise(torch.tensor(pixels)[None], recipe))


def test_the_figures_of_yynet_show_what_it_computes() -> None:
    model = create_model("yynet_small_16", fusion="a*i", yin_input="mean").eval()
    x = torch.randn(1, 3, 32, 32)
    seen = calls(model, {"yin": model.yin, "yang": model.yang, "path": model.path}, x)
    torch.testing.assert_close(seen["yin"][0][0], x.mean(1, keepdim=True))
    torch.testing.assert_close(seen["path"][0][0], seen["yang"][1] * seen["yin"][1])
    assert not any(part._forward_hooks for part in model.modules())


@pytest.mark.parametrize("act", list_activations())
def test_activations_are_drawn_with_their_minimum(act: str) -> None:
    known = {"silu": -1.2785, "gelu": -0.7518, "mish": -1.1924, "hardswish": -1.5, "nish": -1.0829}
    function = create_activation(act)
    assert activation_figure(function).startswith(b"\x89PNG")
    x = torch.linspace(-6, 6, 12_001, dtype=torch.float64)
    value, slope = _value_and_slope(function, x)
    lowest = _minimum(value)
    assert (lowest is None) == (act == "relu")
    if lowest is not None:
        assert float(x[lowest]) == pytest.approx(known[act], abs=1e-3)
        assert float(slope[lowest]) == pytest.approx(0.0, abs=1e-3)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["missing.pt"], "missing.pt: no such file; give a checkpoint"),
        (["{picture}"], "not a PyTorch file"),
        (["{checkpoint}", "--image", "missing.jpg"], "missing.jpg: got nothing (No such file"),
        (["{checkpoint}", "--image", "{checkpoint}"], "got no picture"),
        (["{checkpoint}", "--out", "/dev/null/out"], "got --out /dev/null/out, which cannot be a folder"),
        (["{checkpoint}", "--out", "{picture}"], "which cannot be a folder (File exists)"),
        (["{checkpoint}", "--picture", "x"], "--picture"),
        ([], "the following arguments are required: checkpoint; see taijitu visualize --help"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(
    tmp_path: Path, picture: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], text: str
) -> None:
    source = saved(tmp_path / "a.pt", "yynet_small_16", (32, 32))
    filled = [argument.format(checkpoint=source, picture=picture) for argument in arguments]
    assert main(filled) == 2
    error = capsys.readouterr().err
    assert text in error
    assert error.startswith("taijitu visualize: ")
    assert error.count("\n") == 1


@pytest.mark.parametrize("change", [{"resize_size": None}, {"std": [0.5]}, {"height": 0}, {"mean": "grey"}])
def test_an_impossible_contract_is_one_line(
    tmp_path: Path, picture: Path, capsys: pytest.CaptureFixture[str], change: dict[str, object]
) -> None:
    source = saved(tmp_path / "a.pt", "yynet_small_16", (32, 32))
    content = torch.load(source, weights_only=True)
    content["input"] |= change
    torch.save(content, source)
    assert main([str(source), "--image", str(picture)]) == 2
    error = capsys.readouterr().err
    assert f"input.{next(iter(change))}" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "a_pictures").exists()


def test_the_script_prints_the_path_of_every_figure(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["visualize.py", str(saved(tmp_path / "a.pt", "yynet_small_16", (32, 32)))])
    with pytest.raises(SystemExit) as left:
        runpy.run_path(str(root / "training" / "visualize.py"), run_name="__main__")
    assert left.value.code == 0
    printed = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert [path.parent.name for path in printed] == ["a_pictures"] * 4
    assert all(path.is_file() for path in printed)
