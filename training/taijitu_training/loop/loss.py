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
class MixedTargets:
    """The targets of B pictures, int64 (B,), and those of the pictures mixed into them, which have 1 - `share`.

    The target of a picture of none of the K labels is K.
    """

    targets: Tensor
    partners: Tensor | None = None
    share: float = 1.0

    @property
    def shown(self) -> Tensor:
        """The target with the larger share of each picture, int64 (B,)."""
        return self.targets if self.partners is None or self.share >= 0.5 else self.partners

    def right(self, logits: Tensor) -> Tensor:
        """Count the answers of B that are the label with the larger share of the picture."""
        return (logits.argmax(1) == self.shown).sum()

    def labelled(self, logits: Tensor) -> Tensor:
        """Count the pictures that an answer of B can be right about."""
        return (self.shown < logits.shape[1]).sum()


def mean_loss(
    logits: Tensor,
    mixed: MixedTargets,
    taught: Tensor | None,
    recipe: Recipe,
    class_weights: Tensor | None = None,
    *,
    with_others: bool = False,
) -> Tensor:
    """Compute the mean loss of B pictures: of their labels, and of the teacher's logits `taught`.

    `logits`, `taught`: float32 (B, K). `class_weights`: float32 (K,), factors of the loss of each label. `with_others`:
    some show none of the labels.
    """

    def of_targets(targets: Tensor) -> Tensor:
        loss = _of_labels(logits, targets, recipe, class_weights, with_others)
        return loss + recipe.other_weight * _of_others(logits, targets) if with_others else loss

    loss = of_targets(mixed.targets)
    if mixed.partners is not None:
        loss = mixed.share * loss + (1.0 - mixed.share) * of_targets(mixed.partners)
    if taught is None:
        return loss
    soft = distillation_loss(logits, taught, recipe.teacher_temperature)
    return (1.0 - recipe.teacher_weight) * loss + recipe.teacher_weight * soft


def balanced_weights(label_counts: Sequence[int]) -> Tensor:
    """Return weights, float32 (K,), that make each of K labels count alike, 1 on average over the pictures."""
    counts = torch.tensor(label_counts, dtype=torch.float32)
    return counts.sum() / (len(counts) * counts)


def _of_labels(
    logits: Tensor, targets: Tensor, recipe: Recipe, class_weights: Tensor | None, with_others: bool
) -> Tensor:
    smoothing = recipe.label_smoothing
    if class_weights is None and not with_others:
        return F.cross_entropy(logits, targets, label_smoothing=smoothing)
    # Not torch's own weights: its mean divides by those of the labels in the batch, and its smoothing multiplies each
    # label's share by that label's weight, so that pictures of common labels would be taught the rare ones.
    outside = logits.shape[1]
    each = F.cross_entropy(logits, targets, ignore_index=outside, reduction="none", label_smoothing=smoothing)
    if class_weights is not None:
        each = each * class_weights[targets.clamp_max(len(class_weights) - 1)]
    return each.sum() / len(targets)


def _of_others(logits: Tensor, targets: Tensor) -> Tensor:
    """Compute the cross entropy to the uniform answer of the pictures of none of the labels, over all of B.

    Outlier exposure: Hendrycks, Mazeika and Dietterich, "Deep Anomaly Detection with Outlier Exposure" (2019).
    """
    to_uniform = -F.log_softmax(logits, 1).mean(1)
    return (to_uniform * (targets == logits.shape[1])).sum() / len(targets)
