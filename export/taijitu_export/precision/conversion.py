"""Convert to the smaller precision that a user asks for, record it in the card, and report it."""

from __future__ import annotations

import collections
import dataclasses
from pathlib import Path

import onnx

from taijitu_export.comparison.allowances import ALLOWED_CALIBRATION_POINTS, ALLOWED_DROP_POINTS, allowed_error
from taijitu_export.comparison.intermediates import Intermediates
from taijitu_export.onnx.forms import PURPOSES
from taijitu_export.onnx.passes.editing import with_names, with_types
from taijitu_export.passport import card_for_precision
from taijitu_export.percentages import check_percentage
from taijitu_export.precision.calibration_data import CalibrationData
from taijitu_export.precision.converted_graph import ConvertedGraph
from taijitu_export.precision.float16_from_float32 import float16_from_float32
from taijitu_export.precision.int8_from_float32 import int8_for_engine, int8_from_float32
from taijitu_runtime.backends.ort.backend import onnxruntime_version, rounds_float16
from taijitu_runtime.card import PRECISIONS, ModelCard, Precision
from taijitu_runtime.console import shown
from taijitu_runtime.datasets import check_skipping
from taijitu_runtime.errors import UsageError, check_name

CONVERSIONS = {
    ("fp16", None): float16_from_float32,
    ("int8", "engine"): int8_for_engine,
    ("int8", "cpu"): int8_from_float32,
}
"""By precision and purpose of the file."""

FOR_CPU = (
    "for cpu: float32 between the int8 layers, which TensorRT 8.6 needs too; ONNX Runtime takes longer for such a "
    "graph than for float32 (docs/results/precision.md): time both with taijitu bench"
)

DECISION_KEPT = (
    "decision: temperature, threshold and label sets are those of float32; to measure them again, give the file of "
    "this precision to taijitu calibrate"
)


@dataclasses.dataclass(frozen=True)
class PrecisionRequest:
    """A precision below float32, the data to calibrate and check with, and the percentage points that it may cost.

    `data`: a folder or tar; None for generated images, which are enough for float16. `max_drop`: None for the
    precision's own allowance. `purpose`: what an int8 file is for, "engine" or "cpu"; None for float16.
    `skip_unreadable`: leave out images of `data` that cannot be decoded, which are an error otherwise.
    """

    precision: str
    data: Path | None = None
    max_drop: float | None = None
    purpose: str | None = None
    skip_unreadable: bool = False

    @classmethod
    def asked_for(
        cls,
        precision: str,
        data: Path | None,
        max_drop: float | None,
        purpose: str | None = None,
        *,
        skip_unreadable: bool = False,
    ) -> PrecisionRequest | None:
        """Return the request of a command line.

        None for float32. UsageError where the options do not fit each other, or the installed ONNX Runtime.
        """
        check_name("precision", precision, PRECISIONS)
        if purpose is not None:
            check_name("purpose", purpose, PURPOSES)
        check_skipping(skip_unreadable, data, "--calibration")
        max_drop = check_percentage("--max-drop", max_drop)
        if purpose is not None and precision != "int8":
            raise UsageError(f"got --for {purpose} with --precision {precision}, which is for both; remove --for")
        if precision == "fp32":
            if data is not None or max_drop is not None:
                option = "--calibration" if data is not None else "--max-drop"
                raise UsageError(f"got {option} without a precision that it applies to; give --precision fp16 or int8")
            return None
        if precision == "int8" and data is None:
            raise UsageError("got --precision int8 without pictures to calibrate with; give --calibration DIR")
        purpose = (purpose or "engine") if precision == "int8" else None
        if purpose == "engine" and not rounds_float16():
            raise UsageError(
                f"got --precision int8 for engines with ONNX Runtime {onnxruntime_version()}, whose CPU provider "
                "rounds float16 wrongly, so that the file could not be checked; expected 1.30 or later, for Python "
                "3.11 or later; upgrade it, or add --for cpu"
            )
        return cls(precision, data, max_drop, purpose, skip_unreadable)

    def read_data(self, card: ModelCard) -> CalibrationData:
        """Read its images, or generate some. PictureError and UsageError where they cannot be used."""
        if self.data is None:
            return CalibrationData.generated(card)
        return CalibrationData.of_data(self.data, card, skip_unreadable=self.skip_unreadable)


@dataclasses.dataclass(frozen=True)
class Conversion:
    """A graph in a smaller precision with that in its card, and lines for the user."""

    model: onnx.ModelProto
    card: ModelCard
    report: tuple[str, ...]


