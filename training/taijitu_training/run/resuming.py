"""Resume a run: the settings that it had, whether a saved training state belongs to it, and its course so far."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from taijitu_runtime.card import Architecture
from taijitu_runtime.console import say, shown
from taijitu_runtime.errors import UsageError, first_line
from taijitu_runtime.files import write_whole
from taijitu_training import checkpoint
from taijitu_training.checkpoint import Checkpoint
from taijitu_training.errors import CheckpointError
from taijitu_training.loop.state import TrainState
from taijitu_training.models import model_options
from taijitu_training.recipes.recipe import Recipe
from taijitu_training.run.course import Course
from taijitu_training.run.messages import other_parts_in_words, other_type_in_words
from taijitu_training.run.saving import Saver
from taijitu_training.run.settings import RunSettings

DATA = ("train_pictures", "evaluation", "evaluation_pictures", "test_pictures", "held_out", "other")
FLAGS = ("patience", "minutes")


@dataclasses.dataclass(frozen=True)
class PreviousRun:
    """The settings of a resumed run that need not be given again.

    `recipe`: its name. `fields`: of its recipe, by name. `patience`, `minutes`: as `train` takes them.
    """

    network: Architecture | None = None
    recipe: str = ""
    fields: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    patience: int | None = None
    minutes: float | None = None

    @classmethod
    def of(cls, path: Path | None) -> PreviousRun:
        """Read it from the run's last.pt; empty for no run."""
        if path is None:
            return cls()
        if not path.exists():
            raise UsageError(f"got --resume, but there is no {path}; start without it")
        saved = checkpoint.load(path)
        saved.model()  # the run builds the same network from these options: an error names the checkpoint here
        recipe = saved.training.get("recipe", {})
        known = {field.name for field in dataclasses.fields(Recipe)} - {"name"}
        fields = {name: tuple(value) if isinstance(value, list) else value for name, value in recipe.items()}
        own = {name: value for name, value in fields.items() if name in known}
        patience, minutes = (saved.training.get(name) for name in FLAGS)
        return cls(
            saved.architecture,
            recipe.get("name", ""),
            own,
            patience if isinstance(patience, int) else None,
            minutes if isinstance(minutes, (int, float)) else None,
        )

    def applied_to(self, recipe: Recipe, given: Collection[str]) -> Recipe:
        """Return `recipe` with the run's fields where they were not `given`. CheckpointError for impossible ones."""
        own = {name: value for name, value in self.fields.items() if name not in given}
        try:
            return dataclasses.replace(recipe, **own)
        except (TypeError, ValueError) as error:
            raise CheckpointError(f"the recipe in last.pt is damaged ({first_line(error)}); start a new run") from None


def resume(path: Path, state: TrainState, saver: Saver) -> None:
    """Continue the run in the checkpoint at `path`: set `state`, and the course of `saver`, to what they were there.

    Tell what is different here, if the result will not be that of a run without a break. CheckpointError if it cannot
    be continued with the settings of `saver`.
    """
    settings, course = saver.settings, saver.course
    own = saver.checkpoint({}, dict(saver.steps))
    saved = settings.processes.first_does(lambda: load_resumable(path, own))
    course.computed_in_before = str(saved.training.get("computed_in", ""))
    if settings.processes.writes:
        _tell_changes(path, saved, saver)
    try:
        _restore(state, course, saved, settings)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        damage = f"{path}: its training state is damaged ({error!r}); start a new run"
        settings.processes.fail(CheckpointError(damage))
    if settings.processes.writes and settings.dataset.chooses and course.history:
        _copy_best(path.parent, settings.out)


def _tell_changes(path: Path, saved: Checkpoint, saver: Saver) -> None:
    then, now = saver.course.computed_in_before.rpartition(", ")[2], saver.settings.computed_in
    if then not in ("", now):
        say(other_type_in_words(path, then, now), sys.stderr)
    parts = saved.resume.get("parts")
    if isinstance(parts, int) and parts != saver.steps["parts"]:
        say(other_parts_in_words(path, parts, saver.steps["parts"], saver.steps["processes"]), sys.stderr)


def _restore(state: TrainState, course: Course, saved: Checkpoint, settings: RunSettings) -> None:
    state.load_state_dict(saved.resume["state"])
    course.history[:] = saved.resume["history"]
    course.origin = saved.training.get("started_from", {})
    if not 0 <= state.epoch == len(course.history) <= settings.recipe.epochs:
        raise ValueError(f"{len(course.history)} rows for {state.epoch} of {settings.recipe.epochs} epochs")
    if course.has_ended(settings):
        measured = saved.training.get("metrics", {})
        course.measured = {name: value for name, value in measured.items() if name not in course.history[-1]}


def _copy_best(before: Path, out: Path) -> None:
    """Copy the best epoch of the run in the folder `before`, where it is continued in another folder."""
    here, there = out / "best.pt", before / "best.pt"
    if here.exists():
        return
    if there.is_file():
        write_whole(here, there.read_bytes())
    else:
        say(f"warning: no {shown(there)}: best.pt will be there after an epoch better than those before", sys.stderr)


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
    if not own.source_sha256:
        _check_shards(path, saved.resume, own.resume)
    return saved


def _what_must_agree(one: Checkpoint) -> dict[str, Any]:
    training = one.training
    return {
        "labels": one.labels,
        **({"data's sha256": one.source_sha256} if one.source_sha256 else {"data": training.get("data")}),
        "model": one.architecture.name,
        **model_options(one.architecture.name),  # an option that did not exist when it was saved has its default
        **one.architecture.options,
        **{key: training.get(key) for key in DATA + FLAGS},
        "teacher": training.get("teacher", {}).get("sha256"),
        **Recipe.complete(training.get("recipe", {})),
    }


def _check_shards(path: Path, saved: dict[str, Any], own: dict[str, Any]) -> None:
    """Raise CheckpointError in mid-epoch if WebDataset shards were divided among another number of processes.

    The other steps of the epoch would read some samples again and others never.
    """
    then, now = saved.get("processes"), own["processes"]
    state = saved.get("state")
    if then not in (None, now) and isinstance(state, dict) and state.get("step"):
        raise CheckpointError(
            f"{path}: stopped within an epoch of WebDataset shards with {then} processes, now there are {now}, which "
            f"read them in another order; resume with {then}"
        )


def _check_steps(path: Path, saved: dict[str, Any], own: dict[str, Any]) -> None:
    """Raise CheckpointError if an epoch has another number of steps: the schedule would end early or late."""
    then, now = saved.get("steps_per_epoch"), own["steps_per_epoch"]
    if then in (None, now):
        return
    then_count, now_count = saved.get("processes"), own["processes"]
    cures = [] if then_count == now_count else [f"as many processes, {then_count}"]  # WebDataset shards
    cures += ["as many parts (processes x --accumulate) and the same last_batch"]
    raise CheckpointError(
        f"{path}: steps per epoch were {then} with {then_count} processes, now they are {now} with {now_count}; "
        f"resume with {', '.join(cures)}"
    )
