"""Replace ReduceMean over height and width by GlobalAveragePool, for which every runtime has a fast kernel."""

from __future__ import annotations

import onnx_ir as ir

from taijitu_export.onnx.passes.reading import integers, is_operator


class GlobalAveragePoolPass(ir.passes.InPlacePass):
    """Replace ReduceMean(x, axes) by GlobalAveragePool(x), and by Flatten after it where dimensions were dropped.

    Rules. A node is replaced when all of these hold:

    1. x has rank 4.
    2. The axes are constant and are height and width: {2, 3}, negative ones counted from the end.
    3. With keepdims=0, the result (N, C) is that of Flatten(axis=1) of (N, C, 1, 1): always so for rank 4.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        modified = False
        for node in list(model.graph):
            if is_operator(node, "ReduceMean") and _is_spatial(node):
                _replace(model.graph, node)
                modified = True
        return ir.passes.PassResult(model, modified=modified)


def _is_spatial(node: ir.Node) -> bool:
    x = node.inputs[0]
    if x is None or x.shape is None or x.shape.rank() != 4:  # rule 1
        return False
    axes = integers(node.inputs[1]) if len(node.inputs) > 1 else []
    return sorted(axis % 4 for axis in axes) == [2, 3]  # rule 2


def _replace(graph: ir.Graph, node: ir.Node) -> None:
    x, out = node.inputs[0], node.outputs[0]
    assert x is not None
    assert x.shape is not None
    pool = ir.node("GlobalAveragePool", [x], name=f"{node.name}_pool")
    new = [pool]
    if not node.attributes.get_int("keepdims", 1):
        pooled = pool.outputs[0]
        pooled.name, pooled.type, pooled.shape = f"{out.name}_pooled", out.type, ir.Shape([*x.shape[:2], 1, 1])
        new.append(ir.node("Flatten", [pooled], {"axis": 1}, name=f"{node.name}_flat"))
    name, out.name = out.name, f"{out.name}_replaced"
    ir.convenience.replace_nodes_and_values(graph, node, [node], new, [out], [new[-1].outputs[0]])
    new[-1].outputs[0].name = name
