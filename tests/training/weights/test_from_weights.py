"""`taijitu checkpoint`: usual files of weights become checkpoints, or one line says why not."""

from __future__ import annotations

import argparse
import os
import shutil
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from taijitu_runtime.card import Architecture
from taijitu_runtime.errors import UsageError
from taijitu_training import checkpoint
from taijitu_training.errors import CheckpointError
from taijitu_training.models import create_model
from taijitu_training.tensors.read import read_weights
from taijitu_training.weights.cli import main
from taijitu_training.weights.from_weights import checkpoint_from_weights
from taijitu_training.weights.matching import match_by_name
from tests.helpers.flipped_bit import flip_a_bit_of_the_weights

MODEL = "timm/test_resnet"
LABELS = ["blue", "red", "none"]
Convert = Callable[..., int]


class Runs:
    """An object whose unpickling runs code."""

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, ("raise SystemExit('code of the file was run')",)


class Whole(nn.Module):
    """A class that the reader of the file does not have."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(1)
    module: nn.Module = pytest.importorskip("timm").create_model("test_resnet", num_classes=3)
    return module.eval()


@pytest.fixture
def convert(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Convert:
    """Save `content` as a file and make a checkpoint of it; the output is in `convert.said`."""
    (tmp_path / "labels.txt").write_text("".join(f"{label}\n" for label in LABELS))

    def run(content: Any, *more: str, name: str = "weights.pth", model: str = MODEL) -> int:
        if content is not None:
            torch.save(content, tmp_path / name)
        flags = ["--model", model, "--labels", str(tmp_path / "labels.txt"), "-o", str(tmp_path / "made.pt")]
        code = main([str(tmp_path / name), *flags, *more])
        out, err = capsys.readouterr()
        run.said = out + err  # type: ignore[attr-defined]
        assert len(err.splitlines()) == (1 if code else 0)
        assert (tmp_path / "made.pt").exists() == (code == 0)
        return code

    return run


def prefixed(weights: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {prefix + name: value for name, value in weights.items()}


def answers(path: Path) -> Tensor:
    picture = torch.ones(1, 3, 160, 160) * torch.tensor([0.5, -0.5, 1.0])[:, None, None]
    with torch.inference_mode():
        logits: Tensor = checkpoint.load(path).model()(picture)
    return logits


CONTAINERS: dict[str, Callable[[nn.Module, dict[str, Tensor]], Any]] = {
    "plain": lambda net, weights: weights,
    "half": lambda net, weights: {k: v.half() if v.is_floating_point() else v for k, v in weights.items()},
    "data parallel and compiled": lambda net, weights: prefixed(weights, "module._orig_mod."),
    "lightning": lambda net, weights: {
        "pytorch-lightning_version": "2.5",
        "hyper_parameters": argparse.Namespace(lr=1.0),
        "state_dict": prefixed(weights, "model.") | {"loss.weight": torch.ones(3)},
    },
    "timm's trainer": lambda net, weights: {
        "epoch": 3,
        "args": argparse.Namespace(model="x", path=Path("y")),
        "optimizer": {"state": {0: {"step": torch.ones(1)}}},
        "state_dict": {name: value * 0 for name, value in weights.items()},
        "state_dict_ema": weights,
        "metric": Runs(),
    },
    "8 bits": lambda net, weights: {
        k: v.to(torch.float8_e4m3fn) if k == "fc.weight" else v for k, v in weights.items()
    },
    "average with its wrapper's name": lambda net, weights: (
        prefixed({name: value * 0 for name, value in weights.items()}, "model.") | prefixed(weights, "net_EMA.module.")
    ),
    "swa": lambda net, weights: {"n_averaged": torch.tensor(3)} | prefixed(weights, "module."),
    "whole module": lambda net, weights: Whole(net),
}


@pytest.mark.parametrize("container", CONTAINERS)
def test_weights_are_found_in_what_people_save(
    container: str, network: nn.Module, convert: Any, tmp_path: Path
) -> None:
    assert convert(CONTAINERS[container](network, network.state_dict())) == 0
    made = checkpoint.load(tmp_path / "made.pt")
    assert made.labels == LABELS
    assert (made.input["height"], made.input["resize_size"]) == (160, 168)
    assert len(made.source_sha256) == 64
    exact = {"atol": 2e-2 if container in ("half", "8 bits") else 0.0, "rtol": 0.0}
    for name, value in network.state_dict().items():
        torch.testing.assert_close(made.state_dict[f"network.{name}"], value, **exact)
    names = {"lightning": ('"model."', "loss.weight", "Lightning"), "timm's trainer": ("state_dict_ema", "--key")}
    assert all(name in convert.said for name in names.get(container, ()))


def test_safetensors_and_the_fields_of_the_input(network: nn.Module, convert: Any, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file(network.state_dict(), tmp_path / "weights.bin")
    flags = ["--mean", *"000", "--std", *"111", "--size", "96", "--interpolation", "bicubic", "--option", "act=nish"]
    assert convert(None, *flags, name="weights.bin") == 0
    made = checkpoint.load(tmp_path / "made.pt")
    assert made.architecture.options == {"num_classes": 3, "act": "nish", "image_size": 96, "stem": "own"}
    assert (made.input["height"], made.input["resize_size"], made.input["mean"]) == (96, 101, [0.0, 0.0, 0.0])
    assert made.input["interpolation"] == "bicubic_antialias"
    (tmp_path / "made.pt").unlink()
    assert convert(None, "--map", "order", name="weights.bin") == 2  # they have the order of their names
    assert "safetensors" in convert.said


def test_what_is_read_is_not_overwritten(network: nn.Module, convert: Any, tmp_path: Path) -> None:
    for name in ("weights.pth", "labels.txt"):
        assert convert(network.state_dict(), "-o", str(tmp_path / name)) == 2
        assert name in convert.said
    assert (tmp_path / "labels.txt").read_text().split() == list(LABELS)


def test_names_of_another_library_are_matched_by_their_order(network: nn.Module, convert: Any, tmp_path: Path) -> None:
    theirs = {
        f"layer{i:03d}.{name.rpartition('.')[2]}": value
        for i, (name, value) in enumerate(network.state_dict().items())
        if "num_batches" not in name
    }
    assert convert(theirs) == 2
    assert "--map order" in convert.said
    assert convert(theirs, "--map", "order") == 0
    assert "layer000.weight is conv1.0.weight" in convert.said
    for name, value in network.state_dict().items():
        assert torch.equal(checkpoint.load(tmp_path / "made.pt").state_dict[f"network.{name}"], value)
    (tmp_path / "made.pt").unlink()
    swapped = dict([*list(theirs.items())[1:], *list(theirs.items())[:1]])
    assert convert(swapped, "--map", "order") == 2
    assert convert(dict(list(theirs.items())[:-1]), "--map", "order") == 2


def without_head(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in weights.items() if not name.startswith("fc.")}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (without_head, ["fc.weight", "--init"]),
        (lambda w: w | {"fc.weight": torch.ones(10, 96), "fc.bias": torch.ones(10)}, ["10 labels", "3"]),
        (lambda w: w | {"conv1.0.weight": w["conv1.0.weight"][:, :1]}, ["conv1.0.weight", "grey"]),
        (lambda w: w | {"conv1.0.weight": w["conv1.0.weight"] * torch.nan}, ["conv1.0.weight", "NaN"]),
        (lambda w: w | {"fc.bias": torch.empty(3, device="meta")}, ["fc.bias", "meta"]),
        (lambda w: w | {"fc.bias": torch.ones(3).to_sparse()}, ["fc.bias", "sparse"]),
        (lambda w: w | {"fc.bias": torch.ones(1).expand(10**12)}, ["fc.bias", "4 bytes"]),
        (lambda w: w | {"fc.bias": torch.ones(3, dtype=torch.uint8).view(torch.float4_e2m1fn_x2)}, ["fc.bias"]),
        (lambda w: w | {"fc.bias": torch.ones(3, dtype=torch.int8)}, ["fc.bias", "int8", "quantised"]),
        (lambda w: w | {"fc.bias": torch.full((3,), -1e39, dtype=torch.float64)}, ["fc.bias", "1e+39", "float32"]),
        (lambda w: w | {"_orig_mod.fc.bias": torch.ones(3)}, [" fc.bias", "_orig_mod.fc.bias"]),
        (
            lambda w: prefixed(w, "module.") | {"module._orig_mod.fc.bias": torch.ones(3)},
            ["module.fc.bias", "module._orig_mod.fc.bias"],
        ),
        (lambda w: prefixed(w, "module.") | {"fc.bias": torch.ones(3)}, [" fc.bias", "module.fc.bias", "--prefix"]),
        (lambda w: w | {"layer9.conv.weight": torch.ones(3)}, ["layer9.conv.weight", "--leave-out"]),
        (lambda w: {"student": w, "teacher": w}, ["student", "teacher", "--key"]),
        (lambda w: prefixed(w, "a.") | prefixed(w, "b."), ["a.", "b.", "--prefix"]),
        (lambda w: prefixed(w, "net.") | prefixed(w, "semantic."), ["net.", "semantic.", "--prefix"]),
        (lambda w: {"epoch": 3}, ["without weights"]),
        (lambda w: {"x": [w]}, ["without weights"]),
    ],
    ids=lambda value: "" if callable(value) else value[0],
)
def test_weights_that_do_not_fit_are_one_line(
    change: Callable[[dict[str, Tensor]], Any], told: list[str], network: nn.Module, convert: Any
) -> None:
    assert convert(change(network.state_dict())) == 2
    assert all(text in convert.said for text in told), convert.said


def test_prefix_and_key_select_the_weights(network: nn.Module, convert: Any) -> None:
    weights = network.state_dict()
    assert convert({"student": weights, "teacher": weights}, "--key", "student") == 0
    assert convert(prefixed(weights, "a.") | prefixed(weights, "b."), "--prefix", "a.") == 0
    assert "left out: b.conv1.0.weight" in convert.said
    assert convert(prefixed(weights, "module.") | {"fc.bias": torch.ones(3)}, "--prefix", "module.") == 0
    assert "left out: fc.bias" in convert.said
    assert convert(prefixed(weights, "ema.") | {name: value * 0 for name, value in weights.items()}) == 0
    assert len(convert.said) < 1500, "hundreds of names"
    assert convert(weights | {"layer9.conv.weight": torch.ones(3)}, "--leave-out", "layer9.*") == 0


def test_one_pattern_in_place_of_several_does_not_leave_out_everything(network: nn.Module, tmp_path: Path) -> None:
    torch.save(network.state_dict() | {"layer9.conv.weight": torch.ones(3)}, tmp_path / "weights.pth")
    with pytest.raises(UsageError, match="leave_out"):
        checkpoint_from_weights(tmp_path / "weights.pth", MODEL, LABELS, leave_out="aux.*")


def test_one_label_is_refused(network: nn.Module, tmp_path: Path) -> None:
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    with pytest.raises(UsageError, match="two or more"):
        checkpoint_from_weights(tmp_path / "weights.pth", MODEL, LABELS[:1])


def test_weights_of_another_network_are_not_taken_for_several_sets_of_this_one(convert: Any) -> None:
    blocks = {f"blocks.{i}.{name}": torch.ones(8) for i in range(3) for name in ("bn1.weight", "bn1.bias")}
    assert convert(blocks, model="timm/resnet18") == 2
    assert "--model" in convert.said
    assert "--prefix" not in convert.said
    assert convert(blocks, model="resnet18") == 2
    assert "timm/resnet18" in convert.said


def test_files_that_are_not_weights_are_one_line(network: nn.Module, convert: Any, tmp_path: Path) -> None:
    torch.save(network.state_dict(), tmp_path / "whole.pth")
    whole = (tmp_path / "whole.pth").read_bytes()
    for content in (b"", b"\x89HDF\r\n", whole[: len(whole) // 2], b"\x80\x02garbage", b"\xff" * 8 + b"{garbage"):
        (tmp_path / "weights.pth").write_bytes(content)
        assert convert(None) == 2
        assert "weights.pth" in convert.said
    assert convert(None, name="absent.pth") == 2
    torch.save({"state_dict": network.state_dict(), "x": Systems()}, tmp_path / "weights.pth")
    assert convert(None) == 2, "what wants os is refused even as a stand-in"


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_archives_of_another_kind_are_not_called_damaged(network: nn.Module, convert: Any, tmp_path: Path) -> None:
    """They are whole, and to get them again does not help."""
    torch.save(network.state_dict(), tmp_path / "inner.pth")
    with zipfile.ZipFile(tmp_path / "weights.pth", "w") as archive:
        archive.write(tmp_path / "inner.pth", "inner.pth")
    torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2)).save(str(tmp_path / "script.pth"))
    for name, told in (("weights.pth", "inner.pth"), ("script.pth", "TorchScript")):
        assert convert(None, name=name) == 2
        assert told in convert.said
        assert "damaged" not in convert.said
        with pytest.raises(CheckpointError, match=told) as caught:
            checkpoint.load(tmp_path / name)
        assert "damaged" not in str(caught.value)


@pytest.mark.filterwarnings("ignore:.*quantize_per_tensor:UserWarning")
def test_quantised_tensors_are_one_line_without_torchs_warnings(
    network: nn.Module, convert: Any, tmp_path: Path
) -> None:
    bias = torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        torch.save(network.state_dict() | {"fc.bias": bias}, tmp_path / "weights.pth")
        said.clear()
        assert convert(None) == 2
    assert "qint8" in convert.said
    assert not [warning for warning in said if warning.category is UserWarning]


def within_itself() -> dict[str, Any]:
    content: dict[str, Any] = {"epoch": torch.ones(1)}
    content["model"] = content
    return content


def module_within_itself() -> nn.Module:
    module = nn.Module()
    module._modules = {"conv": nn.Linear(2, 2), "self": module}
    return module


def modules_within_each_other() -> nn.Module:
    module: nn.Module = nn.Linear(2, 2)
    for _ in range(24):
        outer = nn.Module()
        outer._modules = {"one": module, "two": module}
        module = outer
    return module


@pytest.mark.parametrize("content", [within_itself, module_within_itself, modules_within_each_other])
def test_a_file_whose_parts_are_in_each_other_ends_in_one_line(content: Callable[[], Any], convert: Any) -> None:
    assert convert(content()) == 2
    assert "weights.pth" in convert.said


class Systems:
    """A pickle that would call os.system."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("echo code of the file was run",)


