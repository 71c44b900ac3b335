"""Convert float32 to float16, except for the layers that would overflow or cost accuracy."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
import onnx_ir as ir

from taijitu_export.comparison.divergence import Divergence, divergence, layer_names
from taijitu_export.comparison.intermediates import Intermediates
from taijitu_export.onnx.passes.editing import activations, applied
from taijitu_export.onnx.passes.float16 import FLOAT16_MAX, Float16Pass, float16_nodes, float32_layers
from taijitu_export.onnx.passes.reading import has_weights
from taijitu_export.onnx.passes.round_to_float16 import RoundToFloat16Pass
from taijitu_export.precision.accuracy_check import AccuracyCheck, PrecisionError
from taijitu_export.precision.calibration_data import CalibrationData
from taijitu_export.precision.converted_graph import ConvertedGraph
from taijitu_export.progress import tracked
from taijitu_export.sample_pictures import sample_pictures
from taijitu_runtime.console import working

BATCH = 8
GENERATED = 16


def float16_from_float32(model: onnx.ModelProto, data: CalibrationData, max_drop: float) -> ConvertedGraph:
    """Make an explicitly typed float16 graph that loses at most `max_drop` points of top-1 accuracy.

    A layer stays in float32 if float16 cannot hold its weights or has no kernel for it (Float16Pass's rules), if a
    value that it reads or computes is beyond 65504 for one of the calibration images or of a few generated ones, and,
    as long as the whole does not pass the check, if it is the first to diverge or feeds that one. The check sees the
    graph with float16's rounding written out (RoundToFloat16Pass), so that a processor without float16 shows its
    errors. PrecisionError where every layer with weights would stay in float32, or where that would not be enough.
    """
    graph = ir.from_proto(model)
    layers = [node.name for node in float32_layers(graph) if node.name]
    halves = float16_nodes(graph)
    possible, weighted = {node.name for node in halves}, {node.name for node in halves if has_weights(node)}
    excluded = unfit_for_float16(model, data)
    weights_rounded = applied(RoundToFloat16Pass(excluded, weights_only=True), model)
    checked = AccuracyCheck("fp16", model, weights_rounded, data, max_drop)
    while True:
        if excluded.issuperset(weighted):
            raise PrecisionError(
                f"got {len(layers)} layers, and none with weights that float16 can hold and would not make too coarse, "
                "expected one at least; keep the float32 file"
            )
        rounded = applied(RoundToFloat16Pass(excluded), model)
        check = checked(rounded)
        if check.passes:
            break
        with working("looking for the first layer that diverges"):
            found = divergence(rounded, model, checked.most_different(rounded))
        guilty = next((node for node in _suspects(found, model) if node and node in possible - excluded), None)
        if guilty is None:
            raise PrecisionError(f"float16 is not good enough: {check.verdict.reason}", tuple(map(str, found.worst())))
        excluded.add(guilty)
    names = layer_names(model, excluded)
    return ConvertedGraph(applied(Float16Pass(excluded), model), len(layers), names, check, checked.noise)


def unfit_for_float16(model: onnx.ModelProto, data: CalibrationData) -> set[str]:
    """Return the names of nodes that stay in float32: by Float16Pass's rules, or for overflow."""
    graph = ir.from_proto(model)
    layers = {node.name for node in float32_layers(graph) if node.name}
    halves = {node.name for node in float16_nodes(graph) if node.name}
    return layers - halves | (halves & _overflowing_nodes(model, data))


def _overflowing_nodes(model: onnx.ModelProto, data: CalibrationData) -> set[str]:
    """Return the names of nodes that read or compute a value which float16 cannot hold.

    Generated pictures have all of 0 to 255, which calibration images, of a dark place for example, may lack.
    """
    generated = sample_pictures(GENERATED, *data.calibration.shape[1:3])
    batches = [
        images[first : first + BATCH]
        for images in (data.calibration, generated)
        for first in range(0, len(images), BATCH)
    ]
    graph = ir.from_proto(model).graph
    values = {value.name: value for value in activations(graph) if value.producer() is not None}
    inside = Intermediates(model, [name for name in values if name])
    largest = dict.fromkeys(values, 0.0)
    for batch in tracked("looking for overflow", batches):
        for name, array in inside.run(batch).items():
            largest[name] = float(np.maximum(largest[name], np.abs(array).max(initial=0.0)))  # NaN stays NaN
    beyond = [values[name] for name, magnitude in largest.items() if not magnitude <= FLOAT16_MAX]
    touching = [node for value in beyond for node in (value.producer(), *value.consumers())]
    return {node.name for node in touching if node is not None and node.name is not None}


def _suspects(found: Divergence, model: onnx.ModelProto) -> Iterator[str]:
    """Yield names of nodes: the first to diverge, those that feed it rounded values, then those that add the most."""
    yield found.first.node
    makers = {name: node.name for node in model.graph.node for name in node.output}
    inputs = next(node.input for node in model.graph.node if node.name == found.first.node)
    yield from (makers[name] for name in inputs if name in makers)
    yield from (layer.node for layer in found.worst(len(found.layers)))
