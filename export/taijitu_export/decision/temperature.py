"""Temperature scaling: Guo et al., On Calibration of Modern Neural Networks (2017)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from taijitu_runtime.errors import require

LOWEST, HIGHEST = 0.05, 20.0
TOLERANCE = 1e-6
"""Error of the logarithm at which the search ends; it fixes five digits."""


def log_loss(logits: NDArray[np.float32], targets: NDArray[np.int64], temperature: float) -> float:
    """Compute the mean of -log(probability of the label): logits (N, K) over a temperature, targets (N,)."""
    scaled = logits.astype(np.float64) / temperature
    scaled -= scaled.max(axis=1, keepdims=True)
    right = scaled[np.arange(len(targets)), targets]
    return float((np.log(np.exp(scaled).sum(axis=1)) - right).mean())


def best_temperature(logits: NDArray[np.float32], targets: NDArray[np.int64]) -> float:
    """Return the temperature with the least log loss, from 0.05 to 20, to four digits.

    The loss is convex in 1 / temperature, so it has one minimum. Where every answer is right, that is at the lowest
    temperature, near which the loss is 0 in float64: of equals, the lowest is returned.
    """
    optimize = require("scipy.optimize", "taijitu[export]")
    lowest, highest = math.log(LOWEST), math.log(HIGHEST)

    def loss(logarithm: float) -> float:
        return log_loss(logits, targets, math.exp(logarithm))

    found = optimize.minimize_scalar(loss, bounds=(lowest, highest), method="bounded", options={"xatol": TOLERANCE})
    best = lowest if loss(lowest) <= found.fun else found.x
    return float(f"{math.exp(best):.4g}")
