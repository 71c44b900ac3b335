"""Checkpoints: complete, undamaged, and never run as code."""

from __future__ import annotations

import contextlib
import os
import pickle
import zipfile
from pathlib import Path
from typing import BinaryIO

import pytest
import torch
from safetensors.torch import save_file

from taijitu_runtime.card import Architecture
from taijitu_runtime.errors import WriteError
from taijitu_training import checkpoint
from taijitu_training.checkpoint import Checkpoint
from taijitu_training.errors import CheckpointError
from taijitu_training.models import create_model, model_options
from tests.helpers.flipped_bit import flip_a_bit_of_the_weights
from tests.helpers.full_disk import full_disk


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    model = create_model("yynet_small_16", num_classes=3)
    content = Checkpoint(
        state_dict=model.state_dict(),
        architecture=Architecture("yynet_small_16", model_options("yynet_small_16", num_classes=3)),
        labels=["a", "b", "c"],
        input={"height": 32, "width": 32},
        training={"recipe": {}},
        producer=checkpoint.producer_versions(),
    )
    checkpoint.save(content, tmp_path / "ckpt.pt")
    return tmp_path / "ckpt.pt"


def test_what_was_saved_is_loaded_and_answers_the_same(saved: Path) -> None:
    loaded = checkpoint.load(saved)
    torch.manual_seed(0)
    x = torch.randn(2, 3, 32, 32)
    model = create_model("yynet_small_16", num_classes=3)
    model.load_state_dict(loaded.state_dict)
    assert torch.equal(loaded.model()(x), model.eval()(x))
    assert loaded.labels == ["a", "b", "c"]
    assert not loaded.model().training
    assert os.listdir(saved.parent) == ["ckpt.pt"]


def test_pickled_code_is_refused_and_not_run(tmp_path: Path) -> None:
    witness = tmp_path / "ran"

    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return os.mkdir, (str(witness),)

    torch.save({"state_dict": Evil(), "format_version": 1}, tmp_path / "evil.pt")
    with pytest.raises(CheckpointError, match=r"evil\.pt"):
        checkpoint.load(tmp_path / "evil.pt")
    (tmp_path / "legacy.pt").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(CheckpointError, match=r"legacy\.pt"):
        checkpoint.load(tmp_path / "legacy.pt")
    assert not witness.exists()


