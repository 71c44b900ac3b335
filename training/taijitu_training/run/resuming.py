"""Decide whether a saved training state belongs to the run that is to continue it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from taijitu_training import checkpoint
from taijitu_training.checkpoint import Checkpoint
from taijitu_training.errors import CheckpointError
from taijitu_training.models import model_options
from taijitu_training.recipes.recipe import Recipe

DATA = ("data", "train_pictures", "evaluation", "evaluation_pictures", "test_pictures", "held_out", "other")
FLAGS = ("patience", "minutes")


def load_resumable(path: Path, own: Checkpoint) -> Checkpoint:
    """Return the checkpoint at `path` to continue from. `own`: what the run would save now, its weights aside.

    CheckpointError, naming the differences, if it is of another run, or has no training state.
    """
    saved = checkpoint.load(path)
    then, now = _what_must_agree(saved), _what_must_agree(own)
    if differing := [key for key in {**now, **then} if now.get(key) != then.get(key)]:
        changes = "; ".join(f"{key} was {then.get(key)!r}, now it is {now.get(key)!r}" for key in differing[:6])
        more = f"; and {len(differing) - 6} more" if len(differing) > 6 else ""
        raise CheckpointError(f"{path}: {changes}{more}; resume with the same settings")
    if not saved.resume:
        raise CheckpointError(f"{path}: has no training state to continue from; give the run's last.pt")
    _check_steps(path, saved.resume, own.resume)
    return saved


def _what_must_agree(one: Checkpoint) -> dict[str, Any]:
    training = one.training
    return {
        "labels": one.labels,
        "data's sha256": one.source_sha256,
        "model": one.architecture["name"],
        **model_options(one.architecture["name"]),  # an option that did not exist when it was saved has its default
        **one.architecture["options"],
        **{key: training.get(key) for key in DATA + FLAGS},
        "teacher": training.get("teacher", {}).get("sha256"),
        **Recipe.complete(training.get("recipe", {})),
    }


def _check_steps(path: Path, saved: dict[str, Any], own: dict[str, Any]) -> None:
    """Raise CheckpointError if an epoch has another number of steps: the schedule would end early or late."""
    then, now = saved.get("steps_per_epoch"), own["steps_per_epoch"]
    if then in (None, now):
        return
    then_count, now_count = saved["processes"], own["processes"]
    cures = [] if then_count == now_count else [f"as many processes, {then_count}"]  # WebDataset shards
    cures += ["as many parts (processes x --accumulate) and the same last_batch"]
    raise CheckpointError(
        f"{path}: steps per epoch were {then} with {then_count} processes, now they are {now} with {now_count}; "
        f"resume with {', '.join(cures)}"
    )
