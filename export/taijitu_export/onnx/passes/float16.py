"""Convert the layers of a float32 graph to float16.

Why this pass exists. NVIDIA's AutoCast (nvidia-modelopt 0.47) pins onnx 1.21 and brings onnxruntime-gpu next to
onnxruntime, cupy for another CUDA, and torch; and it takes every operator outside ONNX's schemas for a plugin, even
`taijitu::Nish` with its function body. ONNX Runtime's converter (onnxruntime.transformers.float16) leaves the constants
of function bodies in float32, so that a graph with Nish no longer type-checks; it rounds the normalisation of the
pictures (a channel's mean, 125.307, becomes 125.3125); and it knows operators that stay in float32, not values that
overflow.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from taijitu_export.onnx.passes.editing import (
    Belongs,
    FreeNames,
    activations,
    float32_constants,
    place,
    replace_constant,
)
from taijitu_export.onnx.passes.reading import QUANTISERS, has_weights, with_inner_nodes

FLOAT16_MAX = 65504.0
FLOAT16_LEAST = 2.0**-24
"""The smallest float16 above 0."""

FLOAT16_SCALES = 19
"""The opset from which on a scale may be float16."""

VARIANCE_TOLERANCE = 1e-3
ALWAYS_FLOAT32 = frozenset({"LayerNormalization", "MeanVarianceNormalization"})


class Float16Pass(ir.passes.InPlacePass):
    """Make layers compute in float16.

    Their weights become float16, with a Cast wherever the precisions meet. The graph's inputs and outputs
    keep their types, and every tensor that a node computes keeps its name (except an output that has to be cast back).
    Function bodies that they call become generic in their type: CastLike after each constant.

    Rules. A node computes in float16 when all of these hold:

    1. Its float32 inputs and outputs may be float16 by ONNX's schema of the operator. For a function of the file:
       by the schemas of its body's operators. The types of all inputs are known, which that of an operator outside
       ONNX's domain is not.
    2. It has weights, or comes after a layer that has (`reading.WEIGHTED`). Nodes before it work on
       pixels of up to 255 and their mean, for which float16 is too coarse.
    3. Its type is that of its inputs, and not its own choice (Cast, ConstantOfShape, EyeLike with a dtype), and it
       contains no graph of its own.
    4. Its constants fit: none is beyond 65504, and no variance of a BatchNormalization loses more than 0.1 %.
    5. Its name is not in `excluded`.
    6. It is neither QuantizeLinear nor DequantizeLinear, which follow their neighbours from opset 19 on, if their scale
       is a float16 number: QuantizeLinear is float16 if its input is, DequantizeLinear if all its readers are. So no
       Cast separates a pair from its layer, which would cost TensorRT the integer kernel.
    7. It is not a LayerNormalization: that stays in float32, as under torch's autocast, since it sums squares; and ONNX
       Runtime 1.31 dies of some that are float16 (those of torchvision's ViT). Nor a MeanVarianceNormalization, whose
       definition in ONNX has a float32 constant.
    8. A single number that would round to 0, as an epsilon of 1e-12, becomes 2^-24: it is there to divide by no 0. In
       float32 it would not help, because the sum with it is rounded to 0 for the next node.
    """

    def __init__(self, excluded: Collection[str] = ()) -> None:
        super().__init__()
        self._excluded = frozenset(excluded)

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        graph, halves = model.graph, float16_nodes(model, self._excluded)
        names = FreeNames(graph)
        for constant in float32_constants(halves):
            replace_constant(graph, constant, float16(constant), "float16", halves.__contains__, names)
        for value in activations(graph):
            if value.producer() in halves:
                value.dtype = ir.DataType.FLOAT16
                _cast(graph, names, value, ir.DataType.FLOAT, lambda node: node not in halves)
            else:
                _cast(graph, names, value, ir.DataType.FLOAT16, halves.__contains__)
        called = {node.op_identifier() for node in halves}
        for identifier, function in model.functions.items():
            if identifier in called:
                _make_generic(function)
        return ir.passes.PassResult(model, modified=bool(halves))


def float16_nodes(model: ir.Model, excluded: Collection[str] = ()) -> Collection[ir.Node]:
    """Return the nodes that compute in float16, by Float16Pass's rules, in the graph's order."""
    layers = {
        node
        for node in float32_layers(model)  # rule 2
        if node.name not in excluded  # rule 5
        and node.op_type not in ALWAYS_FLOAT32  # rule 7
        and _may_be_float16(node, model)  # rules 1 and 3
        and all(_fits(constant, node) for constant in float32_constants([node]))  # rule 4
    }
    # The keys of a dict, for an order that is the same in every run: the constants of the file follow it.
    return dict.fromkeys(
        node
        for node in model.graph
        if node in layers or _is_float16_quantiser(node, layers, model)  # rule 6
    )


def float32_layers(model: ir.Model) -> list[ir.Node]:
    """Return the nodes that compute in float32 from the first weights on, without Casts and quantisers."""
    after_weights: set[ir.Node] = set()
    for node in model.graph:
        read = [value for inner in with_inner_nodes(node) for value in inner.inputs]
        if has_weights(node) or any(value and value.producer() in after_weights for value in read):
            after_weights.add(node)
    return [
        node
        for node in model.graph
        if node in after_weights
        and node.op_type not in ("Cast", *QUANTISERS)
        and any(value.dtype == ir.DataType.FLOAT for value in node.outputs)
    ]


def float16(constant: ir.Value) -> NDArray[np.float16]:
    """Return a float32 constant, rounded; a single number that would become 0 is the least one of its sign (rule 8)."""
    assert constant.const_value is not None
    exact = constant.const_value.numpy()
    with np.errstate(over="ignore"):  # a value that does not fit is found by rule 4
        rounded: NDArray[np.float16] = exact.astype(np.float16)
    if exact.size == 1 and exact.any() and not rounded.any():
        rounded = (np.sign(exact) * FLOAT16_LEAST).astype(np.float16)
    return rounded


def _may_be_float16(node: ir.Node, model: ir.Model) -> bool:
    if any(
        attribute.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for attribute in node.attributes.values()
    ):
        return False
    if any(value is not None and value.dtype is None for value in node.inputs):
        return False
    function = model.functions.get(node.op_identifier())
    if function is not None:
        body = [inner for inner in function if inner.op_type != "Constant"]
        return all(_schema_allows(inner, model, range(len(inner.inputs)), range(len(inner.outputs))) for inner in body)
    inputs = [i for i, value in enumerate(node.inputs) if value is not None and value.dtype == ir.DataType.FLOAT]
    outputs = [i for i, value in enumerate(node.outputs) if value.dtype == ir.DataType.FLOAT]
    if not inputs or "dtype" in node.attributes:
        return False
    return bool(outputs) and _schema_allows(node, model, inputs, outputs)


def _is_float16_quantiser(node: ir.Node, layers: Collection[ir.Node], model: ir.Model) -> bool:
    if node.op_type not in QUANTISERS or node.domain != "" or model.opset_imports.get("", 17) < FLOAT16_SCALES:
        return False
    if node.op_type == "QuantizeLinear":
        source = node.inputs[0]
        follows = source is not None and source.producer() in layers
    else:
        uses = node.outputs[0].uses()
        follows = bool(uses) and all(use.node in layers for use in uses) and not node.outputs[0].is_graph_output()
    return follows and all(_fits(constant, node) for constant in float32_constants([node]))


def _schema_allows(node: ir.Node, model: ir.Model, inputs: Collection[int], outputs: Collection[int]) -> bool:
    try:
        schema = onnx.defs.get_schema(node.op_type, model.opset_imports.get("", 17), node.domain)
    except onnx.defs.SchemaError:
        return False
    # A variadic parameter is the last one and applies to all that follow.
    used = [schema.inputs[min(i, len(schema.inputs) - 1)] for i in inputs]
    used += [schema.outputs[min(i, len(schema.outputs) - 1)] for i in outputs]
    return all("tensor(float16)" in parameter.types for parameter in used)


def _fits(constant: ir.Value, node: ir.Node) -> bool:
    assert constant.const_value is not None
    exact, rounded = constant.const_value.numpy(), float16(constant).astype(np.float32)
    if node.op_type in QUANTISERS:
        return bool((rounded == exact).all())
    if node.op_type == "BatchNormalization" and constant is node.inputs[4]:
        return bool((np.abs(rounded - exact) <= VARIANCE_TOLERANCE * exact).all())
    return bool(np.isfinite(rounded).all())


def _cast(graph: ir.Graph, names: FreeNames, value: ir.Value, to: ir.DataType, users: Belongs) -> None:
    """Insert one Cast of `value` for all `users`; the graph's output keeps its name and its float32."""
    uses = [use for use in value.uses() if users(use.node)]
    back = to == ir.DataType.FLOAT and value.is_graph_output()
    if not uses and not back:
        return
    suffix = "float32" if to == ir.DataType.FLOAT else "float16"
    cast = ir.node("Cast", [value], {"to": to}, name=names(f"{value.name}_to_{suffix}"))
    made = cast.outputs[0]
    made.name, made.dtype, made.shape = names(f"{value.name}_{suffix}"), to, value.shape
    if back:
        made.name, value.name = value.name, names(f"{value.name}_float16")
        graph.outputs[graph.outputs.index(value)] = made
    for use in uses:
        use.node.replace_input_with(use.idx, made)
    place(graph, value, [cast])


def _make_generic(function: ir.Function) -> None:
    like = function.inputs[0]
    for node in list(function):
        if node.op_type == "Constant":
            value = node.outputs[0]
            cast = ir.node("CastLike", [value, like])
            cast.outputs[0].name = f"{value.name}_like"
            ir.convenience.replace_all_uses_with(value, cast.outputs[0])
            cast.replace_input_with(0, value)
            function.insert_after(node, cast)
