"""Print a calibration as text or as one JSON object."""

from __future__ import annotations

import dataclasses
from typing import Any

from taijitu_export.decision.calibrate import CalibrateResult
from taijitu_runtime.console import shown
from taijitu_runtime.decision.decision import CoverageRow


def as_text(found: CalibrateResult) -> str:
    """Return lines for a terminal."""
    decision = found.decision
    lines = [f"{shown(found.output)}: temperature {decision.temperature:g}, {decision.chosen}"]
    lines += map(shown, found.remarks)
    lines.append(
        f"calibration error {decision.calibration_error_before:.2f} points before, {decision.calibration_error:.2f} "
        "after, on the half that did not choose"
    )
    if found.row is not None:
        lines.append(f"known from {decision.score} {found.row.threshold:.4g}: {_words(found.row)}")
    if found.others_by_score:
        compared = ", ".join(f"{share:.1f} % by the {score}" for score, share in found.others_by_score.items())
        lines.append(f"others called known: {compared}; the {decision.score} was chosen, on the other half")
    if found.set_coverage is not None:
        lines.append(
            f"label sets: guaranteed {decision.guarantee:g} %, measured {found.set_coverage:.1f} %, of "
            f"{found.set_size:.2f} labels on average"
        )
        low = {label: share for label, share in found.by_label.items() if share < (decision.guarantee or 0.0)}
        lines += [f"  {shown(label)}: {share:.1f} %, less than guaranteed" for label, share in low.items()]
    has_others = any(row.others is not None for row in decision.table)
    lines += [
        "",
        f"{'coverage':>10}{decision.score:>13}{'accuracy':>11}{'others known' if has_others else '':>14}".rstrip(),
    ]
    for row in decision.table:
        others = "" if row.others is None else f"{row.others:12.1f} %"
        lines.append(f"{row.coverage:8.1f} %{row.threshold:13.4f}{row.accuracy:9.2f} %{others}")
    return "\n".join(lines)


def as_json(found: CalibrateResult) -> dict[str, Any]:
    """Return plain JSON."""
    return {
        "output": str(found.output),
        "decision": {
            **dataclasses.asdict(found.decision),
            "table": list(map(dataclasses.asdict, found.decision.table)),
        },
        "threshold": None if found.row is None else dataclasses.asdict(found.row),
        "others_by_score": found.others_by_score,
        "set_coverage": found.set_coverage,
        "set_coverage_by_label": found.by_label,
        "set_size": found.set_size,
        "remarks": list(found.remarks),
    }


def _words(row: CoverageRow) -> str:
    others = "" if row.others is None else f", and {row.others:.1f} % of the others are called known"
    right = f", of which {row.accuracy:.2f} % are right" if row.coverage else ""  # of no picture, no share is right
    return f"{row.coverage:.1f} % of pictures{right}{others}"
