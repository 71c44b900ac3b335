"""Distillation: a small network learns the answers of a larger one, its teacher, in addition to the labels.

Source: Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network" (2015), section 2: the logits of both
networks are divided by a temperature T, and the gradient of the soft loss is multiplied by T squared.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from taijitu_runtime.console import shown
from taijitu_runtime.errors import listed
from taijitu_runtime.files import sha256_of
from taijitu_training import checkpoint
from taijitu_training.data.pictures import check_arithmetic
from taijitu_training.errors import CheckpointError
from taijitu_training.recipes.recipe import Recipe


@dataclass(frozen=True)
class Teacher:
    """`network` in evaluation mode: normalised float32 (B, 3, H, W) to logits (B, K); `origin` for the card."""

    network: nn.Module
    origin: dict[str, Any]

    def to(self, device: torch.device) -> Teacher:
        """Return the same on `device`, in channels_last."""
        return Teacher(self.network.to(device).to(memory_format=torch.channels_last), self.origin)

    @torch.no_grad()
    def logits(self, images: Tensor) -> Tensor:
        """Compute float32 (B, K) from normalised float32 (B, 3, H, W)."""
        out: Tensor = self.network(images)
        return out.float()


def load_teacher(path: Path, labels: list[str], size: tuple[int, int], recipe: Recipe) -> Teacher:
    """Load the checkpoint that `--teacher` names.

    Raises:
        CheckpointError: It has other labels, another image size or another normalisation than the student.
    """
    saved = checkpoint.load(path)
    if saved.labels != labels:
        differing = [label for label in saved.labels if label not in labels] or saved.labels
        raise CheckpointError(
            f"{path}: got a teacher of {len(saved.labels)} labels, among them {listed(differing)}, expected the data's "
            f"{len(labels)} in their order; train one on this data"
        )
    check_arithmetic(path, saved.input)
    expected = {"mean": list(recipe.mean), "std": list(recipe.std), "height": size[0], "width": size[1]}
    if differing := [name for name, value in expected.items() if saved.input.get(name) != value]:
        got = ", ".join(f"{name}={saved.input.get(name)}" for name in differing)
        ours = ", ".join(f"{name}={expected[name]}" for name in differing)
        raise CheckpointError(f"{path}: got a teacher with {got}, expected {ours}; train one with the student's input")
    origin = {
        "file": shown(path.name),
        "sha256": sha256_of(path),
        "architecture": saved.architecture.name,
        "metrics": saved.training.get("metrics", {}),
    }
    return Teacher(saved.model(), origin)


def distillation_loss(logits: Tensor, taught: Tensor, temperature: float) -> Tensor:
    """Return T squared times the mean Kullback-Leibler divergence (nats) of softmax(logits / T) from the teacher's.

    `logits` and `taught` are float32 (B, K). Its gradient is that of Hinton's soft cross entropy.
    """
    own, soft = F.log_softmax(logits / temperature, 1), F.log_softmax(taught / temperature, 1)
    return F.kl_div(own, soft, reduction="batchmean", log_target=True) * temperature**2
