"""Schedules and settings against numbers computed by hand from the papers' tables."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from taijitu_training import TaijituError, UnknownNameError
from taijitu_training.data import Augmenter, Pictures
from taijitu_training.loop import TrainState, start, train_one_epoch
from taijitu_training.recipe import RECIPES, get_recipe

RECIPE = replace(RECIPES["yynet_cifar10"], epochs=10, batch_size=4, pad=1)


class Tiny(nn.Module):
    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 2)
        self.scale = scale

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.fc(x.mean((2, 3))) * self.scale
        return out


def pictures(n: int = 16) -> Pictures:
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (n, 4, 4, 3), dtype=torch.uint8, generator=generator)
    return Pictures(images, torch.arange(n) % 2)


def test_one_cycle_follows_the_formula_at_every_step() -> None:
    state = start(Tiny(), RECIPE, steps_per_epoch=10)
    seen = []
    for _ in range(100):
        seen.append(state.optimizer.param_groups[0]["lr"])
        state.optimizer.step()
        state.scheduler.step() if len(seen) < 100 else None

    def cosine(a: float, b: float, share: float) -> float:
        return b + (a - b) / 2 * (1 + math.cos(math.pi * share))

    # 100 steps, peak at 0.3 * 100 - 1 = 29, from 1e-2 / 25 = 4e-4, down to 4e-4 / 1e4 = 4e-8 in step 99
    expected = [
        cosine(4e-4, 1e-2, s / 29) if s <= 29 else cosine(1e-2, 4e-8, (s - 29) / 70) for s in range(100)
    ]  # fmt: skip
    assert seen == pytest.approx(expected, rel=1e-9)
    assert seen[0] == pytest.approx(4e-4)
    assert seen[29] == pytest.approx(1e-2)
    assert seen[99] == pytest.approx(4e-8)


def test_weight_decay_is_set_from_the_learning_rate_at_each_epochs_end_and_only_there() -> None:
    state = start(Tiny(), RECIPE, steps_per_epoch=4)
    group = state.optimizer.param_groups[0]
    assert group["weight_decay"] == pytest.approx(1.56 * 4e-4)
    during = []
    augmenter = Augmenter(pictures(), RECIPE)
    train_one_epoch(state, augmenter, RECIPE, lambda totals: during.append(group["weight_decay"]) or False)
    assert during == [pytest.approx(1.56 * 4e-4)] * 4
    # after 4 of 40 steps: cosine from 4e-4 to 1e-2 with its peak at step 11
    lr = 1e-2 + (4e-4 - 1e-2) / 2 * (1 + math.cos(math.pi * 4 / 11))
    assert group["weight_decay"] == pytest.approx(1.56 * lr)


def test_gradients_are_clipped_to_norm_one() -> None:
    state = start(Tiny(scale=1e3), RECIPE, steps_per_epoch=4)
    norms = []

    def measure(totals: object) -> bool:
        norms.append(math.sqrt(sum(float(p.grad.square().sum()) for p in state.model.parameters())))
        return False

    train_one_epoch(state, Augmenter(pictures(), RECIPE), RECIPE, measure)
    assert len(norms) == 4
    assert max(norms) <= 1.0 + 1e-5
    assert max(norms) > 0.99  # this network's gradients are far larger before the clip


def test_average_is_a_tenth_of_itself_and_nine_tenths_of_the_weights_from_a_quarter_on() -> None:
    recipe = replace(RECIPE, ema=True, epochs=2)
    state = start(Tiny(), recipe, steps_per_epoch=4)
    average = [p.detach().clone() for p in state.average.parameters()]
    steps = 0

    def follow(totals: object) -> bool:
        nonlocal steps, average
        steps += 1
        weights = [p.detach() for p in state.model.parameters()]
        keep = 0.1 if steps > 2 else 0.0  # 2 of 8 steps are the first quarter
        average = [keep * a + (1 - keep) * w for a, w in zip(average, weights)]
        for got, expected in zip(state.average.parameters(), average):
            torch.testing.assert_close(got, expected)
        return False

    augmenter = Augmenter(pictures(), recipe)
    train_one_epoch(state, augmenter, recipe, follow)
    train_one_epoch(state, augmenter, recipe, follow)
    assert steps == 8


def test_label_smoothing_changes_the_loss_as_its_definition_says() -> None:
    def first_loss(smoothing: float) -> float:
        torch.manual_seed(0)
        state: TrainState = start(Tiny(), replace(RECIPE, label_smoothing=smoothing), 4)
        losses: list[float] = []
        recipe = replace(RECIPE, label_smoothing=smoothing, mixed_precision=False)

        def keep(totals: object) -> bool:
            losses.append(state.totals.loss / state.totals.pictures)
            return True

        train_one_epoch(state, Augmenter(pictures(), recipe), recipe, keep)
        return losses[0]

    plain, smoothed, uniform = first_loss(0.0), first_loss(0.5), first_loss(1 - 1e-9)
    assert smoothed == pytest.approx(0.5 * plain + 0.5 * uniform, rel=1e-5)


def test_changes_are_parsed_as_their_fields_types() -> None:
    recipe = get_recipe("yynet_cifar10", ["max_lr=5e-3", "epochs=3", "ema=true", "mean=0.1,0.2,0.3"])
    assert (recipe.max_lr, recipe.epochs, recipe.ema, recipe.mean) == (5e-3, 3, True, (0.1, 0.2, 0.3))
    assert recipe.batch_size == 64


@pytest.mark.parametrize(
    ("name", "change", "kind", "text"),
    [
        ("yynet_cifar", "", UnknownNameError, "unknown recipe 'yynet_cifar'; did you mean yynet_cifar10?"),
        ("yynet_cifar10", "epoch=3", UnknownNameError, "unknown recipe field 'epoch'; did you mean epochs"),
        ("yynet_cifar10", "epochs", TaijituError, "got 'epochs', expected FIELD=VALUE"),
        ("yynet_cifar10", "epochs=many", TaijituError, "got epochs=many, expected epochs=40 or another int"),
        ("yynet_cifar10", "mean=1,2", TaijituError, "3 numbers with commas"),
        ("yynet_cifar10", "epochs=0", TaijituError, "got epochs=0"),
        ("yynet_cifar10", "flip=1.5", TaijituError, "got flip=1.5"),
    ],
)
def test_wrong_recipes_say_what_was_expected(name: str, change: str, kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=text.replace("(", r"\(").replace("?", r"\?")):
        get_recipe(name, [change] if change else [])
