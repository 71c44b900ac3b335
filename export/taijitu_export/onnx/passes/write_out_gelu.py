"""Write out Gelu, an operator of opset 20, so that a graph that torch exports today can have a lower one."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx_ir as ir

from taijitu_export.onnx.passes.editing import FreeNames, add_constant
from taijitu_export.onnx.passes.reading import is_operator


class WriteOutGeluPass(ir.passes.InPlacePass):
    """Turn Gelu(x) into the operators of its definition, (x * (1 + erf(x / sqrt(2)))) * 0.5.

    Rules. A node is rewritten when both of these hold:

    1. It is a Gelu that is not approximated by tanh.
    2. The type of x is known: the constants have it too.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        modified, names = False, FreeNames(model.graph)
        for node in model.graph:
            if not is_operator(node, "Gelu") or node.attributes.get_string("approximate", "none") != "none":  # rule 1
                continue
            x = node.inputs[0]
            if x is not None and x.dtype is not None:  # rule 2
                _write_out(model.graph, names, node, x, x.dtype.numpy())
                modified = True
        return ir.passes.PassResult(model, modified=modified)


def _write_out(graph: ir.Graph, names: FreeNames, node: ir.Node, x: ir.Value, dtype: np.dtype[Any]) -> None:
    made = node.outputs[0]
    numbers = {"root": math.sqrt(2), "one": 1.0, "half": 0.5}
    root, one, half = (
        add_constant(graph, f"{made.name}_{name}", np.array(number, dtype), names) for name, number in numbers.items()
    )
    chain: list[ir.Node] = []
    value = x
    for op_type, other in (("Div", root), ("Erf", None), ("Add", one), ("Mul", x), ("Mul", half)):
        name = names(f"{made.name}_gelu_{len(chain)}")
        step = ir.node(op_type, [value] if other is None else [value, other], name=name)
        value = step.outputs[0]
        value.name, value.type, value.shape = name, x.type, x.shape
        chain.append(step)
    graph.insert_before(node, chain)
    taken = made.name
    ir.convenience.replace_all_uses_with(made, value, replace_graph_outputs=True)
    graph.remove(node, safe=True)
    value.name = taken
