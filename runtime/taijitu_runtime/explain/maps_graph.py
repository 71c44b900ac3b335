"""The part of a graph that computes class-activation maps, to be appended to an ONNX file (new_nodes.py).

No weight is read, copied or changed.
"""

from __future__ import annotations

from taijitu_runtime.explain.head import Head
from taijitu_runtime.onnx_graph import protobuf
from taijitu_runtime.onnx_graph.new_nodes import NewNodes
from taijitu_runtime.onnx_graph.onnx_fields import MODEL_GRAPH

MAPS = "taijitu_class_maps"
"""The name of the output, float32 (h, w, N, K)."""

MEANS = "taijitu_class_map_means"
"""The name of the output that the maps add up to, float32 (N, K): the logits, also where `logits` has probabilities."""

PLACES_FIRST = {"NCHW": (2, 3, 0, 1), "NHWC": (1, 2, 0, 3)}
TINY = 1e-30  # added to a divisor that may be 0, and lost in any other


def maps_graph(head: Head) -> bytes:
    """Return what, behind the bytes of the file that `head` was found in, gives it the outputs MAPS and MEANS.

    Each place of the last feature maps goes through the linear layers alone. An activation between two of them keeps
    the factor that it has for the picture as a whole, activation(z) / z: so the mean of a map over all places is the
    logit, up to rounding. In float32, also where the file has a smaller precision.
    """
    graph = NewNodes(MAPS)
    tiny = graph.constant(TINY)
    value = graph.add("Transpose", graph.float32(head.features), perm=PLACES_FIRST[head.layout])
    for layer in head.layers:
        weight = graph.float32(layer.weight)
        if layer.form == "planes":
            weight = graph.add("Flatten", weight)
        if layer.form != "columns":
            weight = graph.add("Transpose", weight, perm=(1, 0))
        value = graph.add("MatMul", value, weight)
        if layer.bias is not None:
            value = graph.add("Add", value, graph.float32(layer.bias))
        if layer.activated != layer.result:
            before, after = (graph.add("Flatten", graph.float32(name)) for name in (layer.result, layer.activated))
            value = graph.add("Mul", value, graph.add("Div", after, graph.add("Add", before, tiny)))
    means = NewNodes(MEANS)
    fields = [*graph.finish(value), *means.finish(means.add("Flatten", means.float32(head.logits)))]
    return protobuf.write([protobuf.message(MODEL_GRAPH, fields)])
