"""Quantise layers with weights to 8-bit integers: QuantizeLinear, DequantizeLinear around them, as TensorRT expects."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from taijitu_export.onnx.passes.editing import FreeNames, add_constant, place
from taijitu_export.onnx.passes.float16 import FLOAT16_LEAST, FLOAT16_MAX
from taijitu_export.onnx.passes.reading import constant

LEVELS = 127  # symmetric: -127 to 127, zero is zero
LEAST_SCALE = float(np.finfo(np.float32).tiny)
"""The smallest normal float32. Smaller numbers become zero in many kernels, and a division by one is infinite."""

Scales = NDArray[np.float32]


class QuantisePass(ir.passes.InPlacePass):
    """Quantise the weights of layers and their inputs.

    Weights become int8 constants with a DequantizeLinear, symmetric, one scale per output channel. Inputs pass
    through QuantizeLinear and DequantizeLinear, symmetric, one scale per tensor and one pair however many layers read
    it. Biases and everything else stay float32: the runtime folds the pairs into integer kernels where it has them.
    Tensors keep their names.

    `scales`: for each tensor that a layer reads, |largest value kept| / 127. Rules. A node is quantised when all of
    these hold:

    1. It is a Conv, Gemm or MatMul whose second input is a float32 constant, of a MatMul with two dimensions: for a
       stack of matrices ONNX Runtime's integer kernel takes no scale for each column.
    2. `scales` has its first input.
    3. Its name is not in `excluded`.

    With `weights_only` inputs stay float32: the error that remains is the least that int8 costs a network.
    With `float16_scales` every scale is a number that float16 has, for a later Float16Pass; weights are rounded to
    integers by that scale.
    """

    def __init__(
        self,
        scales: Mapping[str, float],
        excluded: Collection[str] = (),
        *,
        weights_only: bool = False,
        float16_scales: bool = False,
    ) -> None:
        super().__init__()
        self._round = float16_scale if float16_scales else float32_scale
        self._scales = scales
        self._excluded = frozenset(excluded)
        self._weights_only = weights_only

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        graph = model.graph
        names = FreeNames(graph)
        chosen = [
            node
            for node in quantisable_nodes(model)  # rule 1
            if _input(node).name in self._scales and node.name not in self._excluded  # rules 2 and 3
        ]
        for value in [] if self._weights_only else dict.fromkeys(_input(node) for node in chosen):
            _quantise_activation(graph, names, value, self._round(self._scales[value.name or ""]), chosen)
        # Layers that share a weight may have its channels in different dimensions.
        readers: dict[tuple[ir.Value, int], list[ir.Node]] = {}
        for node in chosen:
            readers.setdefault((_weight(node), _channel_axis(node)), []).append(node)
        for (weight, axis), nodes in readers.items():
            _quantise_weight(graph, names, weight, axis, self._round, nodes)
        return ir.passes.PassResult(model, modified=bool(chosen))


def quantisable_nodes(model: ir.Model) -> list[ir.Node]:
    """Return the layers that QuantisePass could quantise, in the graph's order: its rule 1."""
    return [
        node
        for node in model.graph
        if node.op_type in ("Conv", "Gemm", "MatMul")
        and node.domain == ""
        and (weight := _weight(node).const_value) is not None
        and weight.dtype == ir.DataType.FLOAT
        and (node.op_type == "Conv" or len(weight.shape) == 2)
    ]


