"""Compare two classifiers' logits for the same pictures: how far they are apart, and which answers changed."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from taijitu_runtime.answers import logit_range, softmax_of_finite

TOP = 5


@dataclasses.dataclass(frozen=True)
class Accuracy:
    """Shares of pictures, in percent, whose label is the first answer, or among the first five (None: K <= 5).

    `hits`: the pictures whose label is the first answer.
    """

    hits: int
    top1_percent: float
    top5_percent: float | None


@dataclasses.dataclass(frozen=True)
class Flip:
    """A picture whose first answer differs. Classes are indices; `label` is -1 for a picture without one.

    `margin`: the probability of the reference's answer minus that of the candidate's, both from the reference.
    """

    picture: int
    label: int
    reference: int
    candidate: int
    margin: float


@dataclasses.dataclass(frozen=True)
class LabelledComparison:
    """A candidate and its reference on pictures with labels.

    `lost`: pictures that the reference has right and the candidate wrong; `gained`: the reverse. `chance`: the share of
    the commonest label, the accuracy of a classifier that always answers with it. `constant`: the candidate always
    gives the same first answer, where the reference gives several.
    """

    candidate: Accuracy
    reference: Accuracy
    lost: int
    gained: int
    chance: float
    constant: bool

    @property
    def drop_points(self) -> float:
        """Percentage points of top-1 accuracy that the candidate lost."""
        return self.reference.top1_percent - self.candidate.top1_percent


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A candidate and its reference on `pictures` pictures.

    `labelled`: what the labels say; None without labels, and for one label alone, which is right for every picture.
    `not_finite`: pictures for which a logit of the candidate is NaN or infinite; they are left out of the differences
    and of the flips, and are wrong in its accuracy. Differences are absolute, of logits; `logit_range` is the
    reference's largest logit minus its smallest, at least 0.02 for probabilities (`answers.LEAST_RANGE`).
    """

    pictures: int
    not_finite: int
    labelled: LabelledComparison | None
    flips: tuple[Flip, ...]
    max_difference: float
    rms_difference: float
    logit_range: float

    @property
    def agreeing(self) -> int:
        """Pictures with the same first answer."""
        return self.pictures - len(self.flips) - self.not_finite

    @property
    def agreement_percent(self) -> float:
        """Percent of the pictures with the same first answer."""
        return 100 * self.agreeing / self.pictures

    @property
    def max_error(self) -> float:
        """The largest difference as a share of the logit range; NaN or infinite where a logit is."""
        return self._share(self.max_difference)

    @property
    def rms_error(self) -> float:
        """The root mean square of the differences as a share of the logit range; NaN or infinite where a logit is."""
        return self._share(self.rms_difference)

    def _share(self, difference: float) -> float:
        if self.not_finite:
            return np.inf
        if self.logit_range == 0:
            return 0.0 if difference == 0 else np.inf
        return difference / self.logit_range


def accuracy(logits: NDArray[np.float32], targets: NDArray[np.int64]) -> Accuracy:
    """Compute the accuracy of logits (N, K) for targets (N,); for equal logits the lower index wins, as in answers."""
    ranked = _ranked_hits(logits, targets)
    top5 = 100 * float(ranked.any(1).mean()) if logits.shape[1] > TOP else None
    return Accuracy(int(ranked[:, 0].sum()), 100 * float(ranked[:, 0].mean()), top5)


def probabilities_of(logits: NDArray[np.floating], output: str = "logits") -> NDArray[np.float64]:
    """Return probabilities, float64 (N, K), of finite logits (N, K). `output`: the kind of logits, from the card."""
    exact = logits.astype(np.float64)
    return exact if output == "probabilities" else softmax_of_finite(exact)


def compare(
    candidate: NDArray[np.float32],
    reference: NDArray[np.float32],
    targets: NDArray[np.int64] | None = None,
    output: str = "logits",
) -> Comparison:
    """Compare logits, float32 (N, K) with the classes in the same order. `output`: their kind, from the cards."""
    finite = _finite_rows(candidate)
    with np.errstate(invalid="ignore"):  # a reference that is not finite, whose range then fails every bar
        difference = np.abs(candidate[finite].astype(np.float64) - reference[finite])
        span = logit_range(reference, output)
    return Comparison(
        pictures=len(candidate),
        not_finite=int((~finite).sum()),
        labelled=None if targets is None or candidate.shape[1] == 1 else _labelled(candidate, reference, targets),
        flips=_flips(candidate, reference, targets, finite & _finite_rows(reference), output),
        max_difference=float(difference.max(initial=0.0)),
        rms_difference=float(np.sqrt(np.square(difference).mean())) if difference.size else 0.0,
        logit_range=span,
    )


def chance_share(targets: NDArray[np.int64]) -> float:
    """Return the share of the commonest label among `targets`, int64 (N,)."""
    return float(np.max(np.bincount(targets)) / len(targets))


def most_different(candidate: NDArray[np.float32], reference: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Return the `count` pictures whose logits differ the most, or fewer, the most different first; int64."""
    difference = np.nan_to_num(np.abs(candidate.astype(np.float64) - reference), nan=np.inf).max(axis=1)
    return np.argsort(-difference, kind="stable")[:count]


def _finite_rows(logits: NDArray[np.float32]) -> NDArray[np.bool_]:
    return np.asarray(np.isfinite(logits).all(axis=1), np.bool_)


def _labelled(
    candidate: NDArray[np.float32], reference: NDArray[np.float32], targets: NDArray[np.int64]
) -> LabelledComparison:
    before, after = (_ranked_hits(logits, targets)[:, 0] for logits in (reference, candidate))
    return LabelledComparison(
        candidate=accuracy(candidate, targets),
        reference=accuracy(reference, targets),
        lost=int((before & ~after).sum()),
        gained=int((after & ~before).sum()),
        chance=chance_share(targets),
        constant=_answers_given(candidate) == 1 < _answers_given(reference),
    )


def _answers_given(logits: NDArray[np.float32]) -> int:
    """Return how many different first answers there are."""
    return len(np.unique(logits.argmax(axis=1)))


def _ranked_hits(logits: NDArray[np.float32], targets: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return whether the first, the second ... the fifth answer is the label, bool (N, at most 5); none for NaN."""
    finite = np.isfinite(logits).all(axis=1, keepdims=True)
    order = np.argsort(-np.where(finite, logits, 0), axis=1, kind="stable")[:, :TOP]
    hits: NDArray[np.bool_] = (order == targets[:, None]) & finite
    return hits


def _flips(
    candidate: NDArray[np.float32],
    reference: NDArray[np.float32],
    targets: NDArray[np.int64] | None,
    finite: NDArray[np.bool_],
    output: str,
) -> tuple[Flip, ...]:
    flips = []
    for picture in np.flatnonzero(finite):
        was, now = int(reference[picture].argmax()), int(candidate[picture].argmax())
        if was != now:
            probabilities = probabilities_of(reference[picture, None], output)[0]
            margin = float(probabilities[was] - probabilities[now])
            flips.append(Flip(int(picture), -1 if targets is None else int(targets[picture]), was, now, margin))
    return tuple(flips)
