"""Two classifiers' logits for the same pictures: what differs, and what of it matters.

A network has no opinion to lose between two classes that it holds for equally likely, so a flip between such two is no
error of the candidate. The rule, in numbers: a flip from class a to class b is *near-equal* where the reference's own
probabilities differ by at most 0.05. Were those probabilities right, a flip would turn right into wrong in
p(a) - p(b) of the cases more often than wrong into right: 20 near-equal flips cost one picture at most. (Networks are
overconfident as a rule, so the true cost is lower still.) A near-equal flip therefore counts with that expected cost
and not with how it happened to fall; every other flip counts with the label. Without labels all flips count with their
expected cost.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

NEAR_EQUAL = 0.05
TOP = 5


@dataclasses.dataclass(frozen=True)
class Accuracy:
    """Shares of pictures, in percent, whose label is the first answer, or among the first five (None: K <= 5)."""

    top1_percent: float
    top5_percent: float | None


@dataclasses.dataclass(frozen=True)
class Flip:
    """A picture whose first answer differs. Classes are indices; `label` is -1 for a picture without one.

    `margin`: by how much the reference prefers its answer to the candidate's, as a difference of its probabilities.
    """

    picture: int
    label: int
    reference: int
    candidate: int
    margin: float

    @property
    def near_equal(self) -> bool:
        """The reference itself was undecided between the two."""
        return self.margin <= NEAR_EQUAL

    @property
    def cost(self) -> float:
        """Pictures lost by this flip, -1 to 1: counted by the label, or expected where near-equal or unlabelled."""
        if self.near_equal or self.label < 0:
            return self.margin
        return float(self.reference == self.label) - float(self.candidate == self.label)


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A candidate beside its reference on `pictures` pictures.

    `not_finite`: pictures for which a logit of the candidate is NaN or infinite; they are left out of the differences
    and of the flips, and are wrong in its accuracy. Differences are absolute, of logits; `logit_range` is the
    reference's largest minus its smallest.
    """

    pictures: int
    not_finite: int
    candidate: Accuracy | None
    reference: Accuracy | None
    flips: tuple[Flip, ...]
    max_difference: float
    mean_difference: float
    logit_range: float

    @property
    def near_equal(self) -> int:
        """How many of the flips are near-equal."""
        return sum(flip.near_equal for flip in self.flips)

    @property
    def agreement_percent(self) -> float:
        """Pictures with the same first answer."""
        return 100 * (1 - (len(self.flips) + self.not_finite) / self.pictures)

    @property
    def counted_drop(self) -> float:
        """Points of top-1 accuracy that the candidate costs, by the rule at the top of this file."""
        return 100 * (sum(flip.cost for flip in self.flips) + self.not_finite) / self.pictures

    @property
    def measured_drop(self) -> float | None:
        """Points of top-1 accuracy between reference and candidate as the labels have it; None without labels."""
        if self.reference is None or self.candidate is None:
            return None
        return self.reference.top1_percent - self.candidate.top1_percent


def accuracy(logits: NDArray[np.float32], targets: NDArray[np.int64]) -> Accuracy:
    """Accuracy of logits (N, K) for targets (N,); of equal logits the lower index comes first, as in `top_k`."""
    logits = np.where(np.isfinite(logits).all(1, keepdims=True), logits, np.nan)
    order = np.argsort(-logits, axis=1, kind="stable")[:, :TOP]
    hits = (order == targets[:, None]) & np.isfinite(logits[:, :1])
    top5 = 100 * float(hits.any(1).mean()) if logits.shape[1] > TOP else None
    return Accuracy(100 * float(hits[:, 0].mean()), top5)


def compare(
    candidate: NDArray[np.float32], reference: NDArray[np.float32], targets: NDArray[np.int64] | None = None
) -> Comparison:
    """Compare logits, float32 (N, K) with the classes in the same order; the reference's are all finite."""
    finite = np.isfinite(candidate).all(axis=1)
    difference = np.abs(candidate[finite].astype(np.float64) - reference[finite])
    return Comparison(
        pictures=len(candidate),
        not_finite=int((~finite).sum()),
        candidate=None if targets is None else accuracy(candidate, targets),
        reference=None if targets is None else accuracy(reference, targets),
        flips=_flips(candidate, reference, targets, np.flatnonzero(finite)),
        max_difference=float(difference.max(initial=0.0)),
        mean_difference=float(difference.mean()) if difference.size else 0.0,
        logit_range=float(np.max(reference) - np.min(reference)),
    )


def _flips(
    candidate: NDArray[np.float32],
    reference: NDArray[np.float32],
    targets: NDArray[np.int64] | None,
    finite: Sequence[int] | NDArray[np.int64],
) -> tuple[Flip, ...]:
    flips = []
    for picture in finite:
        was, now = int(reference[picture].argmax()), int(candidate[picture].argmax())
        if was != now:
            powers = np.exp(reference[picture].astype(np.float64) - float(reference[picture].max()))
            margin = float((powers[was] - powers[now]) / powers.sum())
            flips.append(Flip(int(picture), -1 if targets is None else int(targets[picture]), was, now, margin))
    return tuple(flips)
