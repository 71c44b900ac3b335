"""Schedules and settings against numbers computed by hand from the papers' tables."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from taijitu_training.data import MemoryBatches, Pictures, Share
from taijitu_training.data.share import Cut
from taijitu_training.loop.epoch import train_one_epoch
from taijitu_training.loop.optimization import create_optimizer, create_scheduler
from taijitu_training.loop.state import TrainState, start
from taijitu_training.recipes.named import RECIPES
from taijitu_training.recipes.recipe import Recipe

RECIPE = replace(RECIPES["yynet_cifar10"], epochs=10, batch_size=4, pad=1)


class Tiny(nn.Module):
    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 2)
        self.scale = scale

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.fc(x.mean((2, 3))) * self.scale
        return out


def batches(recipe: Recipe, n: int = 16) -> MemoryBatches:
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (n, 4, 4, 3), dtype=torch.uint8, generator=generator)
    return MemoryBatches(Pictures(images, torch.arange(n) % 2), recipe, torch.device("cpu"), Share())


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


@pytest.mark.parametrize(("first_decay", "lr"), [("peak", 1e-2), ("current", 4e-4)])
def test_weight_decay_is_set_from_the_learning_rate_at_each_epochs_end_and_only_there(
    first_decay: str, lr: float
) -> None:
    recipe = replace(RECIPE, first_decay=first_decay)
    state = start(Tiny(), recipe, steps_per_epoch=4)
    group = state.optimizer.param_groups[0]
    during = []
    source = batches(recipe)
    train_one_epoch(state, source, recipe, after_steps=lambda totals: during.append(group["weight_decay"]) or False)
    assert during == [pytest.approx(1.56 * lr)] * 4
    # after 4 of 40 steps: cosine from 4e-4 to 1e-2 with its peak at step 11
    lr = 1e-2 + (4e-4 - 1e-2) / 2 * (1 + math.cos(math.pi * 4 / 11))
    assert group["weight_decay"] == pytest.approx(1.56 * lr)


def test_gradients_are_clipped_to_norm_one() -> None:
    state = start(Tiny(scale=1e3), RECIPE, steps_per_epoch=4)
    norms = []

    def measure(totals: object) -> bool:
        norms.append(math.sqrt(sum(float(p.grad.square().sum()) for p in state.model.parameters())))
        return False

    train_one_epoch(state, batches(RECIPE), RECIPE, after_steps=measure)
    assert len(norms) == 4
    assert max(norms) <= 1.0 + 1e-5
    assert max(norms) > 0.99  # this network's gradients are far larger before the clip


@pytest.mark.parametrize("decay", [0.1, 0.999])
def test_average_keeps_its_share_of_itself_from_a_quarter_on(decay: float) -> None:
    recipe = replace(RECIPE, ema=True, ema_decay=decay, epochs=2)
    state = start(Tiny(), recipe, steps_per_epoch=4)
    average = [p.detach().clone() for p in state.average.parameters()]
    steps = 0

    def follow(totals: object) -> bool:
        nonlocal steps, average
        steps += 1
        weights = [p.detach() for p in state.model.parameters()]
        keep = decay if steps > 2 else 0.0  # 2 of 8 steps are the first quarter
        average = [keep * a + (1 - keep) * w for a, w in zip(average, weights)]
        for got, expected in zip(state.average.parameters(), average):
            torch.testing.assert_close(got, expected)
        return False

    source = batches(recipe)
    train_one_epoch(state, source, recipe, after_steps=follow)
    train_one_epoch(state, source, recipe, after_steps=follow)
    assert steps == 8


def test_the_average_of_weights_that_several_modules_share_is_theirs_once() -> None:
    class Shared(Tiny):
        def __init__(self) -> None:
            super().__init__()
            self.again = self.fc

    recipe = replace(RECIPE, ema=True, ema_decay=0.9, ema_start=0.0, epochs=1)
    averages = []
    for kind in (Tiny, Shared):
        torch.manual_seed(0)
        state = start(kind(), recipe, steps_per_epoch=4)
        train_one_epoch(state, batches(recipe), recipe)
        averages.append(list(state.result.parameters()))
    torch.testing.assert_close(averages[1], averages[0])


def test_after_its_last_step_a_run_has_the_last_learning_rate_of_the_cycle() -> None:
    recipe = replace(RECIPE, epochs=2)
    state = start(Tiny(), recipe, steps_per_epoch=4)
    for _ in range(2):
        assert train_one_epoch(state, batches(recipe), recipe)
    assert state.optimizer.param_groups[0]["lr"] == pytest.approx(recipe.lr / 250_000)


def test_label_smoothing_changes_the_loss_as_its_definition_says() -> None:
    def first_loss(smoothing: float) -> float:
        torch.manual_seed(0)
        state: TrainState = start(Tiny(), replace(RECIPE, label_smoothing=smoothing), 4)
        losses: list[float] = []
        recipe = replace(RECIPE, label_smoothing=smoothing, mixed_precision=False)

        def keep(totals: object) -> bool:
            losses.append(state.totals.loss / state.totals.pictures)
            return True

        train_one_epoch(state, batches(recipe), recipe, after_steps=keep)
        return losses[0]

    plain, smoothed, uniform = first_loss(0.0), first_loss(0.5), first_loss(1 - 1e-9)
    assert smoothed == pytest.approx(0.5 * plain + 0.5 * uniform, rel=1e-5)


def rates(recipe: Recipe, steps_per_epoch: int) -> list[float]:
    optimizer = create_optimizer(Tiny(), recipe)
    scheduler = create_scheduler(optimizer, recipe, steps_per_epoch)
    seen = []
    for _ in range(recipe.epochs * steps_per_epoch):
        seen.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        scheduler.step()
    return seen


def test_cosine_after_a_warm_up_in_numbers_worked_out_by_hand() -> None:
    recipe = replace(RECIPES["vgnet_imagenet"], epochs=6, warmup_epochs=2.0, lr=0.2)
    # 2 steps an epoch: four of warm-up, then half a cosine over the other eight
    by_hand = [0.05, 0.1, 0.15, 0.2, 0.2, 0.192388, 0.170711, 0.138268, 0.1, 0.061732, 0.029289, 0.007612]
    assert rates(recipe, 2) == pytest.approx(by_hand, abs=1e-6)


def test_constant_stays_where_its_warm_up_ends() -> None:
    recipe = replace(RECIPES["nish_mnist"], epochs=3, warmup_epochs=1.0, lr=0.3)
    assert rates(recipe, 3) == pytest.approx([0.1, 0.2, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3])


def test_a_warm_up_that_ends_within_a_step_does_not_overshoot() -> None:
    recipe = replace(RECIPES["vgnet_imagenet"], epochs=4, warmup_epochs=0.25, lr=0.2)
    assert max(rates(recipe, 5)) == pytest.approx(0.2)  # one step and a quarter


def test_biases_and_batch_norm_are_left_without_decay_where_the_recipe_says_so() -> None:
    recipe = replace(RECIPES["vgnet_imagenet"], weight_decay=0.5, momentum=0.0, lr=0.1)
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Linear(2, 2))
    for parameter in model.parameters():
        nn.init.ones_(parameter)
        parameter.grad = torch.zeros_like(parameter)
    create_optimizer(model, recipe).step()
    for name, parameter in model.named_parameters():
        # without a gradient, a step of SGD takes lr * decay of the weight: 1 - 0.1 * 0.5
        expected = 0.95 if name in ("0.weight", "2.weight") else 1.0
        assert parameter.flatten().tolist() == pytest.approx([expected] * parameter.numel()), name


def test_the_body_learns_later_and_slower_than_the_classification_layer() -> None:
    recipe = replace(RECIPES["fine_tune"], epochs=3, batch_size=4, lr=0.1, body_lr=0.01, warmup_epochs=0.0, pad=0)

    class Body(Tiny):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(self.conv(x))

    model = Body()
    state = start(model, recipe, steps_per_epoch=4, head=("fc.weight", "fc.bias"))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    train_one_epoch(state, batches(recipe), recipe)
    assert {name for name, value in model.state_dict().items() if torch.equal(value, before[name])} == {
        "conv.weight",
        "conv.bias",
    }
    train_one_epoch(state, batches(recipe), recipe)
    assert not torch.equal(model.conv.weight, before["conv.weight"])
    groups = state.optimizer.param_groups
    head, body = ({group["lr"] for group in groups if group["is_body"] is side} for side in (False, True))
    assert {round(lr / 100, 12) for lr in head} == {round(lr, 12) for lr in body}


def test_decay_set_at_each_epochs_end_spares_the_group_without_decay() -> None:
    recipe = replace(RECIPE, decay_all=False)
    state = start(Tiny(), recipe, steps_per_epoch=4)
    train_one_epoch(state, batches(recipe), recipe)
    decayed, spared = state.optimizer.param_groups
    assert decayed["weight_decay"] == pytest.approx(1.56 * decayed["lr"])
    assert spared["weight_decay"] == 0.0
    assert [tuple(p.shape) for p in spared["params"]] == [(2,)]


def test_momentum_of_sgd_in_numbers_worked_out_by_hand() -> None:
    recipe = replace(RECIPES["nish_mnist"], lr=0.1)
    weight = nn.Parameter(torch.ones(1, 1))
    optimizer = create_optimizer(nn.ParameterList([weight]), recipe)
    seen = []
    for _ in range(3):
        weight.grad = torch.ones(1, 1)
        optimizer.step()
        seen.append(weight.item())
    # velocity 1, 1.9, 2.71; the weight loses a tenth of it each time
    assert seen == pytest.approx([0.9, 0.71, 0.439])


def test_accumulated_parts_make_the_step_of_the_whole_batch() -> None:
    def weights_after_an_epoch(accumulate: int) -> torch.Tensor:
        torch.manual_seed(0)
        recipe = replace(RECIPE, mixed_precision=False)
        source = MemoryBatches(whole, recipe, torch.device("cpu"), Share(accumulate=accumulate))
        state = start(Tiny(), recipe, source.cut.steps)
        train_one_epoch(state, source, recipe)
        return torch.cat([p.detach().flatten() for p in state.model.parameters()])

    images = torch.randint(0, 256, (16, 4, 4, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    whole = Pictures(images, torch.arange(16) % 2)
    torch.testing.assert_close(weights_after_an_epoch(2), weights_after_an_epoch(1), rtol=1e-5, atol=1e-7)


def test_running_statistics_are_the_mean_over_the_parts_of_a_step() -> None:
    recipe = replace(RECIPE, brightness=0.0, mixed_precision=False, batch_size=4, flip=0.0, pad=0)
    images = torch.arange(4, dtype=torch.uint8).reshape(4, 1, 1, 1).expand(4, 4, 4, 3) * 50
    source = MemoryBatches(Pictures(images, torch.arange(4) % 2), recipe, torch.device("cpu"), Share(accumulate=2))
    state = start(Normed(), recipe, 1)
    ((first, _), (second, _)) = next(source.epoch(0, 0))
    train_one_epoch(state, source, recipe)
    parts = [0.1 * part.mean((0, 2, 3)) for part in (first, second)]  # from 0, momentum 0.1
    torch.testing.assert_close(state.model.norm.running_mean, (parts[0] + parts[1]) / 2)


@pytest.mark.parametrize(("n", "sizes"), [(18, [4, 4, 4, 4, 2]), (17, [4, 4, 4, 5]), (3, [3]), (16, [4] * 4)])
def test_every_image_is_trained_on_in_every_epoch(n: int, sizes: list[int]) -> None:
    """Check the last batch: it holds the remainder.

    A single image, which batch norm cannot take, joins the batch before.
    """
    source = batches(RECIPE, n)
    seen = [len(targets) for step in source.epoch(0, 0) for _, targets in step]
    assert seen == sizes
    assert (source.cut.steps, source.cut.used) == (len(sizes), n)
    state = start(Tiny(), RECIPE, source.cut.steps)
    train_one_epoch(state, source, RECIPE)
    assert state.totals.pictures == n


def test_50000_images_make_the_782_steps_of_the_public_code_and_781_where_the_rest_is_dropped() -> None:
    assert Cut(50_000, 64, Share()).steps == 782
    assert Cut(50_000, 64, Share(), train_last=False).steps == 781


def test_parts_of_an_incomplete_batch_make_the_step_of_the_whole() -> None:
    def weights_after_an_epoch(accumulate: int) -> torch.Tensor:
        torch.manual_seed(0)
        recipe = replace(RECIPE, mixed_precision=False)
        images = torch.randint(0, 256, (13, 4, 4, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
        source = MemoryBatches(
            Pictures(images, torch.arange(13) % 2),
            replace(recipe, batch_size=8),
            torch.device("cpu"),
            Share(accumulate=accumulate),
        )
        assert [source.cut.size(step) for step in range(source.cut.steps)] == [8, 5]  # 5: parts of 2 and 3
        state = start(Tiny(), recipe, source.cut.steps)
        train_one_epoch(state, source, recipe)
        return torch.cat([p.detach().flatten() for p in state.model.parameters()])

    torch.testing.assert_close(weights_after_an_epoch(2), weights_after_an_epoch(1), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("processes", [1, 2, 3])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_parts_of_all_processes_are_the_batch(processes: int, accumulate: int) -> None:
    cuts = [Cut(100, 24, Share(rank, processes, accumulate)) for rank in range(processes)]
    for step in range(cuts[0].steps):
        parts = [part for cut in cuts for part in cut.parts(step)]
        assert [i for part in parts for i in range(part.start, part.stop)] == list(range(cuts[0].size(step)))
        assert min(part.stop - part.start for part in parts) >= 2
        assert parts == Cut(100, 24, Share(accumulate=processes * accumulate)).parts(step)


class Normed(Tiny):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(self.norm(x))


@pytest.mark.parametrize("parts", [1, 2])
def test_frozen_layers_stay_as_they_are_with_their_running_statistics(parts: int) -> None:
    recipe = replace(RECIPE, freeze_epochs=1)
    source = batches(recipe)
    source.cut = Cut(16, recipe.batch_size, Share(accumulate=parts), True)
    model = Normed()
    state = start(model, recipe, source.cut.steps, head=("fc.weight", "fc.bias"))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for epoch in (0, 1):
        assert train_one_epoch(state, source, recipe)
        same = {name for name, value in model.state_dict().items() if torch.equal(value, before[name])}
        assert same == (set() if epoch else {name for name in before if name.startswith("norm.")})