def test_indices_are_taken_in_any_type_that_has_them_and_no_others() -> None:
    network = nn.Linear(2, 2)
    network.register_buffer("places", torch.tensor([0, 300]))
    for places in (torch.tensor([0, 300], dtype=torch.int16), torch.tensor([0.0, 300.0])):
        match = match_by_name(network.state_dict() | {"places": places}, network)
        assert torch.equal(match.tensors["places"], torch.tensor([0, 300]))
    with pytest.raises(CheckpointError, match="places"):
        match_by_name(network.state_dict() | {"places": torch.tensor([0.0, 300.5])}, network)


def test_a_tensor_that_is_used_several_times_may_be_in_the_file_once() -> None:
    network = create_model("timm/coat_lite_tiny", num_classes=3)
    assert not any(value.is_meta for value in network.state_dict().values())
    weights = {name.removeprefix("network."): value for name, value in network.state_dict().items()}
    once = {name: value for name, value in weights.items() if ".cpe." not in name}
    assert len(once) < len(weights)
    match = match_by_name(once, network)
    assert not match.missing
    assert match.tensors.keys() == network.state_dict().keys()


def test_a_network_that_reads_the_version_of_its_weights_gets_its_own(convert: Any, tmp_path: Path) -> None:
    """torchvision's MNASNet refuses tensors without a version, which neither a checkpoint nor .safetensors keep."""
    torch.manual_seed(1)
    module = pytest.importorskip("torchvision.models").mnasnet0_5(num_classes=3)
    module.eval()
    assert convert(dict(module.state_dict()), "--size", "64", model="torchvision/mnasnet0_5") == 0
    picture = torch.ones(1, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(checkpoint.load(tmp_path / "made.pt").model()(picture), module(picture))


def by_authors(module: nn.Module) -> dict[str, torch.Tensor]:
    """Use the names of ConvNeXt's authors, who call its stem downsample_layers.0."""
    renamed = {
        "stem.": "downsample_layers.0.", "stages.0.blocks.": "stages.0.", ".conv_dw.": ".dwconv.",
        ".mlp.fc1.": ".pwconv1.", ".mlp.fc2.": ".pwconv2.", "head.norm.": "norm.", "head.fc.": "head.",
    }  # fmt: skip
    theirs = {}
    for name, value in module.state_dict().items():
        for ours, authors in renamed.items():
            name = name.replace(ours, authors)
        for stage in (1, 2, 3):
            name = name.replace(f"stages.{stage}.downsample.", f"downsample_layers.{stage}.")
            name = name.replace(f"stages.{stage}.blocks.", f"stages.{stage}.")
        theirs[name] = value
    return theirs


def test_published_names_of_a_networks_authors_are_renamed_by_timm(tmp_path: Path) -> None:
    from taijitu_training.weights.fitting import match_weights

    timm = pytest.importorskip("timm")
    module = timm.create_model("test_convnext", num_classes=3)
    torch.save(by_authors(module), tmp_path / "authors.pth")
    architecture = Architecture("timm/test_convnext", create_options("timm/test_convnext"))
    match = match_weights(read_weights(tmp_path / "authors.pth"), architecture, by_order=False, prefix=None)
    assert "timm" in match.how
    for name, value in module.state_dict().items():
        assert torch.equal(match.tensors[f"network.{name}"], value)


def test_position_embeddings_of_another_image_size_are_not_resized_in_silence(convert: Any, tmp_path: Path) -> None:
    """Training may start from resized ones; a checkpoint would answer otherwise than the network of the file."""
    from taijitu_training.weights.fine_tuning import from_file

    timm, model = pytest.importorskip("timm"), "timm/test_vit"
    weights = timm.create_model("test_vit", num_classes=3, img_size=96).state_dict()
    assert convert(weights, model=model) == 2
    assert "pos_embed" in convert.said
    assert "--size" in convert.said
    started = from_file(tmp_path / "weights.pth", model, create_options(model))
    assert started.tensors["network.pos_embed"].shape == (1, 101, 64)
    assert convert(weights, "--size", "96", model=model) == 0
    assert torch.equal(checkpoint.load(tmp_path / "made.pt").state_dict["network.pos_embed"], weights["pos_embed"])


def test_training_starts_from_such_a_file_whatever_its_order(tmp_path: Path) -> None:
    """.safetensors are sorted by name: the last tensor is not of the classification layer."""
    from safetensors.torch import save_file

    from taijitu_training.weights.fine_tuning import from_file

    module = pytest.importorskip("timm").create_model("test_convnext", num_classes=5)
    save_file(dict(sorted(by_authors(module).items())), tmp_path / "authors.safetensors")
    start = from_file(tmp_path / "authors.safetensors", "timm/test_convnext", create_options("timm/test_convnext"))
    for name, value in module.state_dict().items():
        assert torch.equal(start.tensors[f"network.{name}"], value)


def create_options(name: str) -> dict[str, Any]:
    from taijitu_training.models import model_options

    return model_options(name, 3)


def test_it_is_judged_before_it_is_written(network: nn.Module, convert: Any, tiny_data: Path, tmp_path: Path) -> None:
    weights = network.state_dict()
    with torch.no_grad():
        for name in ("fc.weight", "fc.bias"):
            weights[name] = torch.zeros_like(weights[name])
        weights["fc.bias"] = torch.tensor([1.0, 0.0, 0.0])
    assert convert(weights, "--data", str(tiny_data)) == 1, "it answers blue for everything"
    assert "50.00 %" in convert.said
    blue = tmp_path / "data"
    shutil.copytree(tiny_data / "test" / "blue", blue / "blue")
    assert convert(weights, "--data", str(blue)) == 1, "six pictures of one label show nothing"
    for i in range(3):
        shutil.copytree(tiny_data / "train" / "blue", blue / "blue" / str(i))
    (blue / "red").mkdir()
    shutil.copy(tiny_data / "test" / "red" / "00.png", blue / "red")
    assert convert(weights, "--data", str(blue)) == 1, "nearly all are blue, which it answers for everything"
    assert "78 of 79" in convert.said
    shutil.rmtree(blue / "red")
    (blue / "blue" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n, cut off")
    assert convert(weights, "--data", str(blue)) == 2
    assert convert(weights, "--data", str(blue), "--skip-unreadable") == 0
    assert "left out: " in convert.said
    assert "broken.png" in convert.said
    assert checkpoint.load(tmp_path / "made.pt").training["metrics"]["eval_top1"] == 100.0


def test_a_checkpoint_does_not_lose_its_options_and_preprocessing(
    network: nn.Module, convert: Any, tmp_path: Path
) -> None:
    assert convert(network.state_dict(), "--mean", "0.1", "--option", "act=nish") == 0
    (tmp_path / "made.pt").rename(tmp_path / "before.pt")
    assert convert(None, name="before.pt") == 2
    assert "taijitu onnx" in convert.said


def test_a_network_of_taijitu_needs_its_normalisation(convert: Any) -> None:
    weights = create_model("yynet_small_16", num_classes=3).state_dict()
    assert convert(weights, model="yynet_small_16") == 2
    assert "mean and no std" in convert.said
    assert convert(weights, "--mean", "0.5", "0.5", "0.5", "--std", "1", "1", "1", model="yynet_small_16") == 0


@pytest.mark.parametrize("labels", ["", "blue\n\nred\nnone\n", "blue\nblue\nred\n", "\udcff\n"])
def test_impossible_labels_are_one_line(labels: str, network: nn.Module, tmp_path: Path) -> None:
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    (tmp_path / "bad.txt").write_bytes(labels.encode("utf-8", "surrogateescape"))
    flags = ["--model", MODEL, "--labels", str(tmp_path / "bad.txt"), "-o", str(tmp_path / "made.pt")]
    assert main([str(tmp_path / "weights.pth"), *flags]) == 2
    assert not (tmp_path / "made.pt").exists()


def test_a_changed_weight_is_refused_where_the_file_has_checksums(tmp_path: Path) -> None:
    weights, path = {"a": torch.zeros(1000)}, tmp_path / "a.pth"
    torch.save(weights, path)
    flip_a_bit_of_the_weights(path)
    with pytest.raises(CheckpointError, match="damaged"):
        read_weights(path)
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(weights, path)
    finally:
        torch.serialization.set_crc32_options(True)
    assert torch.equal(read_weights(path).tensors["a"], weights["a"])