def test_files_that_are_not_checkpoints_are_refused_in_one_line(saved: Path, tmp_path: Path) -> None:
    whole = saved.read_bytes()
    cases = {
        "truncated.pt": whole[: len(whole) // 2],
        "empty.pt": b"",
        "text.pt": b"hello",
    }
    for name, content in cases.items():
        (tmp_path / name).write_bytes(content)
    torch.save({"weights": torch.zeros(3)}, tmp_path / "foreign.pt")
    with zipfile.ZipFile(tmp_path / "zip.pt", "w") as archive:
        archive.writestr("a.txt", "hello")
    with pytest.raises(CheckpointError, match="taijitu checkpoint"):
        checkpoint.load(tmp_path / "foreign.pt")
    save_file({"weights": torch.zeros(3)}, tmp_path / "weights.safetensors")
    with pytest.raises(CheckpointError, match=r"safetensors.* taijitu checkpoint"):
        checkpoint.load(tmp_path / "weights.safetensors")
    (tmp_path / "model.onnx").write_bytes(b"\x08\x08")
    with pytest.raises(CheckpointError, match=r"model\.onnx"):
        checkpoint.load(tmp_path / "model.onnx")
    (tmp_path / "folder.pt").mkdir()
    with pytest.raises(CheckpointError, match=r"folder\.pt: got a folder"):
        checkpoint.load(tmp_path / "folder.pt")
    for name in (*cases, "zip.pt", "missing.pt"):
        with pytest.raises(CheckpointError) as error:
            checkpoint.load(tmp_path / name)
        text = str(error.value)
        assert name in text
        assert "\n" not in text
        assert text.endswith("give a checkpoint that taijitu train wrote")


def test_damaged_bytes_never_give_another_error(saved: Path, tmp_path: Path) -> None:
    whole = bytearray(saved.read_bytes())
    generator = torch.Generator().manual_seed(0)
    for _ in range(60):
        damaged = bytearray(whole)
        for place in torch.randint(0, len(whole), (20,), generator=generator).tolist():
            damaged[place] ^= 0xFF
        (tmp_path / "damaged.pt").write_bytes(damaged)
        with contextlib.suppress(CheckpointError):
            checkpoint.load(tmp_path / "damaged.pt").model()


def test_a_changed_weight_is_refused(saved: Path) -> None:
    flip_a_bit_of_the_weights(saved)
    with pytest.raises(CheckpointError, match="damaged"):
        checkpoint.load(saved)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"architecture": [1]}, "the contract's architecture is a list, expected a dict"),
        ({"architecture": {}}, "got architecture {}, expected a name and options"),
        ({"architecture": {"name": "a", "options": {}, "size": 3}}, "'size': 3}, expected a name and options"),
        ({"architecture": {"name": "a", "options": {"act": torch.zeros(2, 2)}}}, "expected a name and options"),
        ({"labels": ["a", 2, "c"]}, "got the label 2, expected text"),
        ({"training": {"recipe": 5}}, "training.recipe is a int, expected a dict"),
        ({"training": {"teacher": []}}, "training.teacher is a list, expected a dict"),
        ({"resume": [1]}, "resume is a list, expected a dict"),
        ({"producer": []}, "the contract's producer is a list, expected a dict"),
        ({"labels": ["a"]}, "labels for 1 of 3 classes"),
        ({"state_dict": {3: torch.zeros(1)}}, "got 3 among the weights"),
        ({"state_dict": {"fc": torch.zeros(1).expand(10**12)}}, "repeats 4 bytes"),
        ({"state_dict": {"fc": torch.tensor([float("nan")])}}, "the weights in fc are NaN or infinite"),
        ({"state_dict": {"fc": torch.tensor([1e39], dtype=torch.float64)}}, "got 1e+39 in fc"),
        ({"format_version": torch.tensor([1, 2])}, "got format version tensor"),
    ],
)
def test_wrong_contents_are_named(saved: Path, change: dict[str, object], text: str) -> None:
    torch.save({**torch.load(saved, weights_only=True), **change}, saved)
    with pytest.raises(CheckpointError) as error:
        checkpoint.load(saved)
    assert text in str(error.value)
    assert "\n" not in str(error.value)


def test_a_newer_format_says_so(saved: Path) -> None:
    content = torch.load(saved, weights_only=True) | {"format_version": 2}
    torch.save(content, saved)
    with pytest.raises(CheckpointError, match=r"version 2,.* 1"):
        checkpoint.load(saved)


def test_weights_of_another_network_are_named(saved: Path) -> None:
    content = torch.load(saved, weights_only=True)
    content["architecture"]["name"] = "yynet_small_32"
    torch.save(content, saved)
    with pytest.raises(CheckpointError, match="yynet_small_32"):
        checkpoint.load(saved).model()


def test_an_unknown_network_is_named(saved: Path) -> None:
    content = torch.load(saved, weights_only=True)
    content["architecture"]["name"] = "timm/resnet_18"
    torch.save(content, saved)
    expected = "timm.*'resnet_18'.* resnet18"
    with pytest.raises(CheckpointError, match=expected):
        checkpoint.load(saved).model()


def test_a_failed_save_leaves_the_old_file(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = saved.read_bytes()
    loaded = checkpoint.load(saved)

    def full(content: object, stream: BinaryIO) -> None:
        stream.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(WriteError, match=r"ckpt\.pt"):
        checkpoint.save(loaded, saved)
    assert saved.read_bytes() == before
    assert os.listdir(saved.parent) == [saved.name]


def test_a_full_disk_leaves_the_checkpoint_that_was_there(saved: Path) -> None:
    before, content = saved.read_bytes(), checkpoint.load(saved)
    with full_disk(len(before) // 2), pytest.raises(WriteError, match=r"ckpt\.pt"):
        checkpoint.save(content, saved)
    assert saved.read_bytes() == before
    assert os.listdir(saved.parent) == ["ckpt.pt"]


@pytest.mark.parametrize("path", ["x" * 5000, "a\0b", "."])
def test_a_path_that_no_file_can_have_is_an_error_of_the_checkpoint(path: str) -> None:
    with pytest.raises(CheckpointError):
        checkpoint.load(path)
