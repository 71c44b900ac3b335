"""The part of a graph that computes class-activation maps, to be appended to an ONNX file.

Protobuf merges a message that occurs twice: the bytes of a ModelProto whose graph has further nodes and an output, put
behind those of the file, are the file with these nodes and this output. No weight is read, copied or changed.
"""

from __future__ import annotations

import struct

from taijitu_runtime.backends import protobuf
from taijitu_runtime.backends.protobuf import BYTES, VARINT, Field
from taijitu_runtime.explain.head import Head

MAPS = "taijitu_class_maps"
"""The name of the output, float32 (h, w, N, K), and what the names of all new tensors begin with."""

# Field numbers of onnx.proto, and of its enums.
MODEL_GRAPH = 7
GRAPH_NODE, GRAPH_OUTPUT = 1, 12
NODE_INPUT, NODE_OUTPUT, NODE_OP_TYPE, NODE_ATTRIBUTE = 1, 2, 4, 5
ATTRIBUTE_NAME, ATTRIBUTE_INT, ATTRIBUTE_TENSOR, ATTRIBUTE_INTS, ATTRIBUTE_TYPE = 1, 3, 5, 8, 20
INT, TENSOR, INTS = 2, 4, 7
TENSOR_DATA_TYPE, TENSOR_RAW_DATA = 2, 9
VALUE_NAME, VALUE_TYPE, TYPE_TENSOR, TENSOR_ELEMENT_TYPE = 1, 2, 1, 1
FLOAT = 1

PLACES_FIRST = {"NCHW": (2, 3, 0, 1), "NHWC": (1, 2, 0, 3)}
TINY = 1e-30  # added to a divisor that may be 0, and lost in any other


def maps_graph(head: Head) -> bytes:
    """Return what, behind the bytes of the file that `head` was found in, gives it the output MAPS.

    Each place of the last feature maps goes through the linear layers alone. An activation between two of them keeps
    the factor that it has for the picture as a whole, activation(z) / z: so the mean of a map over all places is the
    logit, up to rounding. In float32, whatever the file's precision.
    """
    graph = _Graph()
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
    graph.fields.append(_node("Identity", [value], MAPS, []))
    tensor = protobuf.message(TYPE_TENSOR, [Field(TENSOR_ELEMENT_TYPE, VARINT, FLOAT)])
    output = [protobuf.text(VALUE_NAME, MAPS), protobuf.message(VALUE_TYPE, [tensor])]
    graph.fields.append(protobuf.message(GRAPH_OUTPUT, output))
    return protobuf.write([protobuf.message(MODEL_GRAPH, graph.fields)])


class _Graph:
    """The new fields of a GraphProto; each new tensor has a name of its own."""

    def __init__(self) -> None:
        self.fields: list[Field] = []

    def add(self, op_type: str, *inputs: str, perm: tuple[int, ...] = ()) -> str:
        """Add a node and return the name of its output."""
        permutation = [Field(ATTRIBUTE_INTS, VARINT, axis) for axis in perm]
        return self._add(op_type, inputs, [_attribute("perm", INTS, permutation)] if perm else [])

    def float32(self, value: str) -> str:
        """Add a cast to float32."""
        return self._add("Cast", [value], [_attribute("to", INT, [Field(ATTRIBUTE_INT, VARINT, FLOAT)])])

    def constant(self, number: float) -> str:
        """Add a float32 scalar."""
        content = [Field(TENSOR_DATA_TYPE, VARINT, FLOAT), Field(TENSOR_RAW_DATA, BYTES, struct.pack("<f", number))]
        return self._add("Constant", [], [_attribute("value", TENSOR, [protobuf.message(ATTRIBUTE_TENSOR, content)])])

    def _add(self, op_type: str, inputs: list[str] | tuple[str, ...], attributes: list[Field]) -> str:
        name = f"{MAPS}/{len(self.fields)}"
        self.fields.append(_node(op_type, inputs, name, attributes))
        return name


def _node(op_type: str, inputs: list[str] | tuple[str, ...], output: str, attributes: list[Field]) -> Field:
    names = [*(protobuf.text(NODE_INPUT, name) for name in inputs), protobuf.text(NODE_OUTPUT, output)]
    return protobuf.message(GRAPH_NODE, [*names, protobuf.text(NODE_OP_TYPE, op_type), *attributes])


def _attribute(name: str, kind: int, value: list[Field]) -> Field:
    fields = [protobuf.text(ATTRIBUTE_NAME, name), *value, Field(ATTRIBUTE_TYPE, VARINT, kind)]
    return protobuf.message(NODE_ATTRIBUTE, fields)
