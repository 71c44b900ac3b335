"""Answers that do not flicker: probabilities averaged over time."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray


class Smoother:
    """An exponential average in time: what was seen `time_constant_s` ago weighs 1/e of what is seen now.

    In seconds, not in frames, so that the picture is as calm at 5 frames/s as at 60. 0 does not smooth.
    """

    def __init__(self, time_constant_s: float) -> None:
        self._time_constant_s = time_constant_s
        self._average: NDArray[np.float64] | None = None
        self._last_s = 0.0

    def add(self, probabilities: NDArray[np.float32], time_s: float) -> NDArray[np.float64]:
        """The average, float64 (K,), with these probabilities, float32 (K,), of the moment `time_s`."""
        new = probabilities.astype(np.float64)
        if self._average is None or self._time_constant_s <= 0:
            self._average = new
        else:
            past = math.exp(-max(0.0, time_s - self._last_s) / self._time_constant_s)
            self._average = past * self._average + (1 - past) * new
        self._last_s = time_s
        return self._average
