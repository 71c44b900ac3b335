"""Convert float32 to int8 by QuantizeLinear and DequantizeLinear, except for the layers that would cost accuracy."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Collection, Mapping, Sequence

import onnx
import onnx_ir as ir

from taijitu_export.comparison.comparison import compare
from taijitu_export.comparison.divergence import layer_name, layer_names
from taijitu_export.comparison.intermediates import Intermediates
from taijitu_export.fewest import fewest
from taijitu_export.onnx.passes import Float16Pass, RaiseToOpset19Pass, RoundToFloat16Pass
from taijitu_export.onnx.passes.editing import applied
from taijitu_export.onnx.passes.quantise import QuantisePass, quantisable_nodes
from taijitu_export.onnx.passes.raise_to_opset_19 import nodes_blocking_opset_19
from taijitu_export.onnx.passes.reading import has_weights
from taijitu_export.precision.accuracy_check import AccuracyCheck, Check, PrecisionError
from taijitu_export.precision.calibration import METHOD, calibrated_scales
from taijitu_export.precision.calibration_data import CalibrationData
from taijitu_export.precision.converted_graph import ConvertedGraph
from taijitu_export.precision.float16_from_float32 import unfit_for_float16
from taijitu_export.progress import tracked
from taijitu_runtime.errors import UsageError

RANKING_PICTURES = 128


@dataclasses.dataclass(frozen=True)
class Sensitivity:
    """A layer, and the error of the logits (root mean square, as a share of their range) if it alone is int8."""

    node: str
    name: str
    error: float


def int8_for_engine(model: onnx.ModelProto, data: CalibrationData, max_drop: float) -> ConvertedGraph:
    """Do the same as `int8_from_float32` with float16 between the layers, not float32, for TensorRT from 10.0 on.

    Such a library computes in the types of the graph. The graph is in opset 19, from which on a scale may be
    float16. Values that float16 cannot hold stay in float32. The check sees int8 and float16's rounding together.
    UsageError where the graph has an operator that opset 19 defines differently.
    """
    raised = ir.from_proto(model)
    if held := nodes_blocking_opset_19(raised):
        raise UsageError(
            f"got the node {held[0].name!r} ({held[0].op_type}), which opset 19 defines differently, expected a graph "
            "that can be raised to it for float16 between int8 layers; give --for cpu"
        )
    model = ir.to_proto(RaiseToOpset19Pass()(raised).model)
    return _int8(model, data, max_drop, _float16_between(model, data))


def int8_from_float32(model: onnx.ModelProto, data: CalibrationData, max_drop: float) -> ConvertedGraph:
    """Make a graph with as many layers in int8 as possible that loses at most `max_drop` points of top-1 accuracy.

    Scales come from the calibration images. Layers whose weights are not constants, or that QuantisePass does not know,
    stay in float32. If the whole does not pass the check, each layer is tried alone on at most 128 calibration images,
    and those with the largest errors stay in float32, as few as suffice. PrecisionError with the table of layers where
    one layer in int8 is still too much, and where QuantisePass knows no layer.
    """
    return _int8(model, data, max_drop, Between())


@dataclasses.dataclass(frozen=True)
class Between:
    """What is between layers in int8: float32, or float16 except in `excluded` nodes; `in_float32`: layer names."""

    type_name: str = "float32"
    excluded: frozenset[str] = frozenset()
    in_float32: tuple[str, ...] = ()

    @property
    def is_float16(self) -> bool:
        """Whether it is float16; the scales are then, too."""
        return self.type_name == "float16"

    def judged(self, model: onnx.ModelProto) -> onnx.ModelProto:
        """Return a quantised graph that shows its errors on a processor without float16 too."""
        return applied(RoundToFloat16Pass(self.excluded), model) if self.is_float16 else model

    def shipped(self, model: onnx.ModelProto) -> onnx.ModelProto:
        """Return a quantised graph as it is written."""
        return applied(Float16Pass(self.excluded), model) if self.is_float16 else model


def _float16_between(model: onnx.ModelProto, data: CalibrationData) -> Between:
    """Exclude the values that float16 cannot hold on the calibration images."""
    excluded = unfit_for_float16(model, data)
    return Between("float16", frozenset(excluded), layer_names(model, excluded))


def _int8(model: onnx.ModelProto, data: CalibrationData, max_drop: float, between: Between) -> ConvertedGraph:
    graph = ir.from_proto(model)
    quantisable = quantisable_nodes(graph)
    nodes = [node.name for node in quantisable if node.name]
    if not nodes:
        raise PrecisionError(
            "got no Conv, Gemm or MatMul with constant weights, expected one at least, which int8 is for; keep the "
            "float32 file"
        )
    inputs = dict.fromkeys(node.inputs[0].name for node in quantisable if node.inputs[0] is not None)
    scales = calibrated_scales(model, [name for name in inputs if name], data.calibration)
    checked = AccuracyCheck("int8", model, quantise(model, scales, weights_only=True), data, max_drop)

    def without(excluded: Collection[str]) -> onnx.ModelProto:
        return quantise(model, scales, excluded, float16_scales=between.is_float16)

    excluded: list[str] = []
    check = checked(between.judged(without(excluded)))
    if not check.passes:
        ranking = sensitivities(model, scales, nodes, data)
        advice = "; try --for cpu, with float32 between the layers" if between.is_float16 else ""
        excluded, check = _fewest_excluded(
            ranking, check, lambda nodes: checked(between.judged(without(nodes))), advice
        )
    layers = [node.name for node in graph.graph if node.name and has_weights(node)]
    others = [name for name in layers if name not in nodes or name in excluded]
    scaling = {"pictures": len(data.calibration), "method": METHOD}
    return ConvertedGraph(
        model=between.shipped(without(excluded)),
        layers=len(layers),
        excluded_layers=layer_names(model, others),
        check=check,
        noise=checked.noise,
        scales=scaling,
        between=between.type_name,
        in_float32=between.in_float32,
    )


def _fewest_excluded(
    ranking: Sequence[Sensitivity], whole: Check, check_without: Callable[[Collection[str]], Check], advice: str
) -> tuple[list[str], Check]:
    """Return the nodes of the fewest layers, from the most sensitive on, without which the graph passes; and its check.

    `whole`: the check of all layers in int8, which failed. PrecisionError, with the table of layers, where one layer in
    int8 is still too much; its text ends with `advice`.
    """
    tried = {0: whole}

    def suffices(count: int) -> bool:
        tried[count] = check_without([layer.node for layer in ranking[:count]])
        return tried[count].passes

    count = fewest(suffices, len(ranking) - 1)
    if count is None:
        best = min(tried.values(), key=lambda check: _sortable(check.comparison.rms_error))
        raise PrecisionError(f"int8 is not good enough: {best.verdict.reason}{advice}", table(ranking, tried))
    return [layer.node for layer in ranking[:count]], tried[count]


def quantise(
    model: onnx.ModelProto,
    scales: Mapping[str, float],
    excluded: Collection[str] = (),
    *,
    weights_only: bool = False,
    float16_scales: bool = False,
) -> onnx.ModelProto:
    """Apply QuantisePass to a copy of the graph; `excluded`: names of nodes that it leaves alone."""
    return applied(QuantisePass(scales, excluded, weights_only=weights_only, float16_scales=float16_scales), model)


def sensitivities(
    model: onnx.ModelProto, scales: Mapping[str, float], nodes: Collection[str], data: CalibrationData
) -> list[Sensitivity]:
    """Return every layer's sensitivity, the most sensitive first."""
    images = data.calibration[:: -(-len(data.calibration) // RANKING_PICTURES)]
    expected = Intermediates(model).logits(images)
    constants = {constant.name for constant in model.graph.initializer}
    names = {node.name: layer_name(node, constants) for node in model.graph.node}
    found = []
    for node in tracked("trying each layer alone in int8", nodes, unit="layers"):
        alone = quantise(model, scales, [other for other in nodes if other != node])
        error = compare(Intermediates(alone).logits(images), expected, output=data.output).rms_error
        found.append(Sensitivity(node, names[node], _sortable(error)))
    return sorted(found, key=lambda layer: -layer.error)


def table(ranking: Collection[Sensitivity], tried: Mapping[int, Check]) -> tuple[str, ...]:
    """Return lines: the layers by their sensitivity, with the outcome where all down to that one stayed in float32."""
    width = max(len("(none excluded)"), *(len(layer.name) for layer in ranking))
    rows = [
        ("layer", "logit error", "logit error, in float32 down to here"),
        ("(none excluded)", "", _outcome(tried[0])),
    ]
    for count, layer in enumerate(ranking, start=1):
        rows.append((layer.name, f"{layer.error:.2%}", _outcome(tried[count]) if count in tried else ""))
    return tuple(f"{name:<{width}}  {error:>11}  {outcome}".rstrip() for name, error, outcome in rows)


def _outcome(check: Check) -> str:
    labelled = check.comparison.labelled
    points = "" if labelled is None else f", {labelled.drop_points:.2f} points lost"
    return f"{check.comparison.rms_error:.2%}{points}: {'passes' if check.passes else check.verdict.outcome.value}"


def _sortable(error: float) -> float:
    """Return NaN as the largest of errors, since it compares with nothing."""
    return math.inf if math.isnan(error) else error
