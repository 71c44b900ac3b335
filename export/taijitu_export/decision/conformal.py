"""Label sets with a guarantee: split conformal prediction.

Sadinle et al., Least Ambiguous Set-Valued Classifiers with Bounded Error Levels (2019).
The guarantee holds for the average over pictures like those that were given, and not for each label.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from taijitu_export.decision.threshold import ROUNDING
from taijitu_export.errors import ExportError


def set_probability(of_labels: NDArray[np.float64], guarantee: float) -> float:
    """Return the least probability of a label in the set, so that it has the true label in `guarantee` percent.

    Args:
        of_labels: The probability of each picture's own label, float64 (N,).
        guarantee: In percent, less than 100.

    Raises:
        ExportError: The pictures are too few for that.
    """
    miss = 1 - guarantee / 100
    # The largest rank at which at most that share of new pictures is below.
    rank = min(len(of_labels), math.floor((len(of_labels) + 1) * miss + ROUNDING))
    if rank < 1:
        needed = math.ceil(1 / miss - 1 - ROUNDING)
        raise ExportError(
            f"got {len(of_labels)} pictures to choose with, expected at least {needed} for --guarantee {guarantee:g} "
            "(half of all pictures choose); give more pictures, or a lower guarantee"
        )
    return float(np.sort(of_labels)[rank - 1])


def is_covered(members: NDArray[np.bool_], targets: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return whether each picture's label is in its set, bool (N,), from members (N, K)."""
    return np.asarray(members[np.arange(len(targets)), targets])
