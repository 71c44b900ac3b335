"""Choose a temperature, a score and a threshold by one half of the labelled pictures, and measure them on the other."""

from __future__ import annotations

import contextlib
import dataclasses

import numpy as np
from numpy.typing import NDArray

from taijitu_export.comparison.classes import calibration_error, first_answers
from taijitu_export.decision.conformal import set_probability
from taijitu_export.decision.temperature import best_temperature
from taijitu_export.decision.threshold import ThresholdRequest, coverage_table
from taijitu_export.errors import ExportError
from taijitu_runtime.answers import scores_from_logits
from taijitu_runtime.decision.decision import SCORES, Decision
from taijitu_runtime.decision.rule import energies

FEWEST_PICTURES = 100
FEWEST_OTHERS = 20
USUAL_COVERAGE = 90.0
"""In percent; scores are compared at this coverage where the user asks for no threshold."""


@dataclasses.dataclass(frozen=True)
class LabelledLogits:
    """Logits, float32 (N, K), targets, int64 (N,), and logits of pictures of none of the labels, if there are any.

    `other`: the label that means "none of these", if the network has one: its answers are unknown.
    """

    logits: NDArray[np.float32]
    targets: NDArray[np.int64]
    others: NDArray[np.float32] | None
    other: int | None = None

    @property
    def right(self) -> NDArray[np.bool_]:
        """Whether each first answer is right, bool (N,)."""
        return np.asarray(self.logits.argmax(axis=1) == self.targets)

    def scores(self, score: str, temperature: float) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
        """Return the scores of the pictures with labels, float64 (N,), and of the others; -inf for an unknown one."""
        found = [
            np.where(logits.argmax(axis=1) == self.other, -np.inf, _scores(logits, score, temperature))
            for logits in (self.logits, self.others)
            if logits is not None
        ]
        return found[0], found[1] if len(found) > 1 else None


def halves(
    logits: NDArray[np.float32], targets: NDArray[np.int64], others: NDArray[np.float32] | None, other: int | None
) -> tuple[LabelledLogits, LabelledLogits]:
    """Divide every label's pictures into two halves, in an order mixed by a fixed seed.

    Args:
        logits: float32 (N, K).
        targets: int64 (N,).
        others: Logits of pictures of none of the labels, float32 (M, K), if there are any.
        other: The label of `targets` that shows none of the labels, if there is one: its pictures replace `others`.

    Raises:
        ExportError: The pictures of either kind are too few.
    """
    if other is not None:
        logits, targets, others = logits[targets != other], targets[targets != other], logits[targets == other]
        if len(others) < FEWEST_OTHERS:
            raise ExportError(f"got {len(others)} pictures of --other, expected at least {FEWEST_OTHERS}; give more")
    if len(logits) < FEWEST_PICTURES:
        raise ExportError(
            f"got {len(logits)} pictures with labels, expected at least {FEWEST_PICTURES}: half of them choose, the "
            "other half measure; give more"
        )
    generator = np.random.default_rng(0)
    mixed = generator.permutation(len(logits))
    mixed = mixed[np.argsort(targets[mixed], kind="stable")]
    mixed_others = None if others is None else others[generator.permutation(len(others))]
    first, second = (
        LabelledLogits(
            logits[mixed[at::2]], targets[mixed[at::2]], None if mixed_others is None else mixed_others[at::2], other
        )
        for at in (0, 1)
    )
    return first, second


def _scores(logits: NDArray[np.float32], score: str, temperature: float) -> NDArray[np.float64]:
    if score == "energy":
        return energies(logits, temperature)
    largest: NDArray[np.float64] = scores_from_logits(logits, temperature).probabilities.max(axis=1).astype(np.float64)
    return largest


def decision_of(
    choosing: LabelledLogits,
    measuring: LabelledLogits,
    request: ThresholdRequest,
    guarantee: float | None,
    *,
    other: str | None,
    pictures: int,
    data_sha256: str,
) -> Decision:
    """Choose by one half of the pictures, and measure the choices on the other.

    `guarantee`: in percent, for label sets; None for none. `other`, `pictures`, `data_sha256`: as `Decision` has them.
    ExportError where no threshold meets the request, or the pictures are too few for the guarantee.
    """
    temperature = best_temperature(choosing.logits, choosing.targets)
    score = _best_score(choosing, request, temperature)
    scores = choosing.scores(score, temperature)[0]
    before, after = (
        round(calibration_error(first_answers(measuring.logits, measuring.targets, temperature=each)), 2)
        for each in (1.0, temperature)
    )
    measured, others = measuring.scores(score, temperature)
    return Decision(
        temperature=temperature,
        score=score,
        threshold=request.threshold(scores, choosing.right),
        guarantee=guarantee,
        set_probability=None if guarantee is None else _set_probability(choosing, temperature, guarantee),
        other=other,
        chosen=str(request),
        pictures=pictures,
        data_sha256=data_sha256,
        calibration_error_before=before,
        calibration_error=after,
        table=coverage_table(scores, measured, measuring.right, others),
    )


def _set_probability(half: LabelledLogits, temperature: float, guarantee: float) -> float:
    probabilities = scores_from_logits(half.logits, temperature).probabilities.astype(np.float64)
    return set_probability(probabilities[np.arange(len(half.targets)), half.targets], guarantee)


def _best_score(half: LabelledLogits, request: ThresholdRequest, temperature: float) -> str:
    """Return the score that accepts fewer pictures of none of the labels; without such pictures the probability."""
    accepted = accepted_others(half, half, request, temperature)
    return min(accepted, key=lambda score: accepted[score]) if accepted else "probability"


def accepted_others(
    choosing: LabelledLogits, measuring: LabelledLogits, request: ThresholdRequest, temperature: float
) -> dict[str, float]:
    """Return by score how many percent of `measuring`'s pictures of none of the labels its threshold accepts.

    Thresholds come from `choosing`; a score by which none meets the request is left out. Empty without such pictures,
    and where the request is of the probability.
    """
    if request.reject is not None or measuring.others is None:
        return {}
    compared = request if request.asks else ThresholdRequest(coverage=USUAL_COVERAGE)
    accepted = {}
    for score in SCORES:
        with contextlib.suppress(ExportError):  # the other score may reach an accuracy that this one does not
            threshold = compared.threshold(choosing.scores(score, temperature)[0], choosing.right)
            _, others = measuring.scores(score, temperature)
            if others is not None and threshold is not None:
                accepted[score] = round(100 * float((others >= threshold).mean()), 2)
    return accepted
