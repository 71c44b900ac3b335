"""--init: a run that starts from a checkpoint's weights."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from taijitu_training import checkpoint
from taijitu_training.cli import main

STILL = ["--set", "epochs=1", "--set", "batch_size=8", "--set", "lr=1e-12", "--set", "weight_decay=0"]


def train(data: Path, out: Path, *more: str | Path) -> int:
    return main(["--model", "yynet_small_16", "--data", str(data), "--out", str(out), *STILL, *map(str, more)])


@pytest.fixture(scope="module")
def before(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained network that tells blue from red."""
    out = tmp_path_factory.mktemp("before") / "run"
    assert train(tiny_data, out, "--set", "lr=0.01", "--set", "seed=7") == 0
    return out / "final.pt"


def weights(path: Path) -> dict[str, torch.Tensor]:
    """What training changes by steps, and steps of 1e-12 do not."""
    return {name: value for name, value in checkpoint.load(path).state_dict.items() if "running" not in name}


def test_it_starts_from_the_weights_and_tells_where_they_are_from(
    before: Path, tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(tiny_data, tmp_path / "a", "--init", before) == 0
    assert f"starts from {before}; new: nothing" in capsys.readouterr().out
    after = weights(tmp_path / "a" / "final.pt")
    for name, value in weights(before).items():
        if "num_batches_tracked" not in name:
            torch.testing.assert_close(after[name], value, atol=1e-6, rtol=0)
    origin = checkpoint.load(tmp_path / "a" / "final.pt").training["started_from"]
    assert origin["file"] == "final.pt"
    assert len(origin["sha256"]) == 64
    assert train(tiny_data, tmp_path / "a", "--set", "epochs=1", "--resume") == 0
    assert checkpoint.load(tmp_path / "a" / "last.pt").training["started_from"] == origin


def test_other_labels_get_a_new_layer_and_all_else_is_kept(
    before: Path, tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = shutil.copytree(tiny_data, tmp_path / "data")
    for split in ("train", "test"):
        shutil.copytree(data / split / "red", data / split / "scarlet")
    assert train(data, tmp_path / "a", "--init", before) == 0
    said = capsys.readouterr().out
    fresh = said.partition("; new: ")[2].splitlines()[0].split(", ")
    after = weights(tmp_path / "a" / "final.pt")
    assert {after[name].shape[0] for name in fresh} == {3}
    for name, value in weights(before).items():
        if name not in fresh and "num_batches_tracked" not in name:
            torch.testing.assert_close(after[name], value, atol=1e-6, rtol=0)


def test_as_many_labels_of_other_names_get_a_new_layer_too(before: Path, tiny_data: Path, tmp_path: Path) -> None:
    data = shutil.copytree(tiny_data, tmp_path / "data")
    for split in ("train", "test"):
        (data / split / "red").rename(data / split / "green")
    assert train(data, tmp_path / "a", "--init", before) == 0
    old, new = weights(before), weights(tmp_path / "a" / "final.pt")
    assert any(not torch.allclose(old[name], new[name]) for name in old if old[name].shape[:1] == (2,))


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--model", "yynet_small_32"], "got weights of yynet_small_16, expected yynet_small_32; give --model"),
        (["--preset", "public_code"], "add --option 'act=gelu' --option 'fusion=a+i' --option 'yin_input=red'"),
        (["--set", "mean=0.5,0.5,0.5"], "expected the same; add --set mean=0.4914,0.4822,0.4465"),
        (["--resume"], "got --init with --resume, expected one of them"),
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
    for option in ("yin_input", "init"):  # as if saved before there were such options
        del content["architecture"]["options"][option]
    torch.save(content, tmp_path / "old.pt")
    assert train(tiny_data, tmp_path / "a", "--init", tmp_path / "old.pt", "--option", "init=public_code") == 0
    capsys.readouterr()
    assert train(tiny_data, tmp_path / "b", "--init", tmp_path / "old.pt", "--option", "yin_input=mean") == 2
    assert "yin_input=red" in capsys.readouterr().err


def test_the_activation_may_be_another(before: Path, tiny_data: Path, tmp_path: Path) -> None:
    assert train(tiny_data, tmp_path / "a", "--init", before, "--option", "act=nish") == 0
    assert checkpoint.load(tmp_path / "a" / "final.pt").architecture["options"]["act"] == "nish"
