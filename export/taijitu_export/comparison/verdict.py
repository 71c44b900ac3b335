"""The rules by which a classifier is judged; docs/verify.md explains them to users.

Every limit is written `not (x <= limit)`, which NaN fails.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Sequence

from taijitu_export.comparison.bounds import drop_interval, pictures_to_show, share_interval
from taijitu_export.comparison.comparison import Accuracy, Comparison, LabelledComparison

LEAST_LOST = 2
"""One picture is never enough to call a candidate not fine."""

NEAR_CHANCE = 0.25
"""A candidate is near chance if it keeps at most this share of its reference's lead over chance."""

GIVE_REFERENCE = "give --reference"


class Outcome(enum.Enum):
    """The outcomes; the value is how each is written."""

    FINE = "fine"
    NOT_FINE = "not fine"
    NOT_SHOWN = "not shown"
    NOT_JUDGED = "not judged"


@dataclasses.dataclass(frozen=True)
class Verdict:
    """An outcome, the figures behind it in one line, and what was not judged.

    `pictures_to_show`: how many pictures would show that it is fine, where they were too few and the number is known.
    """

    outcome: Outcome
    reason: str
    not_judged: tuple[str, ...] = ()
    pictures_to_show: int | None = None

    @property
    def fine(self) -> bool:
        """Whether it is shown to be fine."""
        return self.outcome is Outcome.FINE

    def passes(self, *, require_certain: bool) -> bool:
        """Return whether the exit code is 0; what is not shown passes unless certainty is required."""
        return self.fine or (self.outcome is Outcome.NOT_SHOWN and not require_certain)

    def with_not_judged(self, not_judged: Sequence[str]) -> Verdict:
        """Return the same verdict with more that was not judged."""
        return dataclasses.replace(self, not_judged=(*self.not_judged, *not_judged))


def verdict_on_labels(comparison: Comparison, labelled: LabelledComparison, max_drop: float) -> Verdict:
    """Judge the accuracy drop between a reference and a candidate on labelled pictures.

    `max_drop`: allowed percentage points of top-1 accuracy.

    1. NaN or infinite logits: not fine.
    2. The lower bound of the drop is above what is allowed, and at least 2 more were lost than gained: not fine.
    3. The same with the drop itself in place of its bound, if the reference is certainly above chance and the candidate
       keeps at most a quarter of that lead: not fine, however few the pictures.
    4. The candidate always gives the same answer, and the pictures that changed are certainly more than the allowed
       drop: not fine, also where most pictures are of that label, so that more were gained than lost.
    5. The upper bound of the drop is within what is allowed: fine.
    6. Otherwise the pictures are too few to show it.
    """
    if comparison.not_finite:
        return _not_finite(comparison.not_finite, comparison.pictures)
    lost, gained, pictures = labelled.lost, labelled.gained, comparison.pictures
    low, high = drop_interval(lost, gained, pictures).points
    drop = f"{lost} pictures lost and {gained} gained of {pictures}, a drop of {labelled.drop_points:.2f} points"
    reason = f"{drop} ({low:.2f} to {high:.2f}), allowed {max_drop:g}"
    lost_enough = lost - gained >= LEAST_LOST
    if lost_enough and not low <= max_drop:
        return Verdict(Outcome.NOT_FINE, reason)
    if lost_enough and not labelled.drop_points <= max_drop and _fell_to_chance(labelled, pictures):
        return Verdict(Outcome.NOT_FINE, f"{reason}; it answers near chance, {100 * labelled.chance:.2f} %")
    changed = lost + gained
    if labelled.constant and changed >= LEAST_LOST and not share_interval(changed, pictures).points[0] <= max_drop:
        return Verdict(Outcome.NOT_FINE, f"{reason}; it gives the same answer to every picture")
    if high <= max_drop:
        return Verdict(Outcome.FINE, reason)
    enough = pictures_to_show(lost, gained, pictures, max_drop / 100)
    needed = f"about {enough:,} pictures at this rate would show it" if enough else "no number at this rate would"
    return Verdict(Outcome.NOT_SHOWN, f"{reason}; {needed}", pictures_to_show=enough)


