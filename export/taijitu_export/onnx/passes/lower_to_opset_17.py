"""Lower opset 18, the lowest that torch exports, to 17."""

from __future__ import annotations

import onnx
import onnx_ir as ir

from taijitu_export.onnx.passes.reading import integers

OPSET, IR_VERSION = 17, 8
"""The highest that TensorRT 8.6 and the ONNX Runtimes made for JetPack 6 read."""


class LowerToOpset17Pass(ir.passes.InPlacePass):
    """Declare opset 17 and IR version 8 where the graph means the same there.

    Rules. The model is lowered when every node of the default domain, those in branches and loops too, satisfies one of
    these, and left alone otherwise:

    1. Its operator has the same schema in opset 17 as in 18.
    2. It is a ReduceMean over named, constant axes: they become the attribute that opset 17 has in place of the input.
    3. It is a Split that lists its sizes as an input, or whose outputs divide a known dimension evenly, which opset 17
       reads in the same way.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        nodes = [node for node in model.graph.all_nodes() if node.domain == ""]
        if model.opset_imports.get("") != 18 or not all(_lowerable(node) for node in nodes):
            return ir.passes.PassResult(model, modified=False)
        for node in nodes:
            if node.op_type == "ReduceMean":
                _axes_to_attribute(node)
            if node.op_type == "Split":
                node.attributes.pop("num_outputs", None)
            node.version = None
        model.opset_imports[""] = OPSET
        model.graph.opset_imports[""] = OPSET
        model.ir_version = IR_VERSION
        return ir.passes.PassResult(model, modified=True)


def _lowerable(node: ir.Node) -> bool:
    if node.op_type == "ReduceMean":  # rule 2
        return bool(_axes(node))
    if node.op_type == "Split":  # rule 3
        return len(node.inputs) == 2 or _is_even(node)
    return onnx.defs.get_schema(node.op_type, 18, "").since_version <= 17  # rule 1


def _is_even(node: ir.Node) -> bool:
    shape = node.inputs[0].shape if node.inputs[0] is not None else None
    side = None if shape is None else shape[node.attributes.get_int("axis", 0)]
    return isinstance(side, int) and side % len(node.outputs) == 0


def _axes(node: ir.Node) -> list[int]:
    """Return the constant axes; none where they are not named or not constant."""
    return integers(node.inputs[1]) if len(node.inputs) > 1 else []


def _axes_to_attribute(node: ir.Node) -> None:
    node.attributes.add(ir.AttrInt64s("axes", _axes(node)))
    node.attributes.pop("noop_with_empty_axes", None)
    node.resize_inputs(1)
