"""float32 -> int8 by QuantizeLinear and DequantizeLinear, but for the layers that would cost accuracy."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping

import numpy as np
import onnx
import onnx_ir as ir

from taijitu_export.comparison.comparison import Comparison
from taijitu_export.comparison.divergence import layer_name
from taijitu_export.comparison.intermediates import Intermediates
from taijitu_export.onnx.passes.quantise import QuantisePass, quantisable_nodes
from taijitu_export.precision.accuracy_check import AccuracyCheck, CalibrationData, Converted, PrecisionError
from taijitu_export.precision.calibration import METHOD, calibrated_scales

BATCH = 8
RANKING_PICTURES = 128


@dataclasses.dataclass(frozen=True)
class Sensitivity:
    """A layer, and how far the logits go astray (root mean square, of the float32 logits') if it alone is int8."""

    node: str
    name: str
    error: float


def int8_from_float32(model: onnx.ModelProto, material: CalibrationData, max_drop: float) -> Converted:
    """A graph with as many layers in int8 as possible that costs at most `max_drop` points of top-1 accuracy.

    Scales come from the calibrating pictures. If the whole costs too much, each layer is tried alone on 128 of them,
    and the most sensitive ones stay in float32, as few as suffice on the pictures to judge with. PrecisionError with
    the table of layers where keeping all but one does not suffice.
    """
    judge = AccuracyCheck(model, material, max_drop)
    graph = ir.from_proto(model)
    nodes = [node.name for node in quantisable_nodes(graph) if node.name]
    inputs = dict.fromkeys(node.inputs[0].name for node in quantisable_nodes(graph) if node.inputs[0] is not None)
    pictures = material.calibrating
    batches = (pictures[start : start + BATCH] for start in range(0, len(pictures), BATCH))
    scales = calibrated_scales(model, [name for name in inputs if name], batches)

    def attempt(kept: Collection[str]) -> tuple[onnx.ModelProto, Comparison]:
        quantised = quantise(model, scales, kept)
        return quantised, judge.compare(quantised)

    quantised, comparison = attempt(())
    kept: list[str] = []
    if not judge.accepts(comparison):
        ranking = sensitivities(model, scales, nodes, material)
        drops: dict[int, float] = {0: comparison.counted_drop}

        def suffices(count: int) -> bool:
            _, found = attempt([layer.node for layer in ranking[:count]])
            drops[count] = found.counted_drop
            return judge.accepts(found)

        count = fewest(suffices, len(ranking) - 1)
        if count is None:
            cost = f"int8 costs {min(drops.values()):.2f} points of top-1 accuracy at best, allowed {max_drop:g}"
            raise PrecisionError(cost, table(ranking, drops))
        kept = [layer.node for layer in ranking[:count]]
        quantised, comparison = attempt(kept)
    constants = {constant.name for constant in model.graph.initializer}
    names = tuple(layer_name(node, constants) for node in model.graph.node if node.name in kept)
    scaling = {"pictures": len(pictures), "method": METHOD}
    return Converted(quantised, len(nodes), names, comparison, scaling)


def quantise(model: onnx.ModelProto, scales: Mapping[str, float], kept: Collection[str]) -> onnx.ModelProto:
    """The graph with QuantisePass applied; `kept`: names of nodes that stay float32."""
    return ir.to_proto(QuantisePass(scales, kept)(ir.from_proto(model)).model)


def sensitivities(
    model: onnx.ModelProto, scales: Mapping[str, float], nodes: Collection[str], material: CalibrationData
) -> list[Sensitivity]:
    """Every layer's sensitivity, the most sensitive first."""
    pictures = material.calibrating[:: max(1, len(material.calibrating) // RANKING_PICTURES)]
    expected = Intermediates(model).logits(pictures)
    constants = {constant.name for constant in model.graph.initializer}
    names = {node.name: layer_name(node, constants) for node in model.graph.node}
    signal = float(np.sqrt(np.square(expected, dtype=np.float64).mean()))
    found = []
    for node in nodes:
        alone = quantise(model, scales, [other for other in nodes if other != node])
        difference = Intermediates(alone).logits(pictures) - expected
        error = float(np.sqrt(np.square(difference, dtype=np.float64).mean()))
        found.append(Sensitivity(node, names[node], error / signal if signal else error))
    return sorted(found, key=lambda layer: -layer.error)


def fewest(suffices: Callable[[int], bool], most: int) -> int | None:
    """The smallest count from 1 to `most` that suffices, if more suffice wherever fewer do; None if none does.

    Doubles until one does and then halves the gap: a count near the front is found in few trials.
    """
    failed, count = 0, 1
    while count <= most and not suffices(count):
        failed, count = count, 2 * count
        if failed < most < count:
            count = most
    if count > most:
        return None
    while count - failed > 1:
        middle = (failed + count) // 2
        failed, count = (failed, middle) if suffices(middle) else (middle, count)
    return count


def table(ranking: Collection[Sensitivity], drops: Mapping[int, float]) -> str:
    """Layers by their sensitivity, with the points that were lost when all down to that one were kept in float32."""
    width = max(len(layer.name) for layer in ranking)
    lines = [
        f"{'layer':<{width}}  logits astray  points lost, kept down to here",
        f"{'(none kept)':<{width}}  {'':13}  ",
    ]
    lines[1] += f"{drops[0]:.2f}"
    for count, layer in enumerate(ranking, start=1):
        lost = f"{drops[count]:.2f}" if count in drops else ""
        lines.append(f"{layer.name:<{width}}  {layer.error:12.2%}   {lost}".rstrip())
    return "\n".join(lines)