def weight_scales(weight: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    """Compute one scale per channel of `axis`, (C,): its largest magnitude / 127, and 1 for a channel of zeros.

    Weights below the smallest normal float32 are rounded to zero.
    """
    others = tuple(i for i in range(weight.ndim) if i != axis)
    largest = np.abs(weight).max(axis=others)
    return np.where(largest > 0, np.maximum(largest / LEVELS, LEAST_SCALE), 1).astype(np.float32)


def float32_scale(scale: float | NDArray[np.float32]) -> Scales:
    """Return the scales in float32."""
    return np.asarray(scale, np.float32)


def float16_scale(scale: float | NDArray[np.float32]) -> Scales:
    """Return the smallest float16 numbers not below the scales, as float32: none is 0, and nothing is clipped.

    65504 for larger values.
    """
    exact = np.asarray(scale, np.float32)
    rounded = np.minimum(exact, FLOAT16_MAX).astype(np.float16)
    up = np.where(rounded < np.minimum(exact, FLOAT16_MAX), np.nextafter(rounded, np.float16(np.inf)), rounded)
    return np.asarray(np.maximum(up, np.float16(FLOAT16_LEAST)), np.float32)


def _input(node: ir.Node) -> ir.Value:
    value = node.inputs[0]
    assert value is not None
    return value


def _weight(node: ir.Node) -> ir.Value:
    value = node.inputs[1]
    assert value is not None
    return value


def _channel_axis(node: ir.Node) -> int:
    """Return the dimension of the weight that counts the output channels."""
    return 0 if node.op_type == "Conv" or node.attributes.get_int("transB", 0) == 1 else 1


def _quantise_activation(
    graph: ir.Graph, names: FreeNames, value: ir.Value, scale: Scales, nodes: Collection[ir.Node]
) -> None:
    name = value.name
    constants = [add_constant(graph, f"{name}_scale", scale, names), _zero(graph, names, ())]
    quantise = ir.node("QuantizeLinear", [value, *constants], name=names(f"{name}_quantise"))
    dequantise = ir.node("DequantizeLinear", [quantise.outputs[0], *constants], name=names(f"{name}_dequantise"))
    for made, suffix, dtype in (
        (quantise.outputs[0], "quantised", ir.DataType.INT8),
        (dequantise.outputs[0], "dequantised", ir.DataType.FLOAT),
    ):
        made.name, made.dtype, made.shape = names(f"{name}_{suffix}"), dtype, value.shape
    for node in nodes:
        if node.inputs[0] is value:
            node.replace_input_with(0, dequantise.outputs[0])
    place(graph, value, [quantise, dequantise])


def _quantise_weight(
    graph: ir.Graph,
    names: FreeNames,
    weight: ir.Value,
    axis: int,
    rounding: Callable[[Any], Scales],
    nodes: Collection[ir.Node],
) -> None:
    assert weight.const_value is not None
    name, exact = weight.name, weight.const_value.numpy()
    scales = rounding(weight_scales(exact, axis))
    along = scales.reshape([-1 if i == axis else 1 for i in range(exact.ndim)])
    integers = np.clip(np.rint(exact / along), -LEVELS, LEVELS).astype(np.int8)
    inputs = [
        add_constant(graph, f"{name}_quantised", integers, names),
        add_constant(graph, f"{name}_scale", scales, names),
        _zero(graph, names, scales.shape),
    ]
    dequantise = ir.node("DequantizeLinear", inputs, {"axis": axis}, name=names(f"{name}_dequantise"))
    out = dequantise.outputs[0]
    out.name, out.dtype, out.shape = names(f"{name}_dequantised"), ir.DataType.FLOAT, weight.shape
    for node in nodes:
        node.replace_input_with(1, out)
    graph.insert_before(graph[0], dequantise)
    if not weight.uses() and name is not None:
        del graph.initializers[name]


def _zero(graph: ir.Graph, names: FreeNames, shape: tuple[int, ...]) -> ir.Value:
    """Return symmetric quantisation's zero point, one constant for all of the same shape."""
    name = "_".join(["zero_point", *map(str, shape)])
    known = graph.initializers.get(name)
    found = None if known is None or known.dtype != ir.DataType.INT8 else constant(known)
    if known is not None and found is not None and found.shape == shape and not found.any():
        return known
    return add_constant(graph, name, np.zeros(shape, np.int8), names)
