"""Compare the adopted file's answers with the original's: the same pictures through both, on ONNX Runtime."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from taijitu_export.adopt.onnx_from_foreign import Ending, logarithms, two_logits
from taijitu_export.adopt.original import Original
from taijitu_export.comparison.allowances import (
    FULL_PRECISION_ERROR,
    LEAST_ALLOWED_ERROR,
    MOST_ALLOWED_ERROR,
    NOISE_FACTOR,
)
from taijitu_export.comparison.comparison import Comparison, compare, probabilities_of
from taijitu_export.comparison.verdict import verdict_on_logits
from taijitu_runtime.answers import LEAST_RANGE
from taijitu_runtime.card import InputSpec
from taijitu_runtime.classifier import Classifier

LEAST_PROBABILITY = {"fp32": 1e-30, "fp16": 2.0**-14, "int8": 1e-3}
"""Below these a precision cannot represent a probability: smaller ones are all the same."""

TIE = 2 * FULL_PRECISION_ERROR * LEAST_RANGE["probabilities"]
"""Two independent probabilities that are this close, as next to 1, change places by rounding alone."""

TRIED_BATCH = 3


@dataclasses.dataclass(frozen=True)
class Agreement:
    """The comparison of an adopted file with the file that it was made from.

    `precision`: of that file. `tie`: answers whose probabilities are at most this far apart may be exchanged.
    """

    comparison: Comparison
    precision: str
    tie: float = 0.0

    @property
    def allowed(self) -> float:
        """The error that is allowed, as a share of the logit range."""
        if self.precision == "fp32":
            return FULL_PRECISION_ERROR
        return min(NOISE_FACTOR * LEAST_ALLOWED_ERROR[self.precision], MOST_ALLOWED_ERROR[self.precision])

    @property
    def holds(self) -> bool:
        """Whether every answer is the same, ties apart, and the logits are within 1e-4 of their range.

        A float16 or int8 file rounds, so only its logits are judged, by the error that its precision is allowed.
        """
        fine = verdict_on_logits(self.comparison, self.precision, self.allowed).fine
        return fine and (self.precision != "fp32" or all(flip.margin <= self.tie for flip in self.comparison.flips))

    def __str__(self) -> str:
        found = self.comparison
        kind, error = ("largest", found.max_error) if self.precision == "fp32" else ("rms", found.rms_error)
        return (
            f"top-1 the same on {found.agreeing} of {found.pictures} pictures, {kind} logit difference {error:.2g} of "
            f"the logit range (allowed for {self.precision}: {self.allowed:.2g})"
        )


def agreement(
    adopted: Path, pictures: NDArray[np.uint8], expected: NDArray[np.float32], ending: Ending, precision: str
) -> Agreement:
    """Compare the adopted file with the output of the original, float32 (N, K).

    The first picture alone and the others three at a time, where the file takes that: a network whose batches mix, or
    whose exporter fixed a size, fails here. ArtefactError where the file does not run.
    """
    with Classifier.from_file(adopted, batch_size=TRIED_BATCH) as classifier:
        got = np.concatenate([classifier.logits(pictures[:1]), classifier.logits(pictures[1:])])
    if ending == "logit":
        return Agreement(compare(two_logits(_difference(got)), two_logits(expected)), precision)
    if ending == "probability":
        # Minus a half: from there on the answer is the second label.
        return Agreement(compare(two_logits(_sigmoid(_difference(got)) - 0.5), two_logits(expected - 0.5)), precision)
    if ending == "softmax":
        least = LEAST_PROBABILITY[precision]
        return Agreement(compare(logarithms(probabilities_of(got), least), logarithms(expected, least)), precision)
    if ending == "probabilities":
        return Agreement(compare(got, expected, output=ending), precision, TIE)
    return Agreement(compare(got, expected), precision)


def logits_of_original(
    original: Original, pictures: NDArray[np.uint8], spec: InputSpec, ending: Ending
) -> NDArray[np.float32]:
    """Compute what the original gives, float32 (N, K), as the adopted file should give it: before a last softmax."""
    undone = {"softmax": "Softmax", "probability": "Sigmoid"}.get(ending)
    earlier = original.before(undone) if undone is not None else original
    if earlier is None:  # probabilities without such an operator: the adopted file takes their logarithm
        answers = original.answers(pictures, spec)
        return logarithms(np.concatenate([1 - answers, answers], axis=1) if ending == "probability" else answers)
    answers = earlier.answers(pictures, spec)
    return two_logits(answers) if ending in ("logit", "probability") else answers


def _difference(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    return logits[:, 1:] - logits[:, :1]


def _sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):
        return (1 / (1 + np.exp(-logits.astype(np.float64)))).astype(np.float32)
