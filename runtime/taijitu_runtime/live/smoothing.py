"""Average probabilities over time, so that answers do not flicker."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taijitu_runtime.answers import Answer, Scores
from taijitu_runtime.decision.rule import Certainty, DecisionRule


class Smoother:
    """An exponential average over time: probabilities of `time_constant_s` ago have 1/e of the weight of the newest.

    The constant is in seconds and not in frames, so that the result does not depend on the frame rate. 0 turns
    smoothing off. An earlier time, of a recording that is joined to another, begins a new average.
    """

    def __init__(self, time_constant_s: float) -> None:
        self._time_constant_s = time_constant_s
        self._sum: NDArray[np.float64] | None = None  # weighted, with 1 for the newest
        self._weight = 0.0
        self._last_s = 0.0

    def add(self, probabilities: NDArray[np.floating[Any]], time_s: float) -> NDArray[np.float64]:
        """Add probabilities, (K,), of the time `time_s`, and return the average, float64 (K,)."""
        new = probabilities.astype(np.float64)
        if self._sum is None or self._time_constant_s <= 0 or time_s < self._last_s:
            self._sum, self._weight = new, 1.0
        else:
            past = math.exp((self._last_s - time_s) / self._time_constant_s)
            self._sum, self._weight = past * self._sum + new, past * self._weight + 1
        self._last_s = time_s
        return self._sum / self._weight


class SmoothedAnswers:
    """One model's answers from averages over time, of probabilities and of the energy where that decides."""

    def __init__(self, rule: DecisionRule, time_constant_s: float) -> None:
        self._rule = rule
        self._probabilities, self._energy = Smoother(time_constant_s), Smoother(time_constant_s)

    def add(self, scores: Scores, time_s: float, top: int) -> tuple[tuple[Answer, ...], Certainty]:
        """Add the scores of one picture, of the time `time_s`; return the `top` likeliest answers and their worth."""
        average = self._probabilities.add(scores.probabilities[0], time_s)
        energies = self._rule.energies(scores.logits)
        energy = None if energies is None else self._energy.add(energies, time_s)
        order = np.lexsort((-scores.logits[0], -average))  # as in `Scores`, also where probabilities round to the same
        labels = self._rule.labels
        answers = tuple(Answer(labels[index], index, float(average[index])) for index in order[:top].tolist())
        return answers, self._rule.certainties(average[None], order[None], energy)[0]