def convert(model: onnx.ModelProto, card: ModelCard, request: PrecisionRequest, data: CalibrationData) -> Conversion:
    """Convert a float32 graph that onnx.checker accepts. `data`: the result of `request.read_data`.

    PrecisionError where no graph of that precision is good enough.
    """
    max_drop = ALLOWED_DROP_POINTS[request.precision] if request.max_drop is None else request.max_drop
    typed = with_names(with_types(model, checked=True))
    converted = CONVERSIONS[request.precision, request.purpose](typed, data, max_drop)
    converted_card = card_for_precision(card, request.precision, Intermediates(converted.model).logits)
    precise = dataclasses.replace(converted_card, precision=precision_record(converted, request, data))
    onnx.helper.set_model_props(converted.model, precise.to_metadata())
    kept = () if card.decision is None else (DECISION_KEPT,)
    return Conversion(converted.model, precise, (*report(converted, request, data), *kept))


def precision_record(converted: ConvertedGraph, request: PrecisionRequest, data: CalibrationData) -> Precision:
    """Return the card's record: how the scales were found, and what the conversion costs."""
    comparison, calibration, precision = converted.check.comparison, dict(converted.scales), request.precision
    if converted.scales:
        calibration |= {"data": data.calibration_source, "for": request.purpose, "between": converted.between}
    if converted.in_float32:
        calibration["in_float32"] = list(converted.in_float32)
    calibration["judged_on"] = data.evaluation_source
    if comparison.labelled is not None:
        calibration["drop_points"] = round(comparison.labelled.drop_points, 4)
    if (errors := converted.check.calibration_errors) is not None:
        calibration["calibration_error"] = round(errors[1], 2)
    calibration["logit_error"] = float(f"{comparison.rms_error:.3g}")
    calibration["allowed_logit_error"] = float(f"{allowed_error(precision, converted.noise):.3g}")
    return Precision(name=precision, excluded_layers=converted.excluded_layers, calibration=calibration)


def report(converted: ConvertedGraph, request: PrecisionRequest, data: CalibrationData) -> tuple[str, ...]:
    """Return lines about the conversion, and what it costs."""
    precision = request.precision
    types = ", ".join(f"{count} {name}" for name, count in sorted(count_types(converted.model).items()))
    excluded, check = converted.excluded_layers, converted.check
    lines = [f"{precision}: {converted.layers - len(excluded)} of {converted.layers} layers; tensors: {types}"]
    between = [name for name in excluded if name not in converted.in_float32]
    lines += [f"in {converted.between}: {', '.join(between)}"] if between else []
    lines += [f"in float32: {', '.join(converted.in_float32)}"] if converted.in_float32 else []
    lines += [f"calibrated on {data.calibration_source}: {converted.scales['method']}"] if converted.scales else []
    lines.append(
        f"checked against float32 on {data.evaluation_source}: {check.verdict.outcome.value}, {check.verdict.reason}; "
        f"rms logit difference {check.comparison.rms_error:.2g}, of rounded weights alone {converted.noise:.2g}"
    )
    lines += _on_probabilities(check.calibration_errors, data)
    lines += [FOR_CPU] if request.purpose == "cpu" else []
    return (*lines, *map(shown, data.remarks))


def _on_probabilities(errors: tuple[float, float] | None, data: CalibrationData) -> list[str]:
    """Return a line if the conversion moved the calibration error (ECE), by more than probabilities may move."""
    if errors is None or abs(errors[1] - errors[0]) <= ALLOWED_CALIBRATION_POINTS:
        return []
    return [
        f"probabilities: the calibration error (ECE) moved from {errors[0]:.2f} to {errors[1]:.2f} points at "
        f"temperature {data.temperature:g}, more than {ALLOWED_CALIBRATION_POINTS:g}; calibrate the result: taijitu "
        "calibrate"
    ]


def count_types(model: onnx.ModelProto) -> dict[str, int]:
    """Count the tensors of each element type that the graph's nodes compute, by ONNX's own inference; no sequences."""
    graph = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True).graph
    values = [value for value in (*graph.value_info, *graph.output) if value.type.HasField("tensor_type")]
    types = {value.name: value.type.tensor_type.elem_type for value in values}
    computed = (types[name] for node in graph.node for name in node.output if name in types)
    return dict(collections.Counter(str(onnx.helper.tensor_dtype_to_np_dtype(kind)) for kind in computed))
