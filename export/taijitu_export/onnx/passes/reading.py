"""Questions about nodes and values that several passes ask."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir
from numpy.typing import NDArray

WEIGHTED = frozenset({"Conv", "ConvTranspose", "Einsum", "GRU", "Gemm", "LSTM", "MatMul", "RNN"})
"""Operators that multiply by weights: the ones that TensorRT and people call layers."""

QUANTISERS = frozenset({"QuantizeLinear", "DequantizeLinear"})


def is_operator(node: ir.Node | None, op_type: str) -> bool:
    """Return whether there is a node and it is this operator of ONNX's own domain."""
    return node is not None and node.domain == "" and node.op_type == op_type


def constant(value: ir.Value | None) -> NDArray[Any] | None:
    """Return the array of a value that is the same in every run; None for others."""
    tensor = ir.convenience.get_const_tensor(value) if value is not None else None
    return None if tensor is None else tensor.numpy()


def with_inner_nodes(node: ir.Node) -> list[ir.Node]:
    """Return a node, and those of the graphs in it, of branches or a loop, at any depth."""
    attributes = node.attributes.values()
    graphs = [each.as_graph() for each in attributes if each.type == ir.AttributeType.GRAPH]
    return [node, *(inner for graph in graphs for inner in graph.all_nodes())]


def has_weights(node: ir.Node) -> bool:
    """Return whether a node, or one in its branches or its loop, multiplies by weights."""
    return any(inner.op_type in WEIGHTED for inner in with_inner_nodes(node))


def is_read_inside(value: ir.Value) -> bool:
    """Return whether a node of an inner graph, of a branch or a loop, reads a value that a node computes.

    Passes over the nodes of the graph alone do not come to such a reader, nor to the constants of its own graph.
    """
    maker = value.producer()
    return maker is not None and any(use.node.graph is not maker.graph for use in value.uses())


def integers(value: ir.Value | None) -> list[int]:
    """Return the elements of a constant, of any shape; none for others."""
    array = constant(value)
    return [] if array is None else [int(number) for number in array.reshape(-1)]


def channels(value: ir.Value | None) -> int | None:
    """Return C of a value of shape (N, C, H, W), where it is known."""
    shape = value.shape if value is not None else None
    return shape[1] if shape is not None and shape.rank() == 4 and isinstance(shape[1], int) else None


def convolution_weights(node: ir.Node) -> NDArray[Any] | None:
    """Return (outputs, inputs / groups, height, width) of a Conv over two dimensions with only constants.

    None for others.
    """
    if not is_operator(node, "Conv") or any(constant(value) is None for value in node.inputs[1:]):
        return None
    weights = constant(node.inputs[1])
    return weights if weights is not None and weights.ndim == 4 else None


def is_padded(node: ir.Node) -> bool:
    """Return whether a Conv may see zeros beyond the border."""
    return any(node.attributes.get_ints("pads", ())) or node.attributes.get_string("auto_pad", "NOTSET") != "NOTSET"


def is_channel_slice(node: ir.Node) -> bool:
    """Return whether a node is a Slice of channels only, with constant ends and step 1."""
    if not is_operator(node, "Slice") or len(node.inputs) < 4:
        return False
    starts, ends, axes = (integers(value) for value in node.inputs[1:4])
    one_step = len(node.inputs) == 4 or integers(node.inputs[4]) == [1]
    along_channels = axes == [1] or (axes == [-3] and channels(node.inputs[0]) is not None)
    return len(starts) == len(ends) == 1 and along_channels and one_step