def verdict_on_logits(comparison: Comparison, precision: str, allowed: float) -> Verdict:
    """Judge how far the logits of a candidate are from the reference's, where there are no labels.

    `allowed`: for float32 ("fp32") the largest difference, for smaller precisions the root mean square, as a share of
    the logit range.
    """
    if comparison.not_finite:
        return _not_finite(comparison.not_finite, comparison.pictures)
    kind, error = ("largest", comparison.max_error) if precision == "fp32" else ("rms", comparison.rms_error)
    reason = f"{kind} logit difference {error:.2g} of the logit range, allowed for {precision} {allowed:.2g}"
    return Verdict(Outcome.NOT_FINE if not error <= allowed else Outcome.FINE, reason)


def verdict_on_accuracy(
    accuracy: Accuracy, pictures: int, labels: int, expected: float, source: str, max_drop: float, chance: float
) -> Verdict:
    """Judge a top-1 accuracy by itself, against `expected` percent that `source` promises.

    The pictures may be others than those of the promise, so only the bounds of the accuracy can tell: if both are below
    the promise minus `max_drop`, not fine; if both are above, fine; otherwise not shown. A promise that guessing among
    as many `labels` keeps is not judged, nor one that a network keeps which always gives the commonest label, whose
    share is `chance`.
    """
    low, high = share_interval(accuracy.hits, pictures).points
    wanted = expected - max_drop
    reason = (
        f"top-1 is {accuracy.top1_percent:.2f} % of {pictures} pictures ({low:.2f} to {high:.2f}), "
        f"{source} {expected:.2f} %, allowed {max_drop:g} points less"
    )
    if not high >= wanted:
        return Verdict(Outcome.NOT_FINE, reason)
    if not wanted > 100 / labels:
        guessing = f"guessing among {labels} labels reaches {100 / labels:.2f} %"
        return Verdict(Outcome.NOT_JUDGED, f"{reason}, but {guessing}; {GIVE_REFERENCE} or a higher --expect PERCENT")
    if low >= wanted and not low > 100 * chance:
        share = _share_of_commonest(chance)
        return Verdict(Outcome.NOT_JUDGED, f"{reason}, but {share}; give as many pictures of other labels")
    if low >= wanted:
        return Verdict(Outcome.FINE, reason)
    return Verdict(Outcome.NOT_SHOWN, f"{reason}; for a narrower range {GIVE_REFERENCE}")


def verdict_without_promise(accuracy: Accuracy, chance: float, split: str = "") -> Verdict:
    """Judge a top-1 accuracy without anything to compare it with; at or below chance there is nothing to judge.

    `split`: the role of the split that is judged, if it has one; the card may record the accuracy of another.
    """
    of = f" of {split}" if split else ""
    reason = f"top-1 is {accuracy.top1_percent:.2f} %, compared with nothing; its card records no accuracy{of}"
    if not accuracy.top1_percent > 100 * chance:
        share = _share_of_commonest(chance)
        return Verdict(Outcome.NOT_JUDGED, f"{reason}, and {share}; {GIVE_REFERENCE} or --expect PERCENT")
    return Verdict(Outcome.NOT_SHOWN, f"{reason}; {GIVE_REFERENCE} or --expect PERCENT")


def verdict_on_finiteness(not_finite: int, pictures: int) -> Verdict:
    """Judge a model by itself on pictures without labels: only whether its logits are finite."""
    if not_finite:
        return _not_finite(not_finite, pictures)
    do = f"{GIVE_REFERENCE} or labelled --data"
    return Verdict(Outcome.NOT_SHOWN, f"its logits are finite, compared with nothing; {do}")


def _fell_to_chance(labelled: LabelledComparison, pictures: int) -> bool:
    reference, candidate = labelled.reference.hits / pictures, labelled.candidate.hits / pictures
    certain = share_interval(labelled.reference.hits, pictures).low > labelled.chance
    lost_lead = candidate - labelled.chance <= NEAR_CHANCE * (reference - labelled.chance)
    return certain and lost_lead


def _share_of_commonest(chance: float) -> str:
    return f"the commonest label alone has {100 * chance:.2f} % of the pictures"


def _not_finite(count: int, pictures: int) -> Verdict:
    return Verdict(Outcome.NOT_FINE, f"{count} of {pictures} pictures give NaN or infinite logits")
