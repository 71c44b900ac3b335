"""Numbers about times, worked out as trtexec does it, so that both can be compared."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class Summary:
    """Of one kind of time, all in milliseconds. `percentiles`: by percentage, (90.0, 95.0, 99.0) for instance.

    `variation_percent`: standard deviation (of the population) in percent of the mean, trtexec's coefficient of
    variance.
    """

    min: float
    max: float
    mean: float
    median: float
    percentiles: dict[float, float]
    variation_percent: float


@dataclasses.dataclass(frozen=True)
class Ratio:
    """How many times as long one model took as another, from turns taken one beside the other.

    `median` of the turns' ratios; `low`, `high`: 10 % of the turns lie below and above.
    """

    median: float
    low: float
    high: float


def summarise(times_ms: Sequence[float], percentages: Sequence[float]) -> Summary:
    """The summary of at least one time."""
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


def median(ordered: Sequence[float]) -> float:
    """The middle of ascending times, or the mean of the two in the middle."""
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def percentile(ordered: Sequence[float], percentage: float) -> float:
    """trtexec's: of n ascending times, the last after leaving out floor((1 - percentage / 100) n) of the longest.

    `percentage` in [0, 100]. In float32, as there: of 100 times, 99 % leaves out floor(0.99999905), which is none.
    """
    one, hundred = np.float32(1), np.float32(100)
    left_out = int((one - np.float32(percentage) / hundred) * np.float32(len(ordered)))
    return ordered[max(len(ordered) - 1 - left_out, 0)]


def ratio_of_turns(times_ms: Sequence[Sequence[float]], base_ms: Sequence[Sequence[float]]) -> Ratio:
    """The ratio of each turn's median to that of the turn beside it."""
    ratios = sorted(median(sorted(ours)) / median(sorted(theirs)) for ours, theirs in zip(times_ms, base_ms))
    tenth = len(ratios) // 10
    return Ratio(median(ratios), ratios[tenth], ratios[len(ratios) - 1 - tenth])
