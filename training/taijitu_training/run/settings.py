"""What a training run is told before it starts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from taijitu_runtime.card import Architecture
from taijitu_training.data import Dataset
from taijitu_training.distributed import ALONE, Processes
from taijitu_training.loop.distillation import Teacher
from taijitu_training.loop.mixed_precision import computed_in, name_of
from taijitu_training.recipes.recipe import Recipe
from taijitu_training.weights.starting_point import InitialWeights


@dataclass(frozen=True)
class RunSettings:
    """The settings of one run in the folder `out`.

    Each of several `processes` has its own. `accumulate` divides each process's share of a batch into parts computed
    one by one. `initial`: the weights to start from instead of random ones. `teacher`: the checkpoint whose answers are
    learned too. `patience`: epochs without a better one after which the run ends. `minutes`: the recipe gets as many
    epochs as fit. `report`: whether report.html is written at the end.
    """

    architecture: Architecture
    recipe: Recipe
    dataset: Dataset
    out: Path
    device: torch.device
    processes: Processes = ALONE
    accumulate: int = 1
    compiled: bool = False
    initial: InitialWeights | None = None
    teacher: Teacher | None = None
    patience: int | None = None
    minutes: float | None = None
    report: bool = True

    @property
    def computed_in(self) -> str:
        """The name of the type that it computes in: recipes with mixed precision take what the device is fast in."""
        return name_of(computed_in(self.device.type, self.recipe))
