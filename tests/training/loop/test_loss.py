"""The loss: balanced weights for labels, and the shares of two labels in mixed pictures."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from taijitu_training.loop.loss import MixedTargets, balanced_weights, mean_loss
from taijitu_training.loop.mixing import draw_mix, mixed
from taijitu_training.recipes.named import RECIPES

RECIPE = replace(RECIPES["yynet_cifar10"], label_smoothing=0.1)
LOGITS = torch.tensor([[1.0, 0.0, 0.3], [0.0, 0.5, -1.0]])


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_balanced_weights_make_every_label_count_alike(smoothing: float) -> None:
    weights = balanced_weights([24, 2, 26])
    assert weights.tolist() == pytest.approx([52 / 72, 52 / 6, 52 / 78])
    each = F.cross_entropy(LOGITS, torch.tensor([0, 1]), reduction="none", label_smoothing=smoothing)
    expected = (each * weights[:2]).mean()  # over the pictures, not over the weights of the labels in the batch
    recipe = replace(RECIPE, label_smoothing=smoothing)
    got = mean_loss(LOGITS, MixedTargets(torch.tensor([0, 1])), None, recipe, weights)
    torch.testing.assert_close(got, expected)


def test_weights_and_smoothing_do_not_teach_a_rare_label_with_pictures_of_a_common_one() -> None:
    logits = torch.zeros(2, 2, requires_grad=True)
    shown = MixedTargets(torch.tensor([0, 2]))  # and one of none of the labels
    mean_loss(logits, shown, None, RECIPE, balanced_weights([990, 10]), with_others=True).backward()
    assert logits.grad is not None
    assert logits.grad[0, 0] < 0 < logits.grad[0, 1]
    torch.testing.assert_close(logits.grad[1], torch.zeros(2))


def test_pictures_of_none_of_the_labels_are_trained_towards_the_uniform_answer() -> None:
    recipe = replace(RECIPE, label_smoothing=0.0, other_weight=0.5)
    got = mean_loss(LOGITS, MixedTargets(torch.tensor([0, 3])), None, recipe, with_others=True)
    uniform = F.cross_entropy(LOGITS[1:], torch.full((1, 3), 1 / 3))
    torch.testing.assert_close(got, (F.cross_entropy(LOGITS[:1], torch.tensor([0])) + 0.5 * uniform) / 2)
    mixed_targets = MixedTargets(torch.tensor([0, 3]), torch.tensor([3, 0]), 0.7)
    assert (mixed_targets.right(LOGITS), mixed_targets.labelled(LOGITS)) == (1, 1)
    part = [
        mean_loss(LOGITS, MixedTargets(torch.tensor(each)), None, recipe, with_others=True) for each in ([0, 3], [3, 0])
    ]
    whole = mean_loss(LOGITS, mixed_targets, None, recipe, with_others=True)
    torch.testing.assert_close(whole, 0.7 * part[0] + 0.3 * part[1])


@pytest.mark.parametrize("change", [{"mixup": 0.4}, {"cutmix": 1.0}])
def test_mixed_pictures_and_their_loss_have_the_same_shares(change: dict[str, float]) -> None:
    recipe = replace(RECIPE, **change)
    images = torch.stack([torch.full((3, 8, 10), float(i)) for i in range(2)])
    shares = []
    for step in range(40):
        mix = draw_mix(recipe, 0, 0, step)
        assert mix == draw_mix(recipe, 0, 0, step)
        assert mix is not None
        got, mixed_targets = mixed(images, torch.tensor([0, 1]), mix)
        assert got[1].mean().item() == pytest.approx(mixed_targets.share, abs=1e-5)
        soft = mixed_targets.share * torch.eye(3)[:2] + (1 - mixed_targets.share) * torch.eye(3)[[1, 0]]
        expected = F.cross_entropy(LOGITS, soft, label_smoothing=0.1)
        torch.testing.assert_close(mean_loss(LOGITS, mixed_targets, None, recipe), expected)
        assert mixed_targets.right(LOGITS) == (2 if mixed_targets.share >= 0.5 else 0)
        shares.append(mixed_targets.share)
    assert min(shares) < 0.3
    assert max(shares) > 0.7


def test_with_both_either_mixes() -> None:
    assert draw_mix(RECIPE, 0, 0, 0) is None
    kinds = [draw_mix(replace(RECIPE, mixup=0.2, cutmix=1.0), 0, 1, step) for step in range(40)]
    assert 10 < sum(mix is not None and mix.corner is None for mix in kinds) < 30
