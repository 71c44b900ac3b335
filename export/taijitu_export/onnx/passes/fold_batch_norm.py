"""Fold a batch norm into the weights of the linear layer before it, or of those after it."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from taijitu_export.onnx.passes.editing import add_constant, replace_constant, take_out
from taijitu_export.onnx.passes.reading import constant, convolution_weights, is_operator, is_padded, is_read_inside


class FuseBatchNormPass(ir.passes.InPlacePass):
    """Fold a BatchNormalization, y = scale * x + shift, into the layer that computes x.

    Some releases of torch's exporter do this themselves, others leave some.

    Rules. A batch norm is folded when all of these hold:

    1. Its scale, shift, mean and variance are constant, it is not in training mode, and y is not a graph output.
    2. It alone reads x, which is not an output of the graph, and which is computed by
       a. a Conv with constant weights, of any groups and padding, or
       b. a Gemm with constant weights and bias, alpha and beta being 1 and A not transposed.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        graph, modified = model.graph, False
        for node in list(graph):
            affine = _affine(node)
            maker = None if affine is None else _maker(node)
            if affine is None or maker is None:  # rules 1 and 2
                continue
            _fold_into_maker(graph, maker, *affine)
            take_out(graph, node)
            modified = True
        return ir.passes.PassResult(model, modified=modified)


class FoldBatchNormPass(ir.passes.InPlacePass):
    """Fold a BatchNormalization, y = scale * x + shift, into the layers that read y.

    Rules. A batch norm is folded when all of these hold:

    1. Its scale, shift, mean and variance are constant, it is not in training mode, and y is not a graph output.
    2. Every node that reads y is in y's graph and one of
       a. a Conv of one group with constant weights and no padding: a padded one would see `shift` as 0 at the border,
       b. a GlobalAveragePool, a mean of each channel, where rule 2 holds for what it makes,
       c. a Flatten or Reshape from (N, C, 1, 1) to (N, C), where rule 2 holds for what it makes,
       d. a Gemm with constant weights and bias, alpha and beta being 1 and A not transposed.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        graph, modified = model.graph, False
        for node in list(graph):
            affine = _affine(node)
            readers = [] if affine is None else _readers(node.outputs[0])
            if affine is None or not readers:  # rules 1 and 2
                continue
            for reader in readers:
                _fold_into_reader(graph, reader, *affine)
            take_out(graph, node)
            modified = True
        return ir.passes.PassResult(model, modified=modified)


def _affine(node: ir.Node) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Return scale and shift, (C,), of a batch norm by rule 1; None for other nodes."""
    if not is_operator(node, "BatchNormalization") or node.outputs[0].is_graph_output():
        return None
    constants = [constant(value) for value in node.inputs[1:5]]
    if any(array is None for array in constants) or node.attributes.get_int("training_mode", 0) == 1:
        return None
    gamma, beta, mean, variance = (array.astype(np.float64) for array in constants if array is not None)
    scale = gamma / np.sqrt(variance + node.attributes.get_float("epsilon", 1e-5))
    return scale, beta - scale * mean


def _maker(node: ir.Node) -> ir.Node | None:
    """Return the layer that computes a batch norm's x, by rule 2."""
    x = node.inputs[0]
    maker = None if x is None else x.producer()
    if x is None or maker is None or len(x.uses()) > 1 or x.is_graph_output():
        return None
    return maker if convolution_weights(maker) is not None or _is_plain_gemm(maker) else None


def _readers(value: ir.Value) -> list[ir.Node]:
    """Return the layers to fold into; none where rule 2 forbids it."""
    found: list[ir.Node] = []
    if value.is_graph_output() or is_read_inside(value):
        return []
    for node, index in value.uses():
        if index == 0 and (_is_plain_convolution(node) or _is_plain_gemm(node)):  # a and d
            found.append(node)
            continue
        passes_on = is_operator(node, "GlobalAveragePool") or _is_flattening(node)  # b and c
        behind = _readers(node.outputs[0]) if passes_on else []
        if not behind:
            return []
        found += behind
    return found


def _is_plain_convolution(node: ir.Node) -> bool:
    one_group = node.attributes.get_int("group", 1) == 1
    return convolution_weights(node) is not None and one_group and not is_padded(node)


def _is_plain_gemm(node: ir.Node) -> bool:
    if not is_operator(node, "Gemm"):
        return False
    plain = all(node.attributes.get_float(name, 1.0) == 1.0 for name in ("alpha", "beta"))
    constants = [constant(value) for value in node.inputs[1:]]
    given = len(constants) == 2 and all(array is not None for array in constants)
    return plain and given and not node.attributes.get_int("transA", 0)


def _is_flattening(node: ir.Node) -> bool:
    x, y = node.inputs[0], node.outputs[0]
    if not (is_operator(node, "Flatten") or is_operator(node, "Reshape")) or x is None or x.shape is None:
        return False
    pooled = x.shape.rank() == 4 and list(x.shape[2:]) == [1, 1]
    return pooled and y.shape is not None and list(y.shape) == list(x.shape[:2])


def _axes(node: ir.Node) -> tuple[int, int]:
    """Return the axes of a layer's weights for its outputs and its inputs."""
    return (1, 0) if node.op_type == "Gemm" and not node.attributes.get_int("transB", 0) else (0, 1)


def _fold_into_maker(graph: ir.Graph, node: ir.Node, scale: NDArray[np.float64], shift: NDArray[np.float64]) -> None:
    weights, bias = _weights(node)
    outputs, _ = _axes(node)
    along = [-1 if axis == outputs else 1 for axis in range(weights.ndim)]
    _set_weights(graph, node, weights * scale.reshape(along), bias * scale + shift)


def _fold_into_reader(graph: ir.Graph, node: ir.Node, scale: NDArray[np.float64], shift: NDArray[np.float64]) -> None:
    weights, bias = _weights(node)
    outputs, inputs = _axes(node)
    along = [-1 if axis == inputs else 1 for axis in range(weights.ndim)]
    added = (weights * shift.reshape(along)).sum(axis=tuple(axis for axis in range(weights.ndim) if axis != outputs))
    _set_weights(graph, node, weights * scale.reshape(along), bias + added)


def _weights(node: ir.Node) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return a layer's weights and bias; zero for one that has none."""
    weights = constant(node.inputs[1])
    assert weights is not None
    bias = constant(node.inputs[2]) if len(node.inputs) > 2 else None
    return weights, np.zeros((), weights.dtype) if bias is None else bias


def _set_weights(graph: ir.Graph, node: ir.Node, weights: NDArray[Any], bias: NDArray[Any]) -> None:
    former, former_bias = node.inputs[1], node.inputs[2] if len(node.inputs) > 2 else None
    assert former is not None
    assert former.dtype is not None
    suffix, alone, dtype = f"folded_{node.name}", {node}.__contains__, former.dtype.numpy()
    replace_constant(graph, former, weights.astype(dtype), suffix, alone)
    if former_bias is not None:
        replace_constant(graph, former_bias, bias.astype(dtype), suffix, alone)
        return
    name = f"{(former.name or '').removesuffix('.weight')}.bias"
    name = f"{node.name}.bias" if name in graph.initializers else name
    node.resize_inputs(3)
    node.replace_input_with(2, add_constant(graph, name, bias.astype(dtype)))
