"""Which number of a network is which label, where nobody says: the assignment that explains the pictures best."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from taijitu_export.adopt.finding.likelihood import Score, log_probabilities, probability_of_as_good, score
from taijitu_runtime.errors import require

LEAST_PICTURES = 4
"""Pictures that each label has at least, so that two halves have two each."""

Order = NDArray[np.int64]
"""For each label, int64 (K,), the number of the network that stands for it."""


def best_order(logits: NDArray[np.float32], targets: NDArray[np.int64]) -> Order:
    """Return the order in which logits (N, K) explain targets (N,) best: a solution of the assignment problem."""
    return _assigned(_gains(logits, targets))


def score_by_halves(logits: NDArray[np.float32], targets: NDArray[np.int64]) -> Score:
    """Score each half of the pictures in the order that the other half gives.

    An order fitted to the same pictures would make sense of noise. Each half has every other picture of each label: a
    label that a half lacks has no number in the order that it gives.
    """
    halves = np.empty(len(targets), np.int64)
    for label in np.unique(targets):
        halves[targets == label] = np.arange(np.count_nonzero(targets == label)) % 2
    ordered = np.empty_like(logits)
    for half in (0, 1):
        ordered[halves == half] = logits[halves == half][:, best_order(logits[halves != half], targets[halves != half])]
    return score(ordered, targets)


def undecided(logits: NDArray[np.float32], targets: NDArray[np.int64], order: Order, level: float) -> tuple[int, ...]:
    """Return the labels whose number is open: the best order with another number explains the pictures as well.

    Args:
        logits: float32 (N, K).
        targets: int64 (N,).
        order: The best one.
        level: The p-value below which another order is worse.
    """
    logs, gains = log_probabilities(logits), _gains(logits, targets)
    best = logs[np.arange(len(targets)), order[targets]]
    found = []
    for label, number in enumerate(order):
        barred = gains.copy()
        barred[label, number] = -1e9
        other = _assigned(barred)
        if probability_of_as_good(logs[np.arange(len(targets)), other[targets]], best) >= level:
            found.append(label)
    return tuple(found)


def _gains(logits: NDArray[np.float32], targets: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the log-likelihood, float64 (K, K), that each label's pictures give to each number of the network."""
    gains = np.zeros((logits.shape[1], logits.shape[1]))
    np.add.at(gains, targets, log_probabilities(logits))
    return gains


def _assigned(gains: NDArray[np.float64]) -> Order:
    optimize = require("scipy.optimize", "taijitu[export]")
    return np.asarray(optimize.linear_sum_assignment(gains, maximize=True)[1], np.int64)
