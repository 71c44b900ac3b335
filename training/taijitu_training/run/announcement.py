"""What a run says before its first epoch."""

from __future__ import annotations

import sys

from taijitu_runtime.console import say, shown
from taijitu_training.data import Dataset
from taijitu_training.recipes.recipe import Recipe
from taijitu_training.run.settings import RunSettings


def announce(settings: RunSettings, *, chose_share: bool) -> None:
    """Print the run's network, pictures and recipe, what was left out, and where its weights come from.

    `chose_share`: the user has set the share of training pictures that is held out.
    """
    dataset = settings.dataset
    epochs = f"epochs: {settings.recipe.epochs}" if settings.minutes is None else f"{settings.minutes:g} minutes"
    several = f", {settings.processes.count} processes" if settings.processes.count > 1 else ""
    say(
        f"{settings.architecture.name} on {shown(dataset.name)} ({dataset.form}): {dataset.counts}; "
        f"{shown(dataset.labels_in_words)}; recipe {settings.recipe.name}, {epochs}"
        f"{_batches(len(dataset.train), settings.recipe)}, on {settings.device}{several}, in {settings.computed_in}",
        sys.stdout,
    )
    announce_reading(dataset, chose_share=chose_share)
    if settings.compiled and settings.device.type == "cpu":
        say("--compile on a CPU: minutes of compiling, and slower after it (docs/training.md)", sys.stderr)
    if settings.teacher:
        origin = settings.teacher.origin
        say(f"learns from {shown(origin['file'])}, {origin['architecture']}", sys.stdout)
    if settings.initial:
        say(f"starts from {shown(settings.initial)}", sys.stdout)


def announce_reading(dataset: Dataset, *, chose_share: bool) -> None:
    """Print what was held out and left out of the pictures, and the warnings about them."""
    if not chose_share and dataset.trained_on and (held_out := dataset.trained_on.held_out):
        lacking = "val/" if dataset.test is not None else "val/ or test/"
        say(
            f"no {lacking}: held out {held_out.share:g} of each label's pictures to evaluate on, drawn with seed "
            f"{held_out.seed}; --validation SHARE holds out another share",
            sys.stdout,
        )
    if dataset.left_out:
        say(f"left out: {shown(dataset.left_out)}", sys.stdout)
    for text in dataset.warnings:
        say(f"warning: {shown(text)}", sys.stderr)
    for text in dataset.unreadable:
        say(f"left out, unreadable: {shown(text)}", sys.stdout)


def _batches(pictures: int, recipe: Recipe) -> str:
    """Return the first line's words about a data set smaller than a batch."""
    shrinks = pictures < recipe.batch_size and recipe.last_batch == "train"
    return f", batches of {pictures} (all), not {recipe.batch_size}" if shrinks else ""
