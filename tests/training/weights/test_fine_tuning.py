"""--init: a run that starts from a checkpoint's weights."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from taijitu_runtime.card import Architecture
from taijitu_runtime.errors import TaijituError
from taijitu_runtime.files import sha256_of
from taijitu_training import checkpoint
from taijitu_training.cli import main
from taijitu_training.errors import CheckpointError
from taijitu_training.models import model_options
from taijitu_training.tensors import read
from taijitu_training.tensors.read import read_weights
from taijitu_training.weights.fine_tuning import from_file, saved_network

STILL = [
    *("--recipe", "yynet_cifar10"),
    *("--set", "epochs=1", "--set", "batch_size=8", "--set", "lr=1e-12", "--set", "weight_decay=0"),
]


def train(data: Path, out: Path, *more: str | Path) -> int:
    return main(["--model", "yynet_small_16", "--data", str(data), "--out", str(out), *STILL, *map(str, more)])


@pytest.fixture(scope="module")
def before(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train a network that distinguishes blue from red."""
    out = tmp_path_factory.mktemp("before") / "run"
    assert train(tiny_data, out, "--set", "lr=0.01", "--set", "seed=7") == 0
    return out / "final.pt"


def weights(path: Path) -> dict[str, torch.Tensor]:
    """Return what training changes by normal steps, and not by steps of 1e-12."""
    return {name: value for name, value in checkpoint.load(path).state_dict.items() if "running" not in name}


