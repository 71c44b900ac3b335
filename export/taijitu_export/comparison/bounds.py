"""Exact bounds from n pictures: of a share, and of the difference between two answers to each picture.

Clopper and Pearson (1934): the bounds of a share are those beyond which the binomial tail at the observed count is less
than 2.5 %. They hold at any n, small ones included, where approximations by the normal distribution do not.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from numpy.typing import NDArray

from taijitu_export.fewest import fewest

TAIL = 0.025
"""Probability that a bound is wrong, on its own side."""

MOST_PICTURES = 10_000_000
"""The search for the number of pictures that would be enough ends here."""

BISECTIONS = 60

DEVIATIONS = 10
"""Standard deviations below an observed count whose probabilities are added up."""


@dataclasses.dataclass(frozen=True)
class Interval:
    """The values between two bounds, both included, as shares from -1 to 1."""

    low: float
    high: float

    @property
    def points(self) -> tuple[float, float]:
        """Both bounds in percentage points."""
        return 100 * self.low, 100 * self.high


def share_interval(count: int, pictures: int) -> Interval:
    """Return bounds of the true share, where `count` of `pictures` were observed; each holds in 97.5 % of cases."""
    low = 0.0 if count == 0 else _share_with_tail(count - 1, pictures, 1 - TAIL)
    high = 1.0 if count == pictures else _share_with_tail(count, pictures, TAIL)
    return Interval(low, high)


def drop_interval(lost: int, gained: int, pictures: int) -> Interval:
    """Return bounds of the accuracy drop: `lost` pictures were right before and are wrong now, `gained` the reverse.

    Each bound adds the bounds of both counts out of all pictures. McNemar's interval, which is conditional on the
    pictures that changed, would call 0 changes in 10 pictures certain.
    """
    losses, gains = share_interval(lost, pictures), share_interval(gained, pictures)
    return Interval(losses.low - gains.high, losses.high - gains.low)


def pictures_to_show(lost: int, gained: int, pictures: int, allowed: float) -> int | None:
    """Return the least number of pictures that, at the observed rates, would show a drop of at most `allowed`.

    `allowed`: as a share. None where the observed drop itself is larger, or ten million pictures are too few.
    """

    def shows(count: int) -> bool:
        more, less = math.ceil(lost * count / pictures), math.floor(gained * count / pictures)
        return drop_interval(more, less, count).high <= allowed

    return fewest(shows, MOST_PICTURES) if (lost - gained) / pictures < allowed else None


def _share_with_tail(count: int, pictures: int, tail: float) -> float:
    """Return the share at which at most `count` of `pictures` are observed with the probability `tail`."""
    # Counts further below add nothing that float64 has, at any share near the one that is looked for.
    first = max(0, count - math.ceil(DEVIATIONS * (1 + math.sqrt(min(count, pictures - count) + 1))))
    steps = np.arange(first + 1, count + 1)
    # Logarithms of the binomial coefficients "pictures over first, first + 1, ... count".
    below = math.lgamma(pictures + 1) - math.lgamma(first + 1) - math.lgamma(pictures - first + 1)
    coefficients = below + np.concatenate([[0.0], np.cumsum(np.log((pictures - steps + 1) / steps))])
    low, high = count / pictures if tail < 0.5 else first / pictures, 1.0 if tail < 0.5 else (count + 1) / pictures
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        if _tail_probability(coefficients, first, pictures, middle) > tail:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _tail_probability(coefficients: NDArray[np.float64], first: int, pictures: int, share: float) -> float:
    """Return the probability of `first`, `first` + 1, ... of `pictures`, each with the probability `share`.

    `coefficients`: the logarithm of the binomial coefficient of each of these counts.
    """
    counts = first + np.arange(len(coefficients))
    terms = coefficients + counts * math.log(share) + (pictures - counts) * math.log1p(-share)
    return float(np.exp(terms).sum())
