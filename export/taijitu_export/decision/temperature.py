"""Temperature scaling: Guo et al., On Calibration of Modern Neural Networks (2017)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

LOWEST, HIGHEST = 0.05, 20.0
STEPS = 30
"""Each shortens the interval to 0.618 of itself: the last one fixes five digits."""
GOLDEN = (math.sqrt(5) - 1) / 2


def log_loss(logits: NDArray[np.float32], targets: NDArray[np.int64], temperature: float) -> float:
    """Compute the mean of -log(probability of the label): logits (N, K) over a temperature, targets (N,)."""
    scaled = logits.astype(np.float64) / temperature
    scaled -= scaled.max(axis=1, keepdims=True)
    right = scaled[np.arange(len(targets)), targets]
    return float((np.log(np.exp(scaled).sum(axis=1)) - right).mean())


def best_temperature(logits: NDArray[np.float32], targets: NDArray[np.int64]) -> float:
    """Return the temperature with the least log loss, from 0.05 to 20, to four digits.

    A golden-section search in the logarithm: the loss is convex in 1 / temperature, so it has one minimum. Where every
    answer is right, that is at the lowest temperature, near which the loss is 0 in float64: equals go there.
    """

    def loss(logarithm: float) -> float:
        return log_loss(logits, targets, math.exp(logarithm))

    low, high = math.log(LOWEST), math.log(HIGHEST)
    left, right = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
    at_left, at_right = loss(left), loss(right)
    for _ in range(STEPS):
        if at_left <= at_right:
            high, right, at_right = right, left, at_left
            left = high - GOLDEN * (high - low)
            at_left = loss(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + GOLDEN * (high - low)
            at_right = loss(right)
    return float(f"{math.exp((low + high) / 2):.4g}")
