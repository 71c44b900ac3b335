"""Raise opset 17 or 18 to 19, the first in which QuantizeLinear and DequantizeLinear know float16."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir

from taijitu_export.onnx.passes.editing import add_constant
from taijitu_export.onnx.passes.reading import is_operator

TARGET = 19
IR_VERSION = 9

# Operators whose newer schemas only add types, or optional attributes and inputs.
WIDENED = frozenset(
    {
        "AveragePool",
        "Cast",
        "CastLike",
        "Constant",
        "DequantizeLinear",
        "Equal",
        "Identity",
        "LpPool",
        "OptionalGetElement",
        "OptionalHasElement",
        "Pad",
        "QuantizeLinear",
        "Reshape",
        "Resize",
        "ScatterElements",
        "ScatterND",
        "Shape",
        "Size",
    }
)

# Operators whose axes are an attribute until opset 17, and an input from 18 on.
REDUCTIONS = frozenset(
    {
        "ReduceL1",
        "ReduceL2",
        "ReduceLogSum",
        "ReduceLogSumExp",
        "ReduceMax",
        "ReduceMean",
        "ReduceMin",
        "ReduceProd",
        "ReduceSumSquare",
    }
)


class RaiseToOpset19Pass(ir.passes.InPlacePass):
    """Declare opset 19 and IR version 9 where the graph and its functions mean the same there.

    Rules. The model is raised when every node of the default domain satisfies one of these, and left alone otherwise:

    1. Its operator has the same schema in opset 19, or one that was only widened (WIDENED).
    2. It is one of REDUCTIONS: axes that are an attribute become an input. In a function, which has no constants of its
       own, it has none.
    3. It is a Split; one that does not list its sizes, and so makes equal parts, says their number, as opset 18 asks.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        graphs = _graphs(model)
        opsets = [graph.opset_imports.get("", TARGET) for graph in graphs]
        if all(opset >= TARGET for opset in opsets) or nodes_blocking_opset_19(model):
            return ir.passes.PassResult(model, modified=False)
        for graph in graphs:
            for node in graph:
                if node.domain == "" and node.op_type in REDUCTIONS:
                    _axes_to_input(node, model.graph)
                if is_operator(node, "Split") and not any(node.inputs[1:]):
                    node.attributes.add(ir.AttrInt64("num_outputs", len(node.outputs)))
                node.version = None
            if "" in graph.opset_imports:
                graph.opset_imports[""] = TARGET
        model.opset_imports[""] = TARGET
        model.ir_version = max(model.ir_version, IR_VERSION)
        return ir.passes.PassResult(model, modified=True)


def nodes_blocking_opset_19(model: ir.Model) -> list[ir.Node]:
    """Return the nodes of the graph and its functions that keep the model at its opset: none of the rules holds."""
    return [node for graph in _graphs(model) for node in graph if node.domain == "" and not _raisable(node, graph)]


def _graphs(model: ir.Model) -> list[ir.Graph | ir.Function]:
    return [model.graph, *model.functions.values()]


def _raisable(node: ir.Node, graph: ir.Graph | ir.Function) -> bool:
    opset = graph.opset_imports.get("", TARGET)
    if opset >= TARGET:
        return True
    if node.op_type in REDUCTIONS and opset < 18:  # rule 2
        return "axes" not in node.attributes or isinstance(graph, ir.Graph)
    if node.op_type == "Split":  # rule 3
        return True
    since = onnx.defs.get_schema(node.op_type, TARGET, "").since_version
    return since <= opset or node.op_type in WIDENED  # rule 1


def _axes_to_input(node: ir.Node, graph: ir.Graph) -> None:
    if "axes" not in node.attributes:
        return
    axes = np.array(node.attributes.get_ints("axes"), np.int64)
    node.attributes.pop("axes")
    node.resize_inputs(2)
    node.replace_input_with(1, add_constant(graph, f"{node.outputs[0].name}_axes", axes))
