"""Count the nodes `taijitu::Nish` of an ONNX file, replace them by a stand-in, and restore them after an optimiser."""

from __future__ import annotations

from collections.abc import Callable

from taijitu_runtime.onnx_graph import protobuf
from taijitu_runtime.onnx_graph.external_data import has_external_data
from taijitu_runtime.onnx_graph.onnx_fields import (
    ATTRIBUTE_NAME,
    ATTRIBUTE_STRING,
    GRAPH_NODE,
    MODEL_GRAPH,
    NODE_ATTRIBUTE,
    NODE_DOMAIN,
    NODE_INPUT,
    NODE_OP_TYPE,
    NODE_OUTPUT,
)
from taijitu_runtime.onnx_graph.protobuf import BYTES, Field

NISH = ("taijitu", "Nish")
# Elementwise, 0 at 0 (the layout pads channels with zeros), and known to the layout pass of every ONNX Runtime, which
# leaves it a node or makes it an attribute of the convolution before it. Few networks with Nish have it themselves.
STAND_IN = ("", "Tanh")
# The stand-in as it is in a file: in field 4, both as the type of a node and as the value of an attribute.
STAND_IN_BYTES = protobuf.write([protobuf.text(NODE_OP_TYPE, STAND_IN[1])])

Rewrite = Callable[[list[Field]], list[list[Field]]]


def count_nish(model: bytes) -> int:
    """Count the nodes `taijitu::Nish` of a serialised ModelProto, without subgraphs. ValueError for other bytes."""
    found = 0

    def count(node: list[Field]) -> list[list[Field]]:
        nonlocal found
        found += _operator(node) == NISH
        return [node]

    _rewrite_nodes(model, count)
    return found


def with_stand_in(model: bytes) -> bytes:
    """Replace Nish by STAND_IN. Raises ValueError where the model has STAND_IN itself, or weights in other files."""
    if STAND_IN_BYTES in model:
        raise ValueError(f"it has {STAND_IN[1]} of its own")
    if has_external_data(model):
        raise ValueError("it has weights in other files")
    return _rewrite_nodes(model, lambda node: [_renamed(node, STAND_IN) if _operator(node) == NISH else node])


def with_nish(model: bytes) -> tuple[bytes, int]:
    """Replace STAND_IN by nodes of Nish, also where it became an activation; return the model and their number."""
    restored = 0

    def restore(node: list[Field]) -> list[list[Field]]:
        nonlocal restored
        if _operator(node) == STAND_IN:
            restored += 1
            return [_renamed(node, NISH)]
        plain = [field for field in node if not _is_fused_stand_in(field)]
        if len(plain) == len(node):
            return [node]
        restored += 1
        (output,) = protobuf.strings(node, NODE_OUTPUT)
        before = f"{output}/before_nish"
        plain = [protobuf.text(NODE_OUTPUT, before) if field.number == NODE_OUTPUT else field for field in plain]
        nish = [protobuf.text(NODE_INPUT, before), protobuf.text(NODE_OUTPUT, output)]
        return [plain, _renamed(nish, NISH)]

    return _rewrite_nodes(model, restore), restored


def _rewrite_nodes(model: bytes, rewrite: Rewrite) -> bytes:
    """Replace each node of the main graph by the result of `rewrite` for its fields."""
    fields = []
    for field in protobuf.read(model):
        if field.number == MODEL_GRAPH:
            graph = []
            for item in protobuf.read(_bytes(field)):
                nodes = rewrite(protobuf.read(_bytes(item))) if item.number == GRAPH_NODE else None
                graph += [item] if nodes is None else [Field(GRAPH_NODE, BYTES, protobuf.write(node)) for node in nodes]
            field = Field(MODEL_GRAPH, BYTES, protobuf.write(graph))
        fields.append(field)
    return protobuf.write(fields)


def _operator(node: list[Field]) -> tuple[str, str]:
    return "".join(protobuf.strings(node, NODE_DOMAIN)), "".join(protobuf.strings(node, NODE_OP_TYPE))


def _renamed(node: list[Field], operator: tuple[str, str]) -> list[Field]:
    rest = [field for field in node if field.number not in (NODE_DOMAIN, NODE_OP_TYPE)]
    domain, op_type = operator
    return [*rest, protobuf.text(NODE_OP_TYPE, op_type), protobuf.text(NODE_DOMAIN, domain)]


def _is_fused_stand_in(field: Field) -> bool:
    if field.number != NODE_ATTRIBUTE:
        return False
    attribute = protobuf.read(_bytes(field))
    return (protobuf.strings(attribute, ATTRIBUTE_NAME), protobuf.strings(attribute, ATTRIBUTE_STRING)) == (
        ["activation"],
        [STAND_IN[1]],
    )


def _bytes(field: Field) -> bytes | memoryview:
    if isinstance(field.value, int):
        raise ValueError("no ONNX model")
    return field.value
