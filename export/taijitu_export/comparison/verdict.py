"""The rule by which verify calls a classifier fine, and what it has to leave open."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from taijitu_export.comparison.comparison import Accuracy, Comparison
from taijitu_runtime.card import ModelCard

ROUNDING = 1e-9


@dataclasses.dataclass(frozen=True)
class Verdict:
    """Fine or not, why, and what that says nothing about.

    Fine is a candidate whose logits are all finite, and which costs no more than the allowed points of top-1 accuracy:

    - beside a reference: by Comparison.counted_drop, which is comparison.py's rule for flips;
    - alone, with labels: against the accuracy that its card records, less three standard errors at this number of
      pictures, because they may be others than those that training was evaluated on.
    """

    fine: bool
    reason: str
    not_judged: tuple[str, ...]


def verdict_beside(comparison: Comparison, max_drop: float, unseen: Sequence[str] = ()) -> Verdict:
    """The verdict with a reference; `unseen`: what the pictures and the processor cannot show."""
    not_judged = list(unseen)
    if comparison.reference is None:
        not_judged.append("accuracy, for lack of labels")
    if comparison.not_finite:
        return _not_finite(comparison.not_finite, comparison.pictures, not_judged)
    drop = comparison.counted_drop
    how = "it costs" if comparison.reference else "by the reference's own probabilities it costs"
    reason = f"{how} {max(drop, 0.0):.2f} points of top-1 accuracy, allowed {max_drop:g}"
    return Verdict(drop <= max_drop + ROUNDING, reason, tuple(not_judged))


def verdict_alone(
    card: ModelCard,
    accuracy: Accuracy | None,
    not_finite: int,
    pictures: int,
    max_drop: float,
    unseen: Sequence[str] = (),
) -> Verdict:
    """The verdict without a reference; `accuracy`: None without labels."""
    not_judged = [*unseen, "what its conversion changed, for lack of a --reference"]
    promised = _promised_percent(card)
    if accuracy is None:
        not_judged.append("accuracy, for lack of labels")
    elif promised is None:
        not_judged.append("whether that accuracy is the network's, for its card records none")
    if not_finite:
        return _not_finite(not_finite, pictures, not_judged)
    if accuracy is None:
        return Verdict(True, "its logits are finite", tuple(not_judged))
    if promised is None:
        return Verdict(True, f"top-1 is {accuracy.top1_percent:.2f} %", tuple(not_judged))
    chance = 300 * math.sqrt(promised / 100 * (1 - promised / 100) / pictures)
    reason = (
        f"top-1 is {accuracy.top1_percent:.2f} %, its card records {promised:.2f} %: allowed are {max_drop:g} points "
        f"less, and {chance:.2f} for chance"
    )
    return Verdict(promised - accuracy.top1_percent <= max_drop + chance, reason, tuple(not_judged))


def _not_finite(count: int, pictures: int, not_judged: list[str]) -> Verdict:
    return Verdict(False, f"{count} of {pictures} pictures give NaN or infinite logits", tuple(not_judged))


def _promised_percent(card: ModelCard) -> float | None:
    """Top-1 accuracy that training recorded."""
    metrics = card.training.get("metrics")
    recorded = metrics.get("eval_top1") if isinstance(metrics, dict) else None
    return float(recorded) if isinstance(recorded, (int, float)) and 0 <= recorded <= 100 else None
