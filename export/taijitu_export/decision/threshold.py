"""Find the threshold that the user asks for, and measure its coverage and accuracy."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from numpy.typing import NDArray

from taijitu_export.errors import ExportError
from taijitu_export.percentages import check_percentage
from taijitu_runtime.decision.decision import CoverageRow
from taijitu_runtime.decision.rule import check_threshold
from taijitu_runtime.errors import UsageError

COVERAGES = (100, 99, 98, 95, 90, 85, 80, 70, 60, 50)
FEWEST_KNOWN = 20
"""No accuracy is promised on fewer pictures than this."""

ROUNDING = 1e-9
"""For the error of binary fractions, in pictures or hundredths of one: 29 % of 100 pictures are 29, not 30."""


@dataclasses.dataclass(frozen=True)
class ThresholdRequest:
    """The user's request for a threshold: one of the three, or none.

    `accuracy`: percent of the known answers that are right. `coverage`: percent of pictures whose answer is known.
    `reject`: the probability below which an answer is unknown. UsageError for more than one, or
    a value outside its range.
    """

    accuracy: float | None = None
    coverage: float | None = None
    reject: float | None = None

    def __post_init__(self) -> None:
        given = [f"--{name}" for name, value in dataclasses.asdict(self).items() if value is not None]
        if len(given) > 1:
            raise UsageError(f"got {' and '.join(given)}, expected one of them: each sets the threshold; keep one")
        check_threshold(self.reject, "--reject")
        # As floats, which a card can hold: a number of any kind may be given.
        object.__setattr__(self, "accuracy", check_percentage("--accuracy", self.accuracy))
        object.__setattr__(self, "coverage", check_percentage("--coverage", self.coverage))
        object.__setattr__(self, "reject", None if self.reject is None else float(self.reject))

    @property
    def asks(self) -> bool:
        """Whether a threshold was asked for."""
        return any(value is not None for value in dataclasses.asdict(self).values())

    def __str__(self) -> str:
        if self.accuracy is not None:
            return f"accuracy {self.accuracy:g} %"
        if self.coverage is not None:
            return f"coverage {self.coverage:g} %"
        return "no threshold" if self.reject is None else f"probability {self.reject:g}"

    def threshold(self, scores: NDArray[np.float64], right: NDArray[np.bool_]) -> float | None:
        """Return the threshold for scores (N,) of answers that are right or not (N,); None where none was asked for.

        Answers of the score -inf are unknown at any threshold.

        Raises:
            ExportError: All are, or no threshold gives that accuracy on at least 20 pictures.
        """
        if self.coverage is None and self.accuracy is None:
            return self.reject
        total, can_be_known = len(scores), scores > -np.inf
        scores, right = scores[can_be_known], right[can_be_known]
        if not len(scores):
            raise ExportError(
                f"got the label of --other as the answer to {total} pictures of other labels, expected other answers "
                "too; train further"
            )
        ordered = -np.sort(-scores)
        if self.coverage is not None:
            wanted = math.ceil(self.coverage * total / 100 - ROUNDING)
            return float(ordered[min(max(1, wanted), len(ordered)) - 1])
        assert self.accuracy is not None  # for mypy: one of the two was asked for
        order = np.argsort(-scores, kind="stable")
        pictures = np.arange(1, len(order) + 1)
        counts = np.cumsum(right[order])
        is_last_of_its_score = np.append(ordered[:-1] > ordered[1:], True)
        is_accurate = 100 * counts >= self.accuracy * pictures - ROUNDING
        good = np.flatnonzero(is_accurate & is_last_of_its_score)
        if not len(good) or good[-1] + 1 < FEWEST_KNOWN:
            reached = (counts / pictures)[is_last_of_its_score & (pictures >= FEWEST_KNOWN)]
            best = 100 * float(np.max(reached, initial=0.0))
            raise ExportError(
                f"got at most {best:.1f} % on {FEWEST_KNOWN} or more of {len(order)} pictures, expected --accuracy "
                f"{self.accuracy:g}; ask for less, or train further"
            )
        return float(ordered[good[-1]])


def coverage_row(
    threshold: float, scores: NDArray[np.float64], right: NDArray[np.bool_], others: NDArray[np.float64] | None
) -> CoverageRow:
    """Measure a threshold.

    `scores`: of pictures with labels, float64 (N,); `right`: whether their answers are, bool (N,); `others`: scores of
    pictures of none of the labels, float64 (M,).
    """
    known = scores >= threshold
    accuracy = float(right[known].mean()) if known.any() else 0.0
    accepted = None if others is None else round(100 * float((others >= threshold).mean()), 2)
    return CoverageRow(round(100 * float(known.mean()), 2), threshold, round(100 * accuracy, 2), accepted)


def coverage_table(
    choosing: NDArray[np.float64],
    scores: NDArray[np.float64],
    right: NDArray[np.bool_],
    others: NDArray[np.float64] | None,
) -> tuple[CoverageRow, ...]:
    """Return rows for usual coverages: thresholds from the scores `choosing`, measured as by `coverage_row`."""
    nothing = np.zeros(len(choosing), np.bool_)
    thresholds = [ThresholdRequest(coverage=float(coverage)).threshold(choosing, nothing) for coverage in COVERAGES]
    return tuple(coverage_row(each, scores, right, others) for each in thresholds if each is not None)
