"""A smaller precision as a user asks for it: converted, recorded in the card, and reported."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import onnx

from taijitu_export.precision.accuracy_check import CalibrationData, Converted, count_types
from taijitu_export.precision.float16_from_float32 import float16_from_float32
from taijitu_export.precision.int8_from_float32 import int8_from_float32
from taijitu_runtime.card import ModelCard, Precision
from taijitu_runtime.errors import UsageError

CONVERSIONS = {"fp16": float16_from_float32, "int8": int8_from_float32}
MAX_DROP = {"fp16": 0.05, "int8": 0.5}


@dataclasses.dataclass(frozen=True)
class PrecisionRequest:
    """A precision below float32, the pictures to calibrate and judge with, and the points that it may cost."""

    precision: str
    data: Path | None
    max_drop: float

    @classmethod
    def asked_for(cls, precision: str, data: Path | None, max_drop: float | None) -> PrecisionRequest | None:
        """From the command line; None for float32. UsageError where the options do not fit each other."""
        if precision == "fp32":
            if data is not None or max_drop is not None:
                option = "--calibration" if data is not None else "--max-drop"
                raise UsageError(f"got {option} without a precision that it is for; give --precision fp16 or int8")
            return None
        if precision == "int8" and data is None:
            raise UsageError("got --precision int8 without pictures to calibrate with; give --calibration DIR")
        return cls(precision, data, MAX_DROP[precision] if max_drop is None else max_drop)


def calibration_data_for(smaller: PrecisionRequest, card: ModelCard) -> CalibrationData:
    """The pictures that it was asked to take, or random ones. PictureError and UsageError where they are no use."""
    return CalibrationData.random(card.input) if smaller.data is None else CalibrationData.of_data(smaller.data, card)


def convert(
    proto: onnx.ModelProto, card: ModelCard, smaller: PrecisionRequest, material: CalibrationData
) -> tuple[onnx.ModelProto, list[str]]:
    """The float32 graph in a smaller precision, with that in its card, and what there is to say about it."""
    converted = CONVERSIONS[smaller.precision](proto, material, smaller.max_drop)
    judged = {"judged_on": material.judging_source, "drop_points": round(converted.comparison.counted_drop, 4)}
    calibration = converted.scales | ({"data": material.calibrating_source} if converted.scales else {}) | judged
    precision = Precision(name=smaller.precision, kept=converted.kept, calibration=calibration)
    onnx.helper.set_model_props(converted.model, dataclasses.replace(card, precision=precision).to_metadata())
    return converted.model, report(converted, smaller, material)


def report(converted: Converted, smaller: PrecisionRequest, material: CalibrationData) -> list[str]:
    """What was made of the graph, and what it costs."""
    types = ", ".join(f"{count} {name}" for name, count in sorted(count_types(converted.model).items()))
    found, kept = converted.comparison, converted.kept
    measured = "" if found.measured_drop is None else f"{found.measured_drop:.2f} measured, "
    lines = [f"{smaller.precision}: {converted.layers - len(kept)} of {converted.layers} layers; tensors: {types}"]
    lines += [f"kept in float32: {', '.join(kept)}"] if kept else []
    lines += [f"calibrated on {material.calibrating_source}: {converted.scales['method']}"] if converted.scales else []
    lines.append(
        f"checked against float32 on {material.judging_source}: agreement {found.agreement_percent:.2f} %, "
        f"{found.near_equal} of {len(found.flips)} flips near-equal; points of top-1 accuracy lost: {measured}"
        f"{found.counted_drop:.2f} counted (allowed {smaller.max_drop:g})"
    )
    return lines
