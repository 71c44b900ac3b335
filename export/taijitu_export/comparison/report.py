"""Print a verification as text, the verdict first, or as one JSON object."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

from taijitu_export.comparison.bounds import drop_interval
from taijitu_export.comparison.comparison import Accuracy, Comparison, Flip
from taijitu_export.comparison.divergence import Divergence
from taijitu_export.comparison.verdict import Outcome
from taijitu_export.comparison.verify import Verification
from taijitu_runtime.console import shown
from taijitu_runtime.datasets import LeftOut, PictureSet

LISTED_FLIPS = 10
WORDS = {outcome: outcome.value for outcome in Outcome} | {
    Outcome.NOT_FINE: "NOT FINE",
    Outcome.NOT_JUDGED: "NOT JUDGED",
}


def as_text(found: Verification, candidate: Path, reference: Path | None) -> str:
    """Return lines for a terminal."""
    against = "" if reference is None else f" against {shown(reference)}"
    lines = [f"{WORDS[found.verdict.outcome]}: {shown(candidate)}{against}: {found.verdict.reason}"]
    lines += [f"judged on {shown(found.evidence.source)}"]
    lines += [shown(line) for line in found.evidence.pictures.remarks] if found.evidence.pictures else []
    lines += ["", *_table(found)]
    if found.comparison is not None:
        lines += ["", *_flips(found, found.comparison)]
        lines += [f"logits: {_differences(found.comparison)}"]
    if found.divergence is not None:
        lines += ["", *_divergence(found.divergence)]
    if found.verdict.not_judged:
        lines += ["", *(f"not judged: {what}" for what in found.verdict.not_judged)]
    return "\n".join(lines)


def as_json(found: Verification, candidate: Path, reference: Path | None) -> dict[str, Any]:
    """Return plain JSON: numbers are null where they could not be judged."""
    comparison, evidence = found.comparison, found.evidence
    labelled = None if comparison is None else comparison.labelled
    return {
        "verdict": found.verdict.outcome.value,
        "fine": found.verdict.fine,
        "reason": found.verdict.reason,
        "not_judged": list(found.verdict.not_judged),
        "pictures_to_show": found.verdict.pictures_to_show,
        "candidate": str(candidate),
        "reference": None if reference is None else str(reference),
        "pictures": evidence.source,
        **_pictures_json(evidence.pictures),
        "picture_count": len(evidence.candidate),
        "max_drop_points": found.max_drop,
        "accuracy": {
            "candidate": None if found.accuracy is None else dataclasses.asdict(found.accuracy),
            "reference": None if labelled is None else dataclasses.asdict(labelled.reference),
        },
        "calibration_error_points": {
            name: None if math.isnan(points := found.calibration_errors.get(name, math.nan)) else points
            for name in ("candidate", "reference")
        },
        "not_finite_pictures": found.not_finite,
        "pictures_per_s": {name: round(value, 1) for name, value in evidence.pictures_per_s.items()},
        "comparison": None if comparison is None else _comparison_json(found, comparison),
        "divergence": _divergence_json(found.divergence),
    }


def _pictures_json(pictures: PictureSet | None) -> dict[str, Any]:
    left_out = LeftOut() if pictures is None else pictures.left_out
    return {
        "label_counts": {} if pictures is None else pictures.label_counts,
        "left_out": left_out.as_json(),
        "warnings": [] if pictures is None else pictures.warnings,
    }


def _table(found: Verification) -> list[str]:
    columns: dict[str, Accuracy | None] = {"candidate": found.accuracy}
    if found.comparison is not None:
        columns["reference"] = found.comparison.labelled.reference if found.comparison.labelled else None
    rows = [f"{'':12}" + "".join(f"{name:>12}" for name in columns)]
    if found.accuracy is not None:
        rows.append(f"{'top-1':12}" + "".join(f"{a.top1_percent:10.2f} %" for a in columns.values() if a))
        if found.accuracy.top5_percent is not None:
            rows.append(f"{'top-5':12}" + "".join(f"{a.top5_percent:10.2f} %" for a in columns.values() if a))
    if found.calibration_errors:
        errors = found.calibration_errors.values()
        rows.append(f"{'ECE':12}" + "".join(f"{'-':>12}" if math.isnan(e) else f"{e:10.2f} %" for e in errors))
    rows.append(f"{'pictures/s':12}" + "".join(f"{found.evidence.pictures_per_s[name]:12.0f}" for name in columns))
    return rows


def _flips(found: Verification, comparison: Comparison) -> list[str]:
    flips = sorted(comparison.flips, key=lambda flip: -flip.margin)
    lines = [f"agreement: {comparison.agreement_percent:.2f} %, {len(flips)} {'flip' if len(flips) == 1 else 'flips'}"]
    if comparison.labelled is not None and flips:
        lines[0] += f": {comparison.labelled.lost} pictures lost, {comparison.labelled.gained} gained"
    lines += [f"  {_flip(found, flip)}" for flip in flips[:LISTED_FLIPS]]
    if len(flips) > LISTED_FLIPS:
        lines.append(f"  and {len(flips) - LISTED_FLIPS} more (all of them with --json)")
    return lines


def _flip(found: Verification, flip: Flip) -> str:
    labels = found.card.labels
    label = f", labelled {shown(labels[flip.label])}" if flip.label >= 0 else ""
    was, now = shown(labels[flip.reference]), shown(labels[flip.candidate])
    return f"{shown(found.evidence.names[flip.picture])}: {was} became {now}, margin {flip.margin:.3f}{label}"


def _differences(comparison: Comparison) -> str:
    finite = "no NaN or Inf" if comparison.not_finite == 0 else f"NaN or Inf for {comparison.not_finite} pictures"
    return (
        f"largest difference {comparison.max_difference:.2g}, rms {comparison.rms_difference:.2g}, of a range of "
        f"{comparison.logit_range:.3g}; {finite}"
    )


def _divergence(found: Divergence | str) -> list[str]:
    if isinstance(found, str):
        return [f"not explained: {found}"]
    first = found.first
    lines = [
        f"first layer that diverges: {first}",
        "errors are of its output, relative to the reference's; largest steps:",
    ]
    return lines + [f"  {layer}" for layer in found.worst()]


def _comparison_json(found: Verification, comparison: Comparison) -> dict[str, Any]:
    labels, labelled = found.card.labels, comparison.labelled
    changes: dict[str, Any] = dict.fromkeys(("drop_points", "drop_interval_points", "lost", "gained"))
    if labelled is not None:
        interval = drop_interval(labelled.lost, labelled.gained, comparison.pictures).points
        changes |= {"drop_points": labelled.drop_points, "drop_interval_points": list(interval)}
        changes |= {"lost": labelled.lost, "gained": labelled.gained}
    return {
        "agreement_percent": comparison.agreement_percent,
        **changes,
        "max_logit_difference": comparison.max_difference,
        "rms_logit_difference": comparison.rms_difference,
        "logit_range": comparison.logit_range,
        "flips": [
            {
                "picture": found.evidence.names[flip.picture],
                "label": labels[flip.label] if flip.label >= 0 else None,
                "reference": labels[flip.reference],
                "candidate": labels[flip.candidate],
                "margin": flip.margin,
            }
            for flip in comparison.flips
        ],
    }


def _divergence_json(found: Divergence | str | None) -> dict[str, Any] | None:
    if found is None:
        return None
    if isinstance(found, str):
        return {"not_explained": found}

    def plain(error: float) -> float | None:
        return error if math.isfinite(error) else None  # JSON has no infinity

    return {
        "first": found.first.name,
        "layers": [
            {"name": x.name, "node": x.node, "operator": x.operator, "before": plain(x.before), "error": plain(x.error)}
            for x in found.layers
        ],
    }
