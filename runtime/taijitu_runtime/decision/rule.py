"""Which answers are known, and the set of labels that a picture's true one is among."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taijitu_runtime.decision.decision import Decision
from taijitu_runtime.errors import check_number


@dataclasses.dataclass(frozen=True)
class Certainty:
    """What one picture's answers are worth.

    `known`: whether the first answer is likely enough; None where neither the card nor the caller decides. `set`: the
    labels that the true one is among in as many cases as the card guarantees, the likeliest first; None without that.
    """

    known: bool | None = None
    set: tuple[str, ...] | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the fields next to `answers`; those that are None are left out."""
        fields: dict[str, Any] = {} if self.known is None else {"known": self.known}
        return fields if self.set is None else {**fields, "set": list(self.set)}


UNDECIDED = Certainty()


def check_threshold(threshold: float | None, name: str = "threshold") -> None:
    """Raise UsageError unless it is a probability, or None."""
    if threshold is not None:
        check_number(name, threshold, 0, 1, "a probability from 0 to 1")


def energies(logits: NDArray[np.float32], temperature: float) -> NDArray[np.float64]:
    """Compute log(sum(exp(logits / temperature))), float64 (N,), of finite logits (N, K)."""
    scaled = logits.astype(np.float64) / temperature
    largest = scaled.max(axis=1)
    return np.asarray(largest + np.log(np.exp(scaled - largest[:, None]).sum(axis=1)))


@dataclasses.dataclass(frozen=True)
class DecisionRule:
    """The rule of a model: its card's decision, and the caller's `threshold`, a probability, which takes precedence."""

    labels: Sequence[str]
    decision: Decision | None
    threshold: float | None = None

    def __post_init__(self) -> None:
        check_threshold(self.threshold)

    def with_threshold(self, threshold: float | None) -> DecisionRule:
        """Return the same with the caller's threshold. UsageError where it is not a probability."""
        return self if threshold is None else dataclasses.replace(self, threshold=threshold)

    @property
    def decides(self) -> bool:
        """Whether answers can be unknown."""
        decision = self.decision
        return self.threshold is not None or (
            decision is not None and (decision.threshold is not None or decision.other is not None)
        )

    @property
    def has_sets(self) -> bool:
        """Whether pictures have sets of labels."""
        return self.decision is not None and self.decision.set_probability is not None

    def energies(self, logits: NDArray[np.float32]) -> NDArray[np.float64] | None:
        """Return the energies of logits (N, K), float64 (N,); None where the probability decides, or nothing."""
        card = self.decision
        if self.threshold is not None or card is None or card.threshold is None or card.score != "energy":
            return None
        return energies(logits, card.temperature)

    def known(
        self,
        probabilities: NDArray[np.floating[Any]],
        order: NDArray[np.intp],
        energy: NDArray[np.float64] | None,
    ) -> NDArray[np.bool_]:
        """Return whether each first answer is known, bool (N,); takes probabilities, order (N, K), energies (N,)."""
        threshold = self.threshold
        if threshold is None and self.decision is not None:
            threshold = self.decision.threshold
        score = probabilities.max(axis=1).astype(np.float64) if energy is None else energy
        known = np.ones(len(probabilities), np.bool_) if threshold is None else score >= threshold
        if self.decision is not None and self.decision.other is not None:
            known &= order[:, 0] != list(self.labels).index(self.decision.other)
        return np.asarray(known)

    def set_sizes(self, probabilities: NDArray[np.floating[Any]]) -> NDArray[np.int64]:
        """Return how many labels each set has, int64 (N,), the likeliest ones; at least 1."""
        assert self.decision is not None
        assert self.decision.set_probability is not None
        is_in = probabilities.astype(np.float64) >= self.decision.set_probability
        return np.asarray(np.maximum(1, is_in.sum(axis=1)))

    def certainties(
        self,
        probabilities: NDArray[np.floating[Any]],
        order: NDArray[np.intp],
        energy: NDArray[np.float64] | None,
    ) -> list[Certainty]:
        """Return what each picture's answers are worth; arguments as for `known`."""
        count = len(probabilities)
        known = self.known(probabilities, order, energy).tolist() if self.decides else [None] * count
        sets: list[tuple[str, ...] | None] = [None] * count
        if self.has_sets:
            sizes = self.set_sizes(probabilities).tolist()
            sets = [tuple(self.labels[i] for i in row[:size].tolist()) for row, size in zip(order, sizes)]
        return [Certainty(*pair) for pair in zip(known, sets)]
