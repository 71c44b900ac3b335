"""A verification as text, the plain verdict first, or as one JSON object."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

from taijitu_export.comparison.comparison import NEAR_EQUAL, Accuracy, Comparison, Flip
from taijitu_export.comparison.divergence import Divergence
from taijitu_export.comparison.verify import Verification
from taijitu_runtime.console import shown

LISTED_FLIPS = 10


def as_text(found: Verification, candidate: Path, reference: Path | None) -> str:
    """Lines for a terminal."""
    word = "fine" if found.verdict.fine else "NOT FINE"
    beside = "" if reference is None else f" beside {shown(reference)}"
    lines = [f"{word}: {shown(candidate)}{beside}: {found.verdict.reason}", f"judged on {shown(found.pictures)}", ""]
    lines += _table(found)
    if found.comparison is not None:
        lines += ["", *_flips(found, found.comparison)]
        lines += [f"logits: {_differences(found.comparison)}"]
    if found.divergence is not None:
        lines += ["", *_divergence(found.divergence)]
    if found.verdict.not_judged:
        lines += ["", *(f"not judged: {what}" for what in found.verdict.not_judged)]
    return "\n".join(lines)


def as_json(found: Verification, candidate: Path, reference: Path | None, max_drop: float) -> dict[str, Any]:
    """Plain JSON: numbers are null where they could not be judged."""
    comparison = found.comparison
    return {
        "fine": found.verdict.fine,
        "reason": found.verdict.reason,
        "not_judged": list(found.verdict.not_judged),
        "candidate": str(candidate),
        "reference": None if reference is None else str(reference),
        "pictures": found.pictures,
        "picture_count": len(found.names),
        "max_drop_points": max_drop,
        "accuracy": {
            "candidate": None if found.accuracy is None else dataclasses.asdict(found.accuracy),
            "reference": None
            if comparison is None or comparison.reference is None
            else dataclasses.asdict(comparison.reference),
        },
        "not_finite_pictures": found.not_finite,
        "pictures_per_s": {name: round(value, 1) for name, value in found.pictures_per_s.items()},
        "comparison": None if comparison is None else _comparison_json(found, comparison),
        "divergence": _divergence_json(found.divergence),
    }


def _table(found: Verification) -> list[str]:
    columns: dict[str, Accuracy | None] = {"candidate": found.accuracy}
    if found.comparison is not None:
        columns["reference"] = found.comparison.reference
    rows = [f"{'':12}" + "".join(f"{name:>12}" for name in columns)]
    if found.accuracy is not None:
        rows.append(f"{'top-1':12}" + "".join(f"{a.top1_percent:10.2f} %" for a in columns.values() if a))
        if found.accuracy.top5_percent is not None:
            rows.append(f"{'top-5':12}" + "".join(f"{a.top5_percent:10.2f} %" for a in columns.values() if a))
    rows.append(f"{'pictures/s':12}" + "".join(f"{found.pictures_per_s[name]:12.0f}" for name in columns))
    return rows


def _flips(found: Verification, comparison: Comparison) -> list[str]:
    count, clear = len(comparison.flips), [flip for flip in comparison.flips if not flip.near_equal]
    lines = [f"agreement: {comparison.agreement_percent:.2f} %, {count} {'flip' if count == 1 else 'flips'}"]
    if count:
        lines[0] += (
            f", of which {comparison.near_equal} near-equal (the reference's probabilities differ by at most "
            f"{NEAR_EQUAL}: no error of the candidate)"
        )
    if comparison.measured_drop is not None and count:
        lines.append(
            f"drop: {comparison.measured_drop:.2f} points measured; {comparison.counted_drop:.2f} with the near-equal "
            "flips at their expected cost, which is what counts"
        )
    for flip in sorted(clear, key=lambda flip: -flip.margin)[:LISTED_FLIPS]:
        lines.append(f"  {_flip(found, flip)}")
    if len(clear) > LISTED_FLIPS:
        lines.append(f"  and {len(clear) - LISTED_FLIPS} more (all of them with --json)")
    return lines


def _flip(found: Verification, flip: Flip) -> str:
    label = f", labelled {found.labels[flip.label]}" if flip.label >= 0 else ""
    was, now = found.labels[flip.reference], found.labels[flip.candidate]
    return f"{shown(found.names[flip.picture])}: {was} became {now}, margin {flip.margin:.3f}{label}"


def _differences(comparison: Comparison) -> str:
    finite = "no NaN or Inf" if comparison.not_finite == 0 else f"NaN or Inf for {comparison.not_finite} pictures"
    return (
        f"largest difference {comparison.max_difference:.2g}, mean {comparison.mean_difference:.2g}, of a range of "
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
    return {
        "agreement_percent": comparison.agreement_percent,
        "measured_drop_points": comparison.measured_drop,
        "counted_drop_points": comparison.counted_drop,
        "near_equal_flips": comparison.near_equal,
        "max_logit_difference": comparison.max_difference,
        "mean_logit_difference": comparison.mean_difference,
        "logit_range": comparison.logit_range,
        "flips": [
            {
                "picture": found.names[flip.picture],
                "label": found.labels[flip.label] if flip.label >= 0 else None,
                "reference": found.labels[flip.reference],
                "candidate": found.labels[flip.candidate],
                "margin": flip.margin,
                "near_equal": flip.near_equal,
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
