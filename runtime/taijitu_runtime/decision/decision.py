"""The decision of a card: how probabilities are made of logits, and which answers are known."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from taijitu_runtime.fields import (
    check_choice,
    check_finite,
    check_sha256,
    check_text,
    fail,
    plain,
    read_fields,
    tuple_from_list,
)

SCORES = ("probability", "energy")
MOST_ROWS = 101


@dataclasses.dataclass(frozen=True)
class CoverageRow:
    """What one threshold is worth, measured on pictures that did not choose it; all in percent but the threshold.

    `coverage`: pictures whose answer is known. `accuracy`: of these, those that are right. `others`: pictures of none
    of the labels whose answer would be called known; None where there were none.
    """

    coverage: float
    threshold: float
    accuracy: float
    others: float | None = None

    def __post_init__(self) -> None:
        for name in ("coverage", "accuracy", "others"):
            value = getattr(self, name)
            if name != "others" or value is not None:
                check_finite(f"decision.table.{name}", value, 0, 100, "a percentage")
        check_finite("decision.table.threshold", self.threshold, -math.inf, math.inf, "a finite number")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Decision:
    """How an artefact decides, and how that was chosen.

    `temperature`: logits are divided by it before the softmax. `score`: what a picture's answer is known by, the
    "probability" of the likeliest label, or the "energy", log(sum(exp(logits / temperature))). `threshold`: an answer
    is known where the score is at least that; None: no answer is unknown. `guarantee`: percent of pictures whose true
    label is in their set, and `set_probability`: the labels of at least that probability are the set; both None without
    sets. `other`: the label that means "none of these", whose answers are unknown. `chosen`: how the threshold was
    chosen, in words. `pictures`: how many labelled pictures chose and reported, half of them each, of the data with the
    hash `data_sha256`. `calibration_error`: the expected calibration error in percentage points of the half that
    reports, `calibration_error_before` at temperature 1. `table`: coverage against accuracy on that half. ArtefactError
    for any field outside its range.
    """

    temperature: float
    score: str = "probability"
    threshold: float | None = None
    guarantee: float | None = None
    set_probability: float | None = None
    other: str | None = None
    chosen: str
    pictures: int
    data_sha256: str
    calibration_error_before: float
    calibration_error: float
    table: tuple[CoverageRow, ...]

    def __post_init__(self) -> None:
        check_finite("decision.temperature", self.temperature, 1e-3, 1e3, "a factor")
        check_choice("decision.score", self.score, SCORES)
        if self.threshold is not None:
            low, high = (0.0, 1.0) if self.score == "probability" else (-math.inf, math.inf)
            check_finite("decision.threshold", self.threshold, low, high, f"a threshold of the {self.score}")
        if (self.guarantee is None) != (self.set_probability is None):
            raise fail("decision.guarantee", self.guarantee, "a guarantee with set_probability, or neither")
        if self.guarantee is not None:
            check_finite("decision.guarantee", self.guarantee, 0, 100, "a percentage")
            check_finite("decision.set_probability", self.set_probability, 0, 1, "a probability")
        if self.other is not None:
            check_text("decision.other", self.other, "one of the labels")
        check_text("decision.chosen", self.chosen, "how the threshold was chosen, in words")
        if type(self.pictures) is not int or self.pictures < 1:
            raise fail("decision.pictures", self.pictures, "a number of pictures from 1 on")
        check_sha256("decision.data_sha256", self.data_sha256)
        for name in ("calibration_error_before", "calibration_error"):
            check_finite(f"decision.{name}", getattr(self, name), 0, 100, "percentage points")
        if not isinstance(self.table, tuple) or len(self.table) > MOST_ROWS:
            raise fail("decision.table", self.table, f"at most {MOST_ROWS} rows")

    @classmethod
    def from_plain(cls, got: Any) -> Decision:
        """Read the form of `dataclasses.asdict`, with lists for tuples."""
        fields = read_fields(cls, "decision.", plain("decision", got))
        rows = tuple_from_list(fields["table"])
        if isinstance(rows, tuple):
            rows = tuple(CoverageRow(**read_fields(CoverageRow, "decision.table.", row)) for row in rows)
        return cls(**{**fields, "table": rows})


def temperature_of(decision: Decision | None) -> float:
    """Return what logits are divided by before the softmax."""
    return 1.0 if decision is None else decision.temperature
