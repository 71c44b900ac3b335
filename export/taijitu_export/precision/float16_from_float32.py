"""float32 -> float16, but for the layers that would overflow or cost accuracy."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
import onnx_ir as ir

from taijitu_export.comparison.divergence import Divergence, divergence, layer_name
from taijitu_export.comparison.intermediates import Intermediates
from taijitu_export.onnx.passes.editing import activations
from taijitu_export.onnx.passes.float16 import FLOAT16_MAX, Float16Pass, float16_nodes
from taijitu_export.onnx.passes.round_to_float16 import RoundToFloat16Pass
from taijitu_export.precision.accuracy_check import AccuracyCheck, CalibrationData, Converted, PrecisionError

BATCH = 8


def float16_from_float32(model: onnx.ModelProto, material: CalibrationData, max_drop: float) -> Converted:
    """An explicitly typed float16 graph that costs at most `max_drop` points of top-1 accuracy.

    A layer stays in float32 where a value that it reads or makes is beyond 65504 for one of the calibrating pictures,
    and where, as long as the whole costs too much, it is the first to diverge or feeds that one. Judged is the graph
    with float16's rounding spelt out (see RoundToFloat16Pass), so that a processor without float16 tells the truth.
    PrecisionError where no layer is left that could be put back.
    """
    judge = AccuracyCheck(model, material, max_drop)
    halves = {node.name for node in float16_nodes(ir.from_proto(model)) if node.name}
    kept = halves & overflowing_nodes(model, material)
    while True:
        rounded = _applied(RoundToFloat16Pass(kept), model)
        comparison = judge.compare(rounded)
        if judge.accepts(comparison):
            break
        found = divergence(rounded, model, judge.telling(rounded))
        guilty = next((node for node in _suspects(found, model) if node in halves - kept), None)
        if guilty is None:
            table = "\n".join(str(layer) for layer in found.worst())
            raise PrecisionError(f"float16 costs {comparison.counted_drop:.2f} points, allowed {max_drop:g}", table)
        kept.add(guilty)
    converted = _applied(Float16Pass(kept), model)
    constants = {constant.name for constant in model.graph.initializer}
    names = tuple(layer_name(node, constants) for node in model.graph.node if node.name in kept)
    return Converted(converted, len(halves), names, comparison)


def overflowing_nodes(model: onnx.ModelProto, material: CalibrationData) -> set[str]:
    """The names of nodes that read or make a value which float16 cannot hold, on the calibrating pictures."""
    graph = ir.from_proto(model).graph
    values = {value.name: value for value in activations(graph) if value.producer() is not None}
    inside = Intermediates(model, [name for name in values if name])
    largest = dict.fromkeys(values, 0.0)
    for start in range(0, len(material.calibrating), BATCH):
        for name, array in inside.run(material.calibrating[start : start + BATCH]).items():
            largest[name] = max(largest[name], float(np.abs(array).max(initial=0.0)))
    beyond = [values[name] for name, magnitude in largest.items() if not magnitude <= FLOAT16_MAX]
    touching = [node for value in beyond for node in (value.producer(), *value.consumers())]
    return {node.name for node in touching if node is not None and node.name is not None}


def _suspects(found: Divergence, model: onnx.ModelProto) -> Iterator[str]:
    """Names of nodes: the first that diverges, those that feed it with rounded values, and then whoever adds most."""
    yield found.first.node
    makers = {name: node.name for node in model.graph.node for name in node.output}
    inputs = next(node.input for node in model.graph.node if node.name == found.first.node)
    yield from (makers[name] for name in inputs if name in makers)
    yield from (layer.node for layer in found.worst(len(found.layers)))


def _applied(graph_pass: ir.passes.InPlacePass, model: onnx.ModelProto) -> onnx.ModelProto:
    return ir.to_proto(graph_pass(ir.from_proto(model)).model)
