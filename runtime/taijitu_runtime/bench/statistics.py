"""Statistics of times, computed as in trtexec, so that both can be compared."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from statistics import median

import numpy as np


@dataclasses.dataclass(frozen=True)
class Summary:
    """The statistics of one kind of time, in milliseconds.

    Attributes:
        percentiles: By percentage, such as 90.0, 95.0, 99.0.
        variation_percent: The standard deviation of the population in percent of the mean; trtexec calls it
            coefficient of variance.
    """

    min: float
    max: float
    mean: float
    median: float
    percentiles: dict[float, float]
    variation_percent: float


@dataclasses.dataclass(frozen=True)
class Ratio:
    """The ratio of the times of two models, from adjacent turns.

    Attributes:
        median: The median of the ratios of the turns.
        low: 10 % of the ratios are below.
        high: 10 % of the ratios are above.
    """

    median: float
    low: float
    high: float


def summarise(times_ms: Sequence[float], percentages: Sequence[float]) -> Summary:
    """Return the statistics of at least one time."""
    ordered = sorted(times_ms)
    mean = math.fsum(ordered) / len(ordered)
    deviation = math.sqrt(math.fsum((time - mean) ** 2 for time in ordered) / len(ordered))
    return Summary(
        min=ordered[0],
        max=ordered[-1],
        mean=mean,
        median=median(ordered),
        percentiles={percentage: percentile(ordered, percentage) for percentage in percentages},
        variation_percent=100 * deviation / mean if mean else math.inf,
    )


def percentile(ordered: Sequence[float], percentage: float) -> float:
    """Return trtexec's percentile: the longest of n ascending times without the last floor((1 - percentage / 100) n).

    It computes in float32, as trtexec: with 100 times and 99 %, it removes floor(0.99999905), which is 0.

    Args:
        ordered: The ascending times.
        percentage: In [0, 100].
    """
    one, hundred = np.float32(1), np.float32(100)
    left_out = int((one - np.float32(percentage) / hundred) * np.float32(len(ordered)))
    return ordered[max(len(ordered) - 1 - left_out, 0)]


def ratio_of_turns(times_ms: Sequence[Sequence[float]], base_ms: Sequence[Sequence[float]]) -> Ratio:
    """Return the ratio of the medians of adjacent turns."""
    ratios = sorted(median(ours) / median(theirs) for ours, theirs in zip(times_ms, base_ms))
    tenth = len(ratios) // 10
    return Ratio(median(ratios), ratios[tenth], ratios[len(ratios) - 1 - tenth])
