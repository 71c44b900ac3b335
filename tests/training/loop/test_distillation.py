"""Distillation: the soft loss by its formula, and what a teacher must have in common with its student."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from taijitu_runtime.card import Architecture
from taijitu_training import checkpoint
from taijitu_training.checkpoint import Checkpoint
from taijitu_training.data import input_contract
from taijitu_training.errors import CheckpointError
from taijitu_training.loop.distillation import distillation_loss, load_teacher
from taijitu_training.models import create_model, model_options
from taijitu_training.recipes.named import RECIPES

RECIPE = RECIPES["yynet_cifar10"]


def test_the_soft_loss_in_numbers_worked_out_by_hand() -> None:
    logits, taught = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 0.0]])
    # T = 2: the student gives softmax(1, 0) = (0.731059, 0.268941), the teacher (0.5, 0.5);
    # KL = 0.5 ln(0.5 / 0.731059) + 0.5 ln(0.5 / 0.268941) = 0.1201145, times 4
    assert distillation_loss(logits, taught, 2.0).item() == pytest.approx(0.480458, abs=1e-6)
    assert distillation_loss(taught, taught, 2.0).item() == pytest.approx(0.0, abs=1e-7)


def test_its_gradient_is_hintons() -> None:
    """Check T (softmax(logits / T) - softmax(taught / T)) / B: T squared times that of the soft cross entropy."""
    torch.manual_seed(0)
    logits, taught = torch.randn(3, 5, requires_grad=True), torch.randn(3, 5)
    distillation_loss(logits, taught, 3.0).backward()
    expected = 3.0 * ((logits / 3).softmax(1) - (taught / 3).softmax(1)) / 3
    torch.testing.assert_close(logits.grad, expected)


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    options = model_options("yynet_small_16", num_classes=2)
    path = tmp_path / "teacher.pt"
    model = create_model("yynet_small_16", **options)
    contract = input_contract((32, 32), RECIPE)
    architecture = Architecture("yynet_small_16", options)
    checkpoint.save(Checkpoint(model.state_dict(), architecture, ["blue", "red"], contract, {}, {}), path)
    return path


def test_a_teacher_does_not_change(teacher: Path) -> None:
    found = load_teacher(teacher, ["blue", "red"], (32, 32), RECIPE)
    before = {name: value.clone() for name, value in found.network.state_dict().items()}
    images = torch.randn(4, 3, 32, 32)
    logits = found.logits(images)
    assert (logits.shape, logits.dtype, logits.requires_grad) == ((4, 2), torch.float32, False)
    assert all(torch.equal(value, before[name]) for name, value in found.network.state_dict().items())
    assert found.origin["architecture"] == "yynet_small_16"
    assert len(found.origin["sha256"]) == 64


@pytest.mark.parametrize(
    ("labels", "size", "changes", "fact"),
    [
        (["red", "blue"], (32, 32), {}, "labels"),
        (["blue", "green", "red"], (32, 32), {}, "3"),
        (["blue", "red"], (48, 48), {}, "height=32"),
        (["blue", "red"], (32, 32), {"mean": (0.5, 0.5, 0.5)}, "mean"),
    ],
)
def test_a_teacher_for_other_images_or_labels_is_refused(
    teacher: Path, labels: list[str], size: tuple[int, int], changes: dict[str, tuple[float, ...]], fact: str
) -> None:
    with pytest.raises(CheckpointError) as error:
        load_teacher(teacher, labels, size, replace(RECIPE, **changes))  # type: ignore[arg-type]
    assert str(teacher) in str(error.value)
    assert fact in str(error.value)
