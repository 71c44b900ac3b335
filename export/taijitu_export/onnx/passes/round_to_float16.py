"""Write float16's rounding into a float32 graph, for a processor that has no float16.

ONNX Runtime's CPU has no float16 kernels for most operators: it computes in float32 between two Casts of its own, and
removes these where one node follows another. An overflow that happens on a GPU does not happen there (tried with
1.31: 1000 * 100 * 0.001 in float16 nodes gives 100). Casts in the file stay.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx_ir as ir

from taijitu_export.onnx.passes.editing import (
    Belongs,
    FreeNames,
    activations,
    float32_constants,
    place,
    replace_constant,
)
from taijitu_export.onnx.passes.float16 import float16, float16_nodes


class RoundToFloat16Pass(ir.passes.InPlacePass):
    """Round the values that Float16Pass would hold in float16, and leave every type float32.

    Rules, with the nodes that Float16Pass's rules make compute in float16:

    1. Their constants are rounded.
    2. Their outputs are rounded for every user, under their own names.
    3. Values that they read from other nodes are rounded for them alone.

    Inside a node the arithmetic stays float32, as in hardware that accumulates in float32. With `weights_only`, rule 1
    alone: the error that remains is the least that float16 costs a network.
    """

    def __init__(self, excluded: Collection[str] = (), *, weights_only: bool = False) -> None:
        super().__init__()
        self._excluded = frozenset(excluded)
        self._weights_only = weights_only

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        graph, halves = model.graph, float16_nodes(model, self._excluded)
        names = FreeNames(graph)
        for constant in float32_constants(halves):  # rule 1
            rounded = float16(constant).astype(np.float32)
            replace_constant(graph, constant, rounded, "rounded", halves.__contains__, names)
        for value in [] if self._weights_only else activations(graph):
            if value.producer() in halves:
                _round(graph, names, value, lambda node: True, keeps_its_name=True)  # rule 2
            elif any(use.node in halves for use in value.uses()):
                _round(graph, names, value, halves.__contains__, keeps_its_name=False)  # rule 3
        return ir.passes.PassResult(model, modified=bool(halves))


def _round(graph: ir.Graph, names: FreeNames, value: ir.Value, users: Belongs, *, keeps_its_name: bool) -> None:
    uses = [use for use in value.uses() if users(use.node)]
    down = ir.node("Cast", [value], {"to": ir.DataType.FLOAT16}, name=names(f"{value.name}_down"))
    up = ir.node("Cast", down.outputs, {"to": ir.DataType.FLOAT}, name=names(f"{value.name}_up"))
    made = up.outputs[0]
    half = down.outputs[0]
    half.name, half.dtype, half.shape = names(f"{value.name}_float16"), ir.DataType.FLOAT16, value.shape
    made.name, made.dtype, made.shape = names(f"{value.name}_rounded"), ir.DataType.FLOAT, value.shape
    if keeps_its_name:
        made.name, value.name = value.name, names(f"{value.name}_exact")
        if value.is_graph_output():
            graph.outputs[graph.outputs.index(value)] = made
    for use in uses:
        use.node.replace_input_with(use.idx, made)
    place(graph, value, [down, up])
