"""Set the number of epochs that fit in the user's time."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from itertools import islice

import torch

from taijitu_runtime.console import say
from taijitu_training.data import Batches, Share, Source, evaluation_batches
from taijitu_training.distributed import Processes
from taijitu_training.loop.epoch import train_one_epoch
from taijitu_training.loop.evaluation import evaluate
from taijitu_training.loop.state import Totals, TrainState
from taijitu_training.recipes.recipe import Recipe

MEASURED_SECONDS = 10.0
MEASURED_SHARE = 0.05  # of the available time, if that is less
SPARED_SHARE = 0.05  # for checkpoints, the report and the test at the end

TRIAL_EPOCHS = 100_000
"""Epochs of the measured recipe, so that its schedule does not end earlier."""


def epochs_that_fit(
    trial: TrainState,
    recipe: Recipe,
    source: Batches,
    evaluation: Source,
    processes: Processes,
    minutes: float,
    began: float,
    stopped: Callable[[], bool],
) -> int:
    """Return how many epochs fit into the `minutes` of a run that `began`, by perf_counter, and print it; at least one.

    Some steps of `trial` are measured, a run of `recipe`, which has TRIAL_EPOCHS; it cannot be used after that.
    `stopped`: whether the user wants to stop.
    """
    budget = 60.0 * minutes
    trained = _seconds_of_training(trial, recipe, source, processes, budget, stopped)
    an_epoch = trained + _seconds_of_evaluation(trial, recipe, evaluation, processes)
    left = budget - (time.perf_counter() - began)
    epochs = processes.first_does(lambda: max(1, int(left * (1.0 - SPARED_SHARE) / an_epoch)))
    if processes.writes:
        say(f"an epoch takes {an_epoch:.3g} s: epochs: {epochs}, for {minutes:g} minutes", sys.stdout)
        if an_epoch > budget:
            say("warning: one epoch takes longer than that", sys.stderr)
    return epochs


def _seconds_of_training(
    trial: TrainState, recipe: Recipe, source: Batches, processes: Processes, budget: float, stopped: Callable[[], bool]
) -> float:
    """Measure an epoch's training on some steps, in a small share of `budget` seconds.

    The first step, or on a GPU the first 50, do not count: memory is reserved and kernels are compiled in them.
    """
    ends = time.perf_counter() + min(MEASURED_SECONDS, MEASURED_SHARE * budget)
    marks: list[tuple[float, int]] = []

    def enough() -> bool:
        return stopped() or (len(marks) > 1 and time.perf_counter() > ends)

    def after_steps(totals: Totals) -> bool:
        marks.append((totals.seconds, totals.pictures))
        return enough()

    device = next(trial.model.parameters()).device
    while train_one_epoch(trial, source, recipe, processes, after_steps):  # totals continue over the epochs
        if processes.any(enough(), device):
            break
    (began, before), (ended, after) = marks[0] if len(marks) > 1 else (0.0, 0), marks[-1]
    return _mean((ended - began) / (after - before) * source.cut.used, processes, device)


def _seconds_of_evaluation(trial: TrainState, recipe: Recipe, evaluation: Source, processes: Processes) -> float:
    """Measure an epoch's evaluation on two batches."""
    device = next(trial.model.parameters()).device
    first = list(islice(evaluation_batches(evaluation, device, Share(processes.rank, processes.count)), 2))
    began = time.perf_counter()
    evaluate(trial.result, iter(first), recipe, processes)
    seen = max(1, sum(len(targets) for _, targets in first)) * processes.count
    return _mean((time.perf_counter() - began) * len(evaluation) / seen, processes, device)


def _mean(seconds: float, processes: Processes, device: torch.device) -> float:
    """Return the mean over the processes, so that all get the same number of epochs."""
    return float(processes.sum_(torch.tensor(seconds, device=device))) / processes.count
