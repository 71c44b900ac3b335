"""Fold a batch norm before linear layers into their weights, where no padding is between them."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from taijitu_export.onnx.passes.editing import add_constant, replace_constant
from taijitu_export.onnx.passes.reading import constant, convolution_weights, is_operator, is_padded


class FoldBatchNormPass(ir.passes.InPlacePass):
    """Fold y = scale * x + shift, the arithmetic of a BatchNormalization, into the layers that read y.

    Torch's exporter already folds a batch norm right after a convolution into that convolution.

    Rules. A batch norm is folded when all of these hold:

    1. Its scale, shift, mean and variance are constant, and it is not in training mode.
    2. Its result is not an output of the graph, and every node that reads it is one of
       a. a Conv of one group with constant weights and no padding: a padded one would see `shift` as 0 at the border,
       b. a GlobalAveragePool, a mean of each channel, where rule 2 holds for what it makes,
       c. a Flatten or Reshape from (N, C, 1, 1) to (N, C), where rule 2 holds for what it makes,
       d. a Gemm with constant weights and bias, alpha and beta being 1 and A not transposed.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        graph, modified = model.graph, False
        for node in list(graph):
            if not is_operator(node, "BatchNormalization"):
                continue
            affine, readers = _affine(node), _readers(node.outputs[0])
            if affine is None or not readers:  # rules 1 and 2
                continue
            for reader in readers:
                _fold(graph, reader, *affine)
            x = node.inputs[0]
            assert x is not None
            ir.convenience.replace_all_uses_with(node.outputs[0], x)
            graph.remove(node, safe=True)
            modified = True
        return ir.passes.PassResult(model, modified=modified)


def _affine(node: ir.Node) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Return scale and shift, (C,), by rule 1."""
    constants = [constant(value) for value in node.inputs[1:5]]
    if any(array is None for array in constants) or node.attributes.get_int("training_mode", 0) == 1:
        return None
    gamma, beta, mean, variance = (array.astype(np.float64) for array in constants if array is not None)
    scale = gamma / np.sqrt(variance + node.attributes.get_float("epsilon", 1e-5))
    return scale, beta - scale * mean


def _readers(value: ir.Value) -> list[ir.Node]:
    """Return the layers to fold into; none where rule 2 forbids it."""
    found: list[ir.Node] = []
    if value.is_graph_output():
        return []
    for node, index in value.uses():
        if index == 0 and _is_linear(node):  # a and d
            found.append(node)
            continue
        passes_on = is_operator(node, "GlobalAveragePool") or _is_flattening(node)  # b and c
        behind = _readers(node.outputs[0]) if passes_on else []
        if not behind:
            return []
        found += behind
    return found


def _is_linear(node: ir.Node) -> bool:
    if is_operator(node, "Gemm"):
        plain = all(node.attributes.get_float(name, 1.0) == 1.0 for name in ("alpha", "beta"))
        constants = [constant(value) for value in node.inputs[1:]]
        given = len(constants) == 2 and all(array is not None for array in constants)
        return plain and given and not node.attributes.get_int("transA", 0)
    one_group = node.attributes.get_int("group", 1) == 1
    return convolution_weights(node) is not None and one_group and not is_padded(node)


def _is_flattening(node: ir.Node) -> bool:
    x, y = node.inputs[0], node.outputs[0]
    if not (is_operator(node, "Flatten") or is_operator(node, "Reshape")) or x is None or x.shape is None:
        return False
    pooled = x.shape.rank() == 4 and list(x.shape[2:]) == [1, 1]
    return pooled and y.shape is not None and list(y.shape) == list(x.shape[:2])


def _fold(graph: ir.Graph, node: ir.Node, scale: NDArray[np.float64], shift: NDArray[np.float64]) -> None:
    weights, old = node.inputs[1], constant(node.inputs[1])
    assert weights is not None
    assert old is not None
    outputs, inputs = (1, 0) if node.op_type == "Gemm" and not node.attributes.get_int("transB", 0) else (0, 1)
    along = [-1 if axis == inputs else 1 for axis in range(old.ndim)]
    bias = (old * shift.reshape(along)).sum(axis=tuple(axis for axis in range(old.ndim) if axis != outputs))
    suffix, alone = f"folded_{node.name}", {node}.__contains__
    replace_constant(graph, weights, (old * scale.reshape(along)).astype(old.dtype), suffix, alone)
    former = node.inputs[2] if len(node.inputs) > 2 else None
    added = constant(former)
    if former is not None and added is not None:
        replace_constant(graph, former, (added + bias).astype(old.dtype), suffix, alone)
        return
    name = f"{(weights.name or '').removesuffix('.weight')}.bias"
    name = f"{node.name}.bias" if name in graph.initializers else name
    node.resize_inputs(3)
    node.replace_input_with(2, add_constant(graph, name, bias.astype(old.dtype)))
