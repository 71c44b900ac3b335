"""How a run went so far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from taijitu_training.run.metrics import Row
from taijitu_training.run.settings import RunSettings


@dataclass
class Course:
    """What a run has measured, and what a resumed one knows of its past.

    `history`: the rows of the finished epochs. `measured`: the last epoch's values in addition to its row: on the test
    pictures, if others were to choose by, and by label. `origin`: of the initial weights. `computed_in_before`: the
    types of a resumed run, the last one at the end. `finished`: whether the last epoch is done; False before it, and
    where a signal stopped the run.
    """

    history: list[Row] = field(default_factory=list)
    measured: dict[str, float] = field(default_factory=dict)
    origin: Mapping[str, Any] = field(default_factory=dict)
    computed_in_before: str = ""
    finished: bool = False

    @property
    def best_top1(self) -> float:
        """The best accuracy on the evaluation pictures, in percent; -1 before the first epoch."""
        return max((row["eval_top1"] for row in self.history), default=-1.0)

    def has_ended(self, settings: RunSettings) -> bool:
        """Return whether the last epoch is done, by the recipe or by the patience."""
        scores = [row["eval_top1"] for row in self.history]
        waited = len(scores) - 1 - scores.index(max(scores)) if scores else 0
        return len(scores) == settings.recipe.epochs or (settings.patience is not None and waited >= settings.patience)
