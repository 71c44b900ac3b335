"""Write a run's checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from taijitu_training import checkpoint
from taijitu_training.checkpoint import Checkpoint
from taijitu_training.data import input_contract
from taijitu_training.loop.state import TrainState
from taijitu_training.run.course import Course
from taijitu_training.run.settings import RunSettings


@dataclass(frozen=True)
class Saver:
    """The writer of one run's checkpoints. `steps`: those of an epoch, with the processes and the parts."""

    settings: RunSettings
    course: Course
    steps: Mapping[str, int]

    def save(self, state: TrainState, name: str, *, resumable: bool = False) -> None:
        """Write the result's weights to OUT/`name`, in the first process. `resumable`: with the state to continue."""
        if not self.settings.processes.writes:
            return
        weights = {key: value.detach().cpu().contiguous() for key, value in state.result.state_dict().items()}
        resume = {"state": state.state_dict(), "history": self.course.history, **self.steps} if resumable else {}
        checkpoint.save(self.checkpoint(weights, resume, is_judged=state.step == 0), self.settings.out / name)

    def checkpoint(self, weights: dict[str, Tensor], resume: dict[str, Any], *, is_judged: bool = False) -> Checkpoint:
        """Return a checkpoint. `is_judged`: the weights are those of the last row, and not from within an epoch."""
        settings, course = self.settings, self.course
        last = course.history[-1] if course.history and is_judged else {}
        metrics = {key: value for key, value in last.items() if key in ("epoch", "eval_top1", "eval_loss")}
        before = [one for one in course.computed_in_before.split(", ") if one not in ("", settings.computed_in)]
        training = {
            **settings.dataset.to_card(),
            "recipe": settings.recipe.to_dict(),
            "computed_in": ", ".join([*before, settings.computed_in]),
            "metrics": {**metrics, **course.measured},
            "date": checkpoint.today(),
            "patience": settings.patience,
            "minutes": settings.minutes,
            "started_from": dict(course.origin) or None,
            "teacher": None if settings.teacher is None else settings.teacher.origin,
        }
        return Checkpoint(
            state_dict=weights,
            architecture=settings.architecture,
            labels=list(settings.dataset.labels),
            input=input_contract(settings.dataset.size, settings.recipe),
            training={name: value for name, value in training.items() if value is not None},
            producer=checkpoint.producer_versions(),
            source_sha256=settings.dataset.sha256,
            resume=resume,
        )
