"""Exact bounds from n pictures: of a share, and of the difference between two answers to each picture.

Clopper and Pearson (1934): the bounds of a share are those beyond which the binomial tail at the observed count is less
than 2.5 %, which are quantiles of beta distributions. They hold at any n, small ones included, where approximations by
the normal distribution do not.
"""

from __future__ import annotations

import dataclasses
import math

from taijitu_export.fewest import fewest
from taijitu_runtime.errors import require

TAIL = 0.025
"""Probability that a bound is wrong, on its own side."""

MOST_PICTURES = 10_000_000
"""The search for the number of pictures that would be enough ends here."""


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
    # scipy.stats.beta.ppf is this function, and takes half a second to import.
    quantile = require("scipy.special", "taijitu[export]").betaincinv
    low = 0.0 if count == 0 else float(quantile(count, pictures - count + 1, TAIL))
    high = 1.0 if count == pictures else float(quantile(count + 1, pictures - count, 1 - TAIL))
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
