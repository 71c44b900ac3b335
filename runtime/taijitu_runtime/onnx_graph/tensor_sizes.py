"""How large the tensors of an ONNX graph are, as far as the file records their shapes."""

from __future__ import annotations

import math

from taijitu_runtime.onnx_graph import protobuf
from taijitu_runtime.onnx_graph.onnx_fields import (
    DIM_VALUE,
    GRAPH_VALUE_INFO,
    MODEL_GRAPH,
    SHAPE_DIM,
    TENSOR_SHAPE,
    TYPE_TENSOR,
    VALUE_TYPE,
)
from taijitu_runtime.onnx_graph.protobuf import Field

BYTES_AN_ELEMENT = 4  # of float32, which ONNX Runtime computes in on a processor


def largest_tensor_bytes(model: bytes) -> int | None:
    """Return the bytes of the largest value between two nodes, for one image; None where the file records no shapes.

    The first dimension is the batch, and counts as 1; so does one that the file leaves open.
    """
    try:
        graphs = protobuf.messages(protobuf.read(model), MODEL_GRAPH)
        shapes = [_shape(info) for graph in graphs for info in protobuf.messages(graph, GRAPH_VALUE_INFO)]
    except ValueError:  # no model at all: ONNX Runtime has the words for it
        return None
    return max((BYTES_AN_ELEMENT * math.prod(shape[1:]) for shape in shapes if len(shape) > 1), default=None)


def _shape(info: list[Field]) -> list[int]:
    fields = [info]
    for number in (VALUE_TYPE, TYPE_TENSOR, TENSOR_SHAPE, SHAPE_DIM):
        fields = [message for parent in fields for message in protobuf.messages(parent, number)]
    return [next((int(value) for number, _, value in dim if number == DIM_VALUE), 1) for dim in fields]
