"""Judge a checkpoint's answers to labelled pictures, prepared as its contract says."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from taijitu_runtime.console import Progress
from taijitu_runtime.datasets import LeftOut, evaluation_pictures
from taijitu_runtime.errors import DataError
from taijitu_runtime.pictures.preprocess import normalise
from taijitu_training.checkpoint import Checkpoint
from taijitu_training.errors import TrainingError

RARE = 0.01
"""Probability that guessing gets as many right; weights above it are refused."""


@dataclass(frozen=True)
class Judged:
    """`correct` of `count` pictures of `source`, without the files `left_out`.

    `chance`: the share that always answering with the commonest label gets right; a half where there is one label only.
    """

    correct: int
    count: int
    chance: float
    source: str
    left_out: LeftOut

    @property
    def top1(self) -> float:
        """Accuracy in percent."""
        return 100.0 * self.correct / self.count

    def __str__(self) -> str:
        return f"{self.top1:.2f} % of {self.source} ({self.correct} of {self.count})"

    def require_better_than_guessing(self) -> None:
        """Raise TrainingError if guessing, or the commonest label for every picture, would often be as good."""
        from scipy.stats import binom

        as_good = float(binom.sf(self.correct - 1, self.count, self.chance))
        if not as_good <= RARE:
            needed = math.ceil(math.log(RARE) / math.log(self.chance))
            few = f"; {needed} pictures at least would show more" if self.count < needed else ""
            raise TrainingError(
                f"got {self}, which guessing, or always the commonest label, reaches too, so nothing was written{few}; "
                "check the order of the labels, --mean, --std, --size, and that the weights are of this network, give "
                "as many pictures of each label, or omit --data"
            )


@torch.inference_mode()
def judge(checkpoint: Checkpoint, data: Path, *, skip_unreadable: bool = False) -> Judged:
    """Answer every picture of the test set at `data` (or of all of it, if it has no splits).

    `skip_unreadable`: leave out pictures that cannot be decoded. DataError if it has no labels, or others than the
    checkpoint.
    """
    spec = checkpoint.card().input
    pictures = evaluation_pictures(data, checkpoint.labels)
    if skip_unreadable:
        pictures = pictures.readable(spec)
    if pictures.targets is None:
        raise DataError(f"{data}: got pictures without labels, expected <label>/*; sort them into folders")
    model = checkpoint.model()
    answers = []
    with Progress(len(pictures)) as bar:
        for batch in pictures.batches(spec, 32):
            answers.append(model(torch.from_numpy(normalise(batch, spec))).argmax(1).numpy())
            bar.advance(len(batch))
    correct = int((np.concatenate(answers) == pictures.targets).sum())
    counts = np.unique(pictures.targets, return_counts=True)[1]
    chance = float(counts.max() / counts.sum()) if len(counts) > 1 else 0.5
    return Judged(correct, len(pictures), chance, str(pictures), pictures.left_out)
