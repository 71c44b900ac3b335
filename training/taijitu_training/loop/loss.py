"""The loss of a batch: of its labels, weighted or mixed, and of a teacher's answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from taijitu_training.loop.distillation import distillation_loss
from taijitu_training.recipes.recipe import Recipe


@dataclass(frozen=True)
class Truth:
    """What B pictures show: `targets`, int64 (B,), and in pictures that are mixed `others`, which have 1 - `share`."""

    targets: Tensor
    others: Tensor | None = None
    share: float = 1.0

    def right(self, logits: Tensor) -> Tensor:
        """How many of B answers are the label that the picture shows most of."""
        shown = self.targets if self.others is None or self.share >= 0.5 else self.others
        return (logits.argmax(1) == shown).sum()


def mean_loss(
    logits: Tensor, truth: Truth, taught: Tensor | None, recipe: Recipe, class_weights: Tensor | None = None
) -> Tensor:
    """The mean over B pictures: of their labels, and of the teacher's logits `taught`, float32 (B, K).

    `class_weights`: float32 (K,), what the loss of each label is multiplied by.
    """
    loss = _of_labels(logits, truth.targets, recipe, class_weights)
    if truth.others is not None:
        loss = truth.share * loss + (1.0 - truth.share) * _of_labels(logits, truth.others, recipe, class_weights)
    if taught is None:
        return loss
    soft = distillation_loss(logits, taught, recipe.teacher_temperature)
    return (1.0 - recipe.teacher_weight) * loss + recipe.teacher_weight * soft


def balanced_weights(label_counts: Sequence[int]) -> Tensor:
    """Weights that make every label count alike, 1 on average over the pictures: float32 (K,)."""
    counts = torch.tensor(label_counts, dtype=torch.float32)
    return counts.sum() / (len(counts) * counts)


def _of_labels(logits: Tensor, targets: Tensor, recipe: Recipe, class_weights: Tensor | None) -> Tensor:
    smoothing = recipe.label_smoothing
    if class_weights is None:
        return F.cross_entropy(logits, targets, label_smoothing=smoothing)
    # torch's own mean would divide by the weights of the labels that happen to be in the batch
    total = F.cross_entropy(logits, targets, class_weights, reduction="sum", label_smoothing=smoothing)
    return total / len(targets)
