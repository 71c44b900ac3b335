"""Average probabilities over time, so that answers do not flicker."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray


class Smoother:
    """An exponential average over time: probabilities of `time_constant_s` ago have 1/e of the weight of the newest.

    The constant is in seconds and not in frames, so that the result does not depend on the frame rate. 0 turns
    smoothing off.
    """

    def __init__(self, time_constant_s: float) -> None:
        self._time_constant_s = time_constant_s
        self._average: NDArray[np.float64] | None = None
        self._last_s = 0.0

    def add(self, probabilities: NDArray[np.float32], time_s: float) -> NDArray[np.float64]:
        """Add probabilities, float32 (K,), of the time `time_s`, and return the average, float64 (K,)."""
        new = probabilities.astype(np.float64)
        if self._average is None or self._time_constant_s <= 0:
            self._average = new
        else:
            past = math.exp(-max(0.0, time_s - self._last_s) / self._time_constant_s)
            self._average = past * self._average + (1 - past) * new
        self._last_s = time_s
        return self._average
