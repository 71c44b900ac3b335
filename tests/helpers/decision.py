"""A decision as `taijitu calibrate` writes it."""

from __future__ import annotations

from typing import Any

from taijitu_runtime.decision.decision import CoverageRow, Decision


def make_decision(**changes: Any) -> Decision:
    """Return a decision with temperature 2, a threshold of 0.6 and label sets."""
    fields: dict[str, Any] = {
        "temperature": 2.0,
        "threshold": 0.6,
        "guarantee": 90.0,
        "set_probability": 0.2,
        "chosen": "accuracy 95 %",
        "pictures": 120,
        "data_sha256": "0" * 64,
        "calibration_error_before": 5.0,
        "calibration_error": 2.0,
        "table": (CoverageRow(90.0, 0.5, 97.0),),
    }
    return Decision(**{**fields, **changes})
