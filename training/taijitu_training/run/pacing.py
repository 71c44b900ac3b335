"""Set the number of epochs that fit in the user's time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice

import torch
from torch import Tensor

from taijitu_training.data import Batches
from taijitu_training.distributed import Processes
from taijitu_training.loop.epoch import train_one_epoch
from taijitu_training.loop.evaluation import evaluate
from taijitu_training.loop.state import Totals, TrainState
from taijitu_training.recipes.recipe import Recipe

MEASURED_SECONDS = 10.0
MEASURED_SHARE = 0.05  # of the available time, if that is less
SPARED_SHARE = 0.05  # for checkpoints, the report and the test at the end

LONG = 100_000
"""Epochs of the measured recipe, so that its schedule does not end earlier."""


def with_epochs(recipe: Recipe, epochs: int) -> Recipe:
    """Return `recipe` with another number of epochs, and a warm-up of the same share of them."""
    return replace(
        recipe,
        epochs=epochs,
        warmup_epochs=recipe.warmup_epochs * epochs / recipe.epochs,
        freeze_epochs=min(recipe.freeze_epochs, epochs - 1),
    )


def seconds_of_training(
    state: TrainState, source: Batches, recipe: Recipe, processes: Processes, budget: float, stopped: Callable[[], bool]
) -> float:
    """Return the seconds of training per epoch, measured on some steps of `state`, which cannot be used after that.

    The first step, or on a GPU the first 50, do not count: memory is reserved and kernels are compiled in them.

    Args:
        state: A run of `recipe` that is thrown away.
        source: The batches.
        recipe: A recipe of LONG epochs.
        processes: The processes that share the batches.
        budget: Seconds for the whole run.
        stopped: Whether the user wants to stop.
    """
    ends = time.perf_counter() + min(MEASURED_SECONDS, MEASURED_SHARE * budget)
    marks: list[tuple[float, int]] = []

    def enough() -> bool:
        return stopped() or (len(marks) > 1 and time.perf_counter() > ends)

    def after_steps(totals: Totals) -> bool:
        marks.append((totals.seconds, totals.pictures))
        return enough()

    device = next(state.model.parameters()).device
    while train_one_epoch(state, source, recipe, processes, after_steps):  # totals continue over the epochs
        if processes.any(enough(), device):
            break
    (began, before), (ended, after) = marks[0] if len(marks) > 1 else (0.0, 0), marks[-1]
    return _mean((ended - began) / (after - before) * source.cut.used, processes, device)


def seconds_of_evaluation(
    state: TrainState, batches: Iterator[tuple[Tensor, Tensor]], pictures: int, recipe: Recipe, processes: Processes
) -> float:
    """Return the seconds that an evaluation on `pictures` takes, measured on the first two of its `batches`."""
    first = list(islice(batches, 2))
    began = time.perf_counter()
    evaluate(state.result, iter(first), recipe, processes)
    seen = max(1, sum(len(targets) for _, targets in first)) * processes.count
    device = next(state.model.parameters()).device
    return _mean((time.perf_counter() - began) * pictures / seen, processes, device)


def _mean(seconds: float, processes: Processes, device: torch.device) -> float:
    """Return the mean over the processes, so that all get the same number of epochs."""
    return float(processes.sum_(torch.tensor(seconds, device=device))) / processes.count


def epochs_that_fit(seconds: float, an_epoch: float) -> int:
    """Return how many epochs fit into the `seconds` that are left, at least one."""
    return max(1, int(seconds * (1.0 - SPARED_SHARE) / an_epoch))
