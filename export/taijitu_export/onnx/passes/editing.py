"""Apply a pass to a model, and the edits that passes share: free names, constants, nodes put in or taken out."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Sequence
from typing import Any

import onnx
import onnx.shape_inference
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes.common import NameFixPass

Belongs = Callable[[ir.Node], bool]


def applied(graph_pass: ir.passes.InPlacePass, model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy of the model with the pass applied."""
    return ir.to_proto(graph_pass(ir.from_proto(model)).model)


def with_types(model: onnx.ModelProto, *, checked: bool = False) -> onnx.ModelProto:
    """Return the model with the type and shape of each value: passes read them, and other exporters omit them.

    `checked`: of a model that onnx.checker has accepted. Only then are types known behind a GroupNormalization of opset
    21, and the error for a wrong type cannot come.
    """
    return onnx.shape_inference.infer_shapes(model, data_prop=True, check_type=checked)


def with_names(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with a name for each node that no other node has: layers are excluded and reported by name."""
    return applied(NameFixPass(), model)


def activations(graph: ir.Graph) -> list[ir.Value]:
    """Return the float32 tensors that are not constant: inputs of the graph, and outputs of its nodes."""
    flowing = [*graph.inputs, *(value for node in graph for value in node.outputs)]
    # A sequence of tensors has their dtype too.
    return [value for value in flowing if value.dtype == ir.DataType.FLOAT and isinstance(value.type, ir.TensorType)]


def float32_constants(nodes: Collection[ir.Node]) -> list[ir.Value]:
    """Return the float32 weights that these nodes read, each once."""
    read = dict.fromkeys(value for node in nodes for value in node.inputs if value is not None)
    return [value for value in read if value.is_initializer() and value.dtype == ir.DataType.FLOAT]


class FreeNames:
    """Names for what a pass adds: called with one, it returns that name, or with a number behind it if it is taken.

    Values and nodes of other exporters have any names, and ONNX Runtime refuses a second one of either. The graph is
    read once, when this is made; names that were returned are taken from then on.
    """

    def __init__(self, graph: ir.Graph) -> None:
        self._taken = {value.name for value in (*graph.inputs, *graph.initializers.values())}
        for node in graph.all_nodes():
            self._taken.update((node.name, *(value.name for value in node.outputs)))

    def __call__(self, name: str) -> str:
        numbered = (f"{name}_{number}" for number in itertools.count(2))
        found = next(each for each in itertools.chain([name], numbered) if each not in self._taken)
        self._taken.add(found)
        return found


def add_constant(graph: ir.Graph, name: str, array: NDArray[Any], names: FreeNames | None = None) -> ir.Value:
    """Add a constant to the graph, under the free name of `name`; `names` of a pass that adds many."""
    return _registered(graph, (names or FreeNames(graph))(name), array)


def replace_constant(
    graph: ir.Graph,
    value: ir.Value,
    array: NDArray[Any],
    suffix: str,
    users: Belongs,
    names: FreeNames | None = None,
) -> None:
    """Give `users` the constant `array` for `value`: under its name, or with the suffix where others still read it.

    `names` of a pass that replaces many.
    """
    uses = [use for use in value.uses() if users(use.node)]
    if len(uses) == len(value.uses()) and not value.is_graph_input():
        assert value.name is not None
        name = value.name
        del graph.initializers[name]
    else:
        name = (names or FreeNames(graph))(f"{value.name}_{suffix}")
    made = _registered(graph, name, array)
    for use in uses:
        use.node.replace_input_with(use.idx, made)


def _registered(graph: ir.Graph, name: str, array: NDArray[Any]) -> ir.Value:
    value = ir.val(name, const_value=ir.tensor(array, name=name))
    graph.register_initializer(value)
    return value


def take_out(graph: ir.Graph, node: ir.Node) -> None:
    """Remove a node from the graph: what reads its output, which is not the graph's, reads its first input instead."""
    x = node.inputs[0]
    assert x is not None
    ir.convenience.replace_all_uses_with(node.outputs[0], x)
    graph.remove(node, safe=True)


def place(graph: ir.Graph, value: ir.Value, chain: Sequence[ir.Node]) -> None:
    """Insert the nodes of `chain` into the graph right after the node that computes `value`."""
    producer = value.producer()
    if producer is None:
        graph.insert_before(graph[0], chain)
    else:
        graph.insert_after(producer, chain)