def test_it_starts_from_the_weights_and_names_their_source(
    before: Path, tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(tiny_data, tmp_path / "a", "--init", before) == 0
    assert re.search(r"starts from final\.pt; .*: blue, red\n", capsys.readouterr().out)
    after = weights(tmp_path / "a" / "final.pt")
    for name, value in weights(before).items():
        if "num_batches_tracked" not in name:
            torch.testing.assert_close(after[name], value, atol=1e-6, rtol=0)
    origin = checkpoint.load(tmp_path / "a" / "final.pt").training["started_from"]
    assert origin["file"] == "final.pt"
    assert len(origin["sha256"]) == 64
    assert origin["train_sample"] == checkpoint.load(before).training["train_sample"]
    assert train(tiny_data, tmp_path / "a", "--set", "epochs=1", "--resume") == 0
    assert checkpoint.load(tmp_path / "a" / "last.pt").training["started_from"] == origin


def test_the_network_is_that_of_the_checkpoint(before: Path, tiny_data: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    assert train(tiny_data, first, "--preset", "public_code", "--option", "act=nish") == 0
    flags = ["--data", str(tiny_data), "--out", str(second), *STILL]
    assert main([*flags, "--init", str(first / "final.pt"), "--option", "dropout=0.1"]) == 0
    architecture = checkpoint.load(first / "final.pt").architecture
    expected = Architecture(architecture.name, {**architecture.options, "dropout": 0.1})
    assert checkpoint.load(second / "final.pt").architecture == expected
    assert main([*flags, "--resume"]) == 0
    assert checkpoint.load(second / "final.pt").architecture == expected


def test_pictures_that_the_weights_were_trained_on_and_that_judge_are_a_warning(
    before: Path, tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert train(tiny_data, tmp_path / "a", "--init", before) == 0
    assert capsys.readouterr().err == ""
    assert train(tiny_data, tmp_path / "b", "--init", before, "--validation", "0.25") == 0  # of what they learned
    assert "validation (0.25 of train) that the weights" in capsys.readouterr().err


def test_without_a_checkpoint_a_network_has_to_be_named(
    before: Path, tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = tmp_path / "weights.pth"
    torch.save(checkpoint.load(before).state_dict, weights)
    (tmp_path / "model.onnx").write_bytes(b"exported")
    for init, told in (
        ([], "--model"),
        (["--init", weights], "--model for the weights in"),
        (["--init", tmp_path / "no.pt"], "no.pt"),
        (["--init", tmp_path / "model.onnx"], "got a .onnx file"),
    ):
        assert main(["--data", str(tiny_data), "--out", str(tmp_path / "a"), *map(str, init)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert told in line


def test_other_labels_get_new_rows_and_all_else_is_kept(
    before: Path, tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = shutil.copytree(tiny_data, tmp_path / "data")
    for split in ("train", "test"):
        (data / split / "blue").rename(data / split / "azure")
        shutil.copytree(data / split / "red", data / split / "scarlet")
    assert train(data, tmp_path / "a", "--init", before) == 0
    assert re.search(r": red; .*: azure, scarlet\n", capsys.readouterr().out)
    old, new = weights(before), weights(tmp_path / "a" / "final.pt")
    head = [name for name in old if old[name].shape != new[name].shape]
    assert {new[name].shape[0] for name in head} == {3}
    for name, value in old.items():
        if name in head:
            torch.testing.assert_close(new[name][1], value[1], atol=1e-6, rtol=0)
            assert not torch.allclose(new[name][0], value[0])
        elif "num_batches_tracked" not in name:
            torch.testing.assert_close(new[name], value, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--model", "yynet_small_32"], "got weights of yynet_small_16, expected yynet_small_32; give --model"),
        (["--preset", "public_code"], "add --option 'act=gelu' --option 'fusion=a+i' --option 'yin_input=red'"),
        (["--set", "mean=0.5,0.5,0.5"], "mean=0.4914,0.4822,0.4465"),
        (["--resume"], "--resume, expected one of them"),
        (["--pretrained"], "--pretrained, expected one of them"),
    ],
)
def test_weights_that_do_not_fit_are_one_line(
    more: list[str], told: str, before: Path, tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(tiny_data, tmp_path / "a", "--init", before, *more) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line


def test_an_option_that_the_checkpoint_lacks_has_its_default(
    before: Path, tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = torch.load(before, weights_only=True)
    for option in ("yin_input", "init"):  # as if saved before these options existed
        del content["architecture"]["options"][option]
    torch.save(content, tmp_path / "old.pt")
    assert train(tiny_data, tmp_path / "a", "--init", tmp_path / "old.pt", "--option", "init=public_code") == 0
    capsys.readouterr()
    assert train(tiny_data, tmp_path / "b", "--init", tmp_path / "old.pt", "--option", "yin_input=mean") == 2
    assert "yin_input=red" in capsys.readouterr().err


def test_the_activation_may_be_another(before: Path, tiny_data: Path, tmp_path: Path) -> None:
    assert train(tiny_data, tmp_path / "a", "--init", before, "--option", "act=nish") == 0
    assert checkpoint.load(tmp_path / "a" / "final.pt").architecture.options["act"] == "nish"


RESNET = "timm/test_resnet"
QUICK = ["--set", "epochs=2", "--set", "batch_size=16", "--set", "freeze_epochs=1"]


@pytest.fixture(scope="module")
def published() -> dict[str, torch.Tensor]:
    """Save weights of a network of 1,000 labels, without "red", as if timm had published them."""
    torch.manual_seed(3)
    made: dict[str, torch.Tensor] = pytest.importorskip("timm").create_model("test_resnet").state_dict()
    return made


def fine_tune(data: Path, out: Path, *more: str | Path) -> int:
    command = ["--model", RESNET, "--data", data, "--out", out, *QUICK, "--option", "image_size=64", *more]
    return main([str(word) for word in command])


def test_a_file_of_weights_brings_its_preprocessing_and_the_body_is_frozen_first(
    published: dict[str, torch.Tensor], tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"state_dict": {f"model.{name}": value for name, value in published.items()}}, tmp_path / "lit.ckpt")
    assert fine_tune(tiny_data, tmp_path / "a", "--init", tmp_path / "lit.ckpt") == 0
    said = capsys.readouterr().out
    assert "recipe fine_tune" in said
    assert "lit.ckpt; the classification layer is new" in said
    made = checkpoint.load(tmp_path / "a" / "final.pt")
    assert made.input["mean"] == [0.5, 0.5, 0.5]
    assert (made.input["height"], made.input["resize_size"]) == (64, 67), "168 to 160, as timm has it"
    assert made.training["started_from"]["part"] == "state_dict"
    body_stays = ["--set", "body_lr=1e-9", "--set", "weight_decay=0"]
    assert fine_tune(tiny_data, tmp_path / "b", "--init", tmp_path / "lit.ckpt", *body_stays) == 0
    after = checkpoint.load(tmp_path / "b" / "final.pt").state_dict
    torch.testing.assert_close(after["network.conv1.0.weight"], published["conv1.0.weight"], atol=1e-6, rtol=0)
    torch.save({"weights": published["conv1.0.weight"]}, tmp_path / "other.pth")
    assert fine_tune(tiny_data, tmp_path / "c", "--init", tmp_path / "other.pth") == 2


@pytest.fixture
def cache(published: dict[str, torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a Hugging Face cache with weights of test_resnet, and an address that has none."""
    from huggingface_hub import constants
    from safetensors.torch import save_file

    commit = "0" * 40
    repository = tmp_path / "hub" / "models--timm--test_resnet.r160_in1k"
    (repository / "snapshots" / commit).mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    save_file(published, repository / "snapshots" / commit / "model.safetensors")
    nobody = "http://127.0.0.1:9"
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    for variable in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(variable, nobody)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "ENDPOINT", nobody)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", nobody + "/{repo_id}/resolve/{revision}/{filename}")
    return tmp_path / "hub"


def test_published_weights_come_from_the_cache_and_keep_labels_of_imagenet(
    cache: Path, published: dict[str, torch.Tensor], tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    for split in ("train", "test"):
        shutil.copytree(tiny_data / split / "red", data / split / "missile")
        shutil.copytree(tiny_data / split / "blue", data / split / "sky")
    still = ["--set", "lr=1e-9", "--set", "weight_decay=0"]
    assert fine_tune(data, tmp_path / "a", "--pretrained", "--offline", *still) == 0
    assert re.search(r"test_resnet\.r160_in1k; .*: missile; .*: sky", capsys.readouterr().out)
    made = checkpoint.load(tmp_path / "a" / "final.pt")
    torch.testing.assert_close(made.state_dict["network.fc.weight"][0], published["fc.weight"][657], atol=1e-6, rtol=0)
    assert made.training["started_from"]["licence"] == "apache-2.0"


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["timm/test_efficientnet", "--pretrained", "--offline"], ["model.safetensors", "test_efficientnet.r160_in1k"]),
        (["timm/test_efficientnet", "--pretrained"], ["model.safetensors", "hf download", "--init"]),
        (["timm/test_resnet", "--pretrained", "r160_in2k"], ["r160_in1k"]),
        (["timm/test_resnet", "--pretrained", "--option", "stem=cifar"], ["stem=cifar"]),
        (["yynet_small_16", "--pretrained"], ["timm/NAME", "torchvision/NAME"]),
        (["torchvision/mnasnet0_5", "--pretrained", "--offline"], ["mnasnet0.5_top1_67.823-3ffadce67e.pth", "--init"]),
        (["torchvision/mnasnet0_5", "--pretrained"], ["mnasnet0.5_top1_67.823-3ffadce67e.pth", "download"]),
        (["torchvision/mnasnet0_5", "--pretrained", "IMAGENET1K_V3"], ["IMAGENET1K_V1"]),
    ],
)
def test_missing_weights_are_one_line(
    flags: list[str], told: list[str], cache: Path, tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--model", *flags, "--data", str(tiny_data), "--out", str(tmp_path / "a")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert all(text in line for text in told), line


def test_published_weights_of_torchvision_come_from_torch_hubs_cache(
    cache: Path,
    tiny_data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(3)
    models = pytest.importorskip("torchvision.models")
    weights = models.mnasnet0_5().state_dict()
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    file = folder / "mnasnet0.5_top1_67.823-3ffadce67e.pth"
    torch.save(weights, file)
    still = ["--set", "lr=1e-9", "--set", "weight_decay=0"]
    model = ["--model", "torchvision/mnasnet0_5", "--pretrained", "--offline"]
    assert fine_tune(tiny_data, tmp_path / "a", *model, *still) == 2
    assert f"{file.name}: got a file with sha256 " in capsys.readouterr().err
    digest = sha256_of(file)[:10]
    monkeypatch.setattr(models.MNASNet0_5_Weights.DEFAULT.value, "url", f"https://example.org/mnasnet-{digest}.pth")
    file.rename(folder / f"mnasnet-{digest}.pth")
    assert fine_tune(tiny_data, tmp_path / "a", *model, *still) == 0
    assert "torchvision/mnasnet0_5.IMAGENET1K_V1" in capsys.readouterr().out
    made = checkpoint.load(tmp_path / "a" / "final.pt")
    first = made.state_dict["network.layers.0.weight"]
    torch.testing.assert_close(first, weights["layers.0.weight"], atol=1e-6, rtol=0)
    assert made.training["started_from"]["licence"] == "not stated"
    assert (made.input["height"], made.input["mean"]) == (64, [0.485, 0.456, 0.406])


@pytest.mark.parametrize(("sha256", "resize_size"), [("8738ca79", 256), ("5c1a4163", 232), ("0" * 64, None)])
def test_a_file_of_torchvision_is_known_by_its_hash(
    sha256: str, resize_size: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = "torchvision/mobilenet_v3_large"
    torch.save(pytest.importorskip("torchvision.models").mobilenet_v3_large(num_classes=2).state_dict(), tmp_path / "w")
    monkeypatch.setattr(read, "sha256_of", lambda path: sha256)
    if resize_size is not None:
        assert from_file(tmp_path / "w", model, model_options(model)).spec.resize_size == resize_size
        return
    with pytest.raises(CheckpointError, match=rf"w: .*IMAGENET1K_V2.*taijitu checkpoint --model {model}"):
        from_file(tmp_path / "w", model, model_options(model))


def test_a_run_that_started_from_weights_is_resumed_by_resume_alone(
    published: dict[str, torch.Tensor], tiny_data: Path, tmp_path: Path
) -> None:
    torch.save(published, tmp_path / "weights.pth")
    assert fine_tune(tiny_data, tmp_path / "a", "--init", tmp_path / "weights.pth", "--option", "image_size=96") == 0
    whole = ["--model", RESNET, "--data", str(tiny_data), "--out", str(tmp_path / "a"), *QUICK, "--resume"]
    assert main(whole) == 0


@pytest.mark.parametrize("read", [read_weights, saved_network])
def test_a_fifo_or_a_missing_file_is_named_and_not_waited_for(tmp_path: Path, read: Callable[[Path], object]) -> None:
    os.mkfifo(tmp_path / "fifo.pt")
    for name in ("fifo.pt", "missing.pt"):
        with pytest.raises(TaijituError, match=name):
            read(tmp_path / name)
