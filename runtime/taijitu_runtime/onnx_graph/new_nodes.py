"""Write nodes that are added to the graph of an ONNX file, for devices without onnx.

Protobuf merges a message that occurs twice: the bytes of a ModelProto whose graph has further nodes and an output, put
behind those of a file, are the file with these nodes and this output.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from taijitu_runtime.onnx_graph import protobuf
from taijitu_runtime.onnx_graph.onnx_fields import (
    ATTRIBUTE_INT,
    ATTRIBUTE_INTS,
    ATTRIBUTE_NAME,
    ATTRIBUTE_TENSOR,
    ATTRIBUTE_TYPE,
    DIM_NAME,
    DIM_VALUE,
    FLOAT,
    GRAPH_NODE,
    GRAPH_OUTPUT,
    INT,
    INTS,
    NODE_ATTRIBUTE,
    NODE_INPUT,
    NODE_OP_TYPE,
    NODE_OUTPUT,
    SHAPE_DIM,
    TENSOR,
    TENSOR_DATA_TYPE,
    TENSOR_ELEMENT_TYPE,
    TENSOR_RAW_DATA,
    TENSOR_SHAPE,
    TYPE_TENSOR,
    VALUE_NAME,
    VALUE_TYPE,
)
from taijitu_runtime.onnx_graph.protobuf import BYTES, VARINT, Field


class NewNodes:
    """Nodes and an output, as fields of a GraphProto; what they compute has names that begin with `output`."""

    def __init__(self, output: str) -> None:
        self._output = output
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

    def finish(self, value: str, shape: Sequence[int | str] = ()) -> list[Field]:
        """Make `value` the output, float32; return all fields. `shape`: its sides or their names, where known."""
        self.fields.append(_node("Identity", [value], self._output, []))
        sides = [
            protobuf.message(
                SHAPE_DIM,
                [protobuf.text(DIM_NAME, side) if isinstance(side, str) else Field(DIM_VALUE, VARINT, side)],
            )
            for side in shape
        ]
        tensor = [Field(TENSOR_ELEMENT_TYPE, VARINT, FLOAT)]
        tensor += [protobuf.message(TENSOR_SHAPE, sides)] if sides else []
        kind = protobuf.message(VALUE_TYPE, [protobuf.message(TYPE_TENSOR, tensor)])
        self.fields.append(protobuf.message(GRAPH_OUTPUT, [protobuf.text(VALUE_NAME, self._output), kind]))
        return self.fields

    def _add(self, op_type: str, inputs: Sequence[str], attributes: list[Field]) -> str:
        name = f"{self._output}/{len(self.fields)}"
        self.fields.append(_node(op_type, inputs, name, attributes))
        return name


def _node(op_type: str, inputs: Sequence[str], output: str, attributes: list[Field]) -> Field:
    names = [*(protobuf.text(NODE_INPUT, name) for name in inputs), protobuf.text(NODE_OUTPUT, output)]
    return protobuf.message(GRAPH_NODE, [*names, protobuf.text(NODE_OP_TYPE, op_type), *attributes])


def _attribute(name: str, kind: int, value: list[Field]) -> Field:
    fields = [protobuf.text(ATTRIBUTE_NAME, name), *value, Field(ATTRIBUTE_TYPE, VARINT, kind)]
    return protobuf.message(NODE_ATTRIBUTE, fields)
