"""Turn logits into answers."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from taijitu_runtime.decision.rule import UNDECIDED, Certainty, DecisionRule
from taijitu_runtime.errors import ArtefactError, InputError, check_number, describe

Float = TypeVar("Float", bound=np.floating[Any])

UNKNOWN = "unknown"
"""The word for an answer that is not known, in place of a label or behind it."""

LEAST_RANGE = {"logits": 0.0, "probabilities": 0.02}
"""The least range of logits, by their kind, of which differences are shares.

Independent probabilities may all be within 1e-6 of 0 or of 1, where they differ by rounding: float32 has steps of 6e-8
next to 1, and ONNX Runtime's sigmoid is up to 1.7e-7 off (from float64, 200,001 inputs from -20 to 20). The narrowest
allowance, 3e-5 of 0.02, is 6e-7."""


@dataclasses.dataclass(frozen=True)
class Answer:
    """One class: its label, its index among the labels, and its probability in [0, 1]."""

    label: str
    index: int
    probability: float

    def as_json(self) -> dict[str, Any]:
        """Return the fields; orjson writes the same of the answer itself."""
        return dict(vars(self))


@dataclasses.dataclass(frozen=True)
class Prediction:
    """The answers for one picture, the likeliest first, and all its logits, float32 (K,).

    `certainty`: whether the first answer is known, and the set of labels, where the card or the caller decides.
    """

    answers: tuple[Answer, ...]
    logits: NDArray[np.float32] = dataclasses.field(repr=False, compare=False)
    certainty: Certainty = UNDECIDED

    @property
    def best(self) -> Answer:
        """The likeliest answer."""
        return self.answers[0]

    @property
    def known(self) -> bool | None:
        """Whether the likeliest answer is likely enough; None where neither card nor caller has a threshold."""
        return self.certainty.known

    @property
    def set(self) -> tuple[str, ...] | None:
        """The labels that contain the true one as often as the card guarantees; None without a guarantee."""
        return self.certainty.set


@dataclasses.dataclass(frozen=True)
class Scores:
    """A model's output for N pictures: logits and probabilities, float32 (N, K), and the labels' order, int (N, K)."""

    logits: NDArray[np.float32]
    probabilities: NDArray[np.float32]
    order: NDArray[np.intp]

    def part(self, start: int, end: int) -> Scores:
        """Return the scores of the pictures from `start` to before `end`."""
        return Scores(self.logits[start:end], self.probabilities[start:end], self.order[start:end])

    def answers(self, labels: Sequence[str], k: int) -> list[list[Answer]]:
        """Return for each picture the k likeliest answers, the likeliest first.

        All of them where k is larger than K.
        """
        return [
            [Answer(labels[index], index, probability) for index, probability in zip(indices, row[indices].tolist())]
            for row, indices in zip(self.probabilities, self.order[:, :k].tolist(), strict=True)
        ]

    def known(self, rule: DecisionRule) -> NDArray[np.bool_]:
        """Return whether each picture's first answer is known by the rule, bool (N,)."""
        return rule.known(self.probabilities, self.order, rule.energies(self.logits))

    def members(self, rule: DecisionRule) -> NDArray[np.bool_]:
        """Return which labels are in each picture's set by the rule, which has sets, bool (N, K)."""
        members = np.zeros(self.order.shape, np.bool_)
        is_in = np.arange(self.order.shape[1]) < rule.set_sizes(self.probabilities)[:, None]
        np.put_along_axis(members, self.order, is_in, axis=1)
        return members

    def certainties(self, rule: DecisionRule) -> list[Certainty]:
        """Return for each picture whether its first answer is known, and its set of labels, by the rule."""
        return rule.certainties(self.probabilities, self.order, rule.energies(self.logits))


def scores_from_logits(logits: NDArray[np.float32], temperature: float = 1.0, output: str = "logits") -> Scores:
    """Return probabilities and order of float32 logits (N, K). Raises ArtefactError as for `softmax`.

    Args:
        logits: The model's output.
        temperature: Divides the logits first.
        output: The card's word for them; "probabilities" are returned unchanged at temperature 1, and their
            logarithms are the logits at another.
    """
    if output == "probabilities":
        _check_finite(logits)
        if temperature == 1.0:
            return Scores(logits, logits, likeliest_first(logits))
        scaled = np.log(np.maximum(logits, np.finfo(np.float32).tiny)) / np.float32(temperature)
    else:
        scaled = logits if temperature == 1.0 else logits / np.float32(temperature)
    return Scores(logits, softmax(scaled), likeliest_first(logits))


def likeliest_first(scores: NDArray[np.floating[Any]]) -> NDArray[np.intp]:
    """Return the order of each row of logits or probabilities (..., K), the largest first.

    For equals the lower index.
    """
    return np.argsort(-scores, axis=-1, kind="stable")


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Compute probabilities, float32 (..., K), each row summing to 1, from float32 logits (..., K).

    ArtefactError if a logit is NaN or infinite: there is no answer then, and the cause is the model.
    """
    _check_finite(logits)
    return softmax_of_finite(logits)


def softmax_of_finite(logits: NDArray[Float]) -> NDArray[Float]:
    """Compute probabilities (..., K) of finite logits (..., K), in their dtype."""
    with np.errstate(over="ignore"):  # a gap beyond the dtype is a probability of 0
        powers: NDArray[Float] = np.exp(logits - logits.max(axis=-1, keepdims=True))
    powers /= powers.sum(axis=-1, keepdims=True)
    return powers


def logit_range(logits: NDArray[np.float32], output: str) -> float:
    """Return the largest logit minus the smallest, at least LEAST_RANGE. `output`: their kind, from the card."""
    return max(float(np.max(logits)) - float(np.min(logits)), LEAST_RANGE[output])  # in this order NaN stays NaN


def check_logits(logits: NDArray[np.float32], labels: Sequence[str]) -> None:
    """Raise InputError unless logits are real numbers (N, K): a row for each picture, with one for each label."""
    if not isinstance(logits, np.ndarray) or logits.dtype.kind not in "fiu":
        raise InputError(f"got {describe(logits)} as logits, expected float32 (N, {len(labels)}) of Classifier.logits")
    if logits.ndim != 2 or logits.shape[1] != len(labels):
        raise InputError(f"got logits of shape {logits.shape}, expected (N, {len(labels)}), one for each label")


def check_top(k: int, labels: Sequence[str]) -> None:
    """Raise UsageError unless there are k labels."""
    check_number("top", k, 1, len(labels), f"1 to {len(labels)}: the model has {len(labels)} labels", whole=True)


def _check_finite(logits: NDArray[np.float32]) -> None:
    finite = np.isfinite(logits)
    if not finite.all():
        raise ArtefactError(
            f"got {finite.size - np.count_nonzero(finite)} of {finite.size} logits that are NaN or infinite, expected "
            "finite numbers; export the model again from a checkpoint that has none"
        )
