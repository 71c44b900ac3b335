"""A classifier's first answers, and how far its probabilities can be trusted."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from taijitu_runtime.answers import scores_from_logits
from taijitu_runtime.errors import listed

BINS = 10


@dataclasses.dataclass(frozen=True)
class Predictions:
    """The first answers of N pictures: indices of labels, int64 (N,), their probabilities, and whether they are right.

    Pictures whose logits are not finite have the answer -1 and the probability 0.
    """

    answers: NDArray[np.int64]
    confidence: NDArray[np.float64]
    right: NDArray[np.bool_]


@dataclasses.dataclass(frozen=True)
class ReliabilityBin:
    """Pictures whose probability is between `low` and `high`: how many, the mean probability, the share right."""

    low: float
    high: float
    pictures: int
    confidence: float
    accuracy: float


def answers_of(logits: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the first answers, int64 (N,), of logits (N, K); -1 where they are not finite."""
    return np.where(np.isfinite(logits).all(axis=1), np.nan_to_num(logits).argmax(axis=1), -1)


def first_answers(
    logits: NDArray[np.float32], targets: NDArray[np.int64], output: str = "logits", temperature: float = 1.0
) -> Predictions:
    """Return the first answers from logits (N, K) for targets (N,). `output`, `temperature`: those of the card."""
    answers = answers_of(logits)
    safe = np.where((answers >= 0)[:, None], logits, np.float32(1 / logits.shape[1]))
    probabilities = scores_from_logits(safe, temperature, output).probabilities.astype(np.float64)
    confidence = np.where(answers >= 0, probabilities.max(axis=1), 0.0)
    return Predictions(answers, confidence, answers == targets)


def absent_labels(labels: Sequence[str], targets: NDArray[np.int64]) -> str | None:
    """Name the labels without a picture, in words; None where each has one."""
    absent = sorted(set(range(len(labels))) - set(targets.tolist()))
    if not absent:
        return None
    return f"pictures of {listed(repr(labels[index]) for index in absent)}: there are none in the data"


def reliability(found: Predictions) -> list[ReliabilityBin]:
    """Sort pictures that have an answer into ten bins of probability; bins without a picture are left out."""
    index = np.where(found.answers >= 0, np.minimum((found.confidence * BINS).astype(np.int64), BINS - 1), -1)
    bins = []
    for number in range(BINS):
        chosen = index == number
        if chosen.any():
            share, mean = float(found.right[chosen].mean()), float(found.confidence[chosen].mean())
            bins.append(ReliabilityBin(number / BINS, (number + 1) / BINS, int(chosen.sum()), mean, share))
    return bins


def calibration_error(found: Predictions) -> float:
    """Compute the expected calibration error (ECE) in percentage points.

    It is the mean over all pictures with an answer of the gap, within their bin, between the mean probability and the
    share right; NaN where there are none.
    """
    bins = reliability(found)
    gaps = sum(each.pictures * abs(each.confidence - each.accuracy) for each in bins)
    return 100 * gaps / sum(each.pictures for each in bins) if bins else math.nan


def coverage_and_accuracy(found: Predictions) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute the accuracy at every coverage, the likeliest answers first: both float64 (N,)."""
    order = np.argsort(-found.confidence, kind="stable")
    counts = np.arange(1, len(order) + 1)
    return counts / len(order), np.cumsum(found.right[order]) / counts
