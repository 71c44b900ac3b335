"""How well answers explain labels, and whether one explanation is better than another: both picture by picture."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from taijitu_export.adopt.onnx_from_foreign import Ending, logarithms, two_logits
from taijitu_export.comparison.comparison import probabilities_of
from taijitu_export.decision.temperature import best_temperature
from taijitu_runtime.errors import require

WRONG_LABELS = 0.05
"""Share of pictures whose label says nothing: it bounds what a single picture can weigh."""

ERROR_RATE = 0.01
"""Probability that the true candidate is dropped by chance, in the whole of a search."""


@dataclasses.dataclass(frozen=True)
class Score:
    """A candidate on some pictures: the log-likelihoods of their labels, float64 (N,), and hits, bool (N,)."""

    log_likelihoods: NDArray[np.float64]
    hits: NDArray[np.bool_]

    @property
    def mean(self) -> float:
        """The mean log-likelihood."""
        return float(self.log_likelihoods.mean())

    @property
    def percent(self) -> float:
        """Top-1 accuracy in percent."""
        return 100 * float(self.hits.mean())

    def first(self, count: int) -> Score:
        """Return the same of the first pictures."""
        return Score(self.log_likelihoods[:count], self.hits[:count])


def logits_of(answers: NDArray[np.float32], ending: Ending) -> NDArray[np.float32]:
    """Return finite logits, float32 (N, K), from the answers of a network with this ending."""
    if ending in ("logit", "probability"):
        answers = two_logits(answers if ending == "logit" else logarithms(answers) - logarithms(1 - answers))
    elif ending != "logits":
        answers = logarithms(answers)
    return np.nan_to_num(answers, nan=0.0, posinf=1e6, neginf=-1e6).clip(-1e6, 1e6)


def score(logits: NDArray[np.float32], targets: NDArray[np.int64]) -> Score:
    """Score logits (N, K) for targets (N,), at the temperature that fits these best.

    The temperature takes away what a candidate would gain by contrast alone: a network is more confident on pictures
    that it was not trained on than it is right, and fewer levels of contrast would look like a better explanation.
    """
    logs = log_probabilities(logits, best_temperature(logits, targets))
    right = logs[np.arange(len(targets)), targets]
    return Score(right, np.asarray(logits.argmax(axis=1) == targets))


def log_probabilities(logits: NDArray[np.float32], temperature: float = 1.0) -> NDArray[np.float64]:
    """Compute log-probabilities, float64 (N, K), where a few labels say nothing: at least log(WRONG_LABELS / K)."""
    shares = probabilities_of(logits.astype(np.float64) / temperature)
    found: NDArray[np.float64] = np.log((1 - WRONG_LABELS) * shares + WRONG_LABELS / logits.shape[1])
    return found


def probability_of_as_good(worse: NDArray[np.float64], better: NDArray[np.float64]) -> float:
    """Return the p-value of "both explain the pictures alike": a paired one-sided t-test of log-likelihoods, both (N,).

    The differences are bounded by WRONG_LABELS, so that no single picture decides. 1 where there are none.
    """
    difference = better - worse
    deviation = float(difference.std(ddof=1)) if len(difference) > 1 else 0.0
    mean = float(difference.mean())
    if deviation == 0.0:
        return 1.0 if mean <= 0.0 or len(difference) < 2 else 0.0
    stats = require("scipy.stats", "taijitu[export]")
    return float(stats.t.sf(mean / (deviation / np.sqrt(len(difference))), len(difference) - 1))


def probability_by_chance(hits: int, pictures: int, chance: float) -> float:
    """Return the probability of so many hits, or more, of one who answers right in the share `chance` of cases."""
    stats = require("scipy.stats", "taijitu[export]")
    return float(stats.binom.sf(hits - 1, pictures, chance))
