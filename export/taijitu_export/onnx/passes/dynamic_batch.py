"""Allow a batch of any size, where an exporter fixed the size of its example."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from taijitu_export.onnx.passes.editing import add_constant
from taijitu_export.onnx.passes.reading import integers, is_operator


class DynamicBatchPass(ir.passes.InPlacePass):
    """Let dimension 0 of the graph's inputs and outputs be any number, and remove it from the shapes of Reshapes.

    The caller must test whether the network still means the same: a Resize or Expand may contain the number too.

    Rules. The shape of a Reshape has its first number replaced by 0, which copies that of its input, if all of these
    hold:

    1. The shape is constant and does not contain 0, which copies too, or with `allowzero` means 0.
    2. Its first number is `batch`, and so is that of its input's shape.
    """

    def __init__(self, batch: int) -> None:
        super().__init__()
        self._batch = batch

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        graph = model.graph
        reshapes = [node for node in graph if is_operator(node, "Reshape") and self._is_batched(node)]
        for number, node in enumerate(reshapes):
            shape = np.array([0, *integers(node.inputs[1])[1:]], np.int64)
            node.attributes.pop("allowzero", None)
            node.replace_input_with(1, add_constant(graph, f"any_batch_{number}", shape))
        for node in graph:
            for value in node.outputs:
                value.shape = None  # these contain the one batch size, and are inferred again
        for value in (*graph.inputs, *graph.outputs):
            if value.shape is not None and value.shape.rank() > 0:
                value.shape = ir.Shape(["batch", *value.shape[1:]])
        return ir.passes.PassResult(model, modified=True)

    def _is_batched(self, node: ir.Node) -> bool:
        x, shape = node.inputs[0], integers(node.inputs[1])
        fits = x is not None and x.shape is not None and x.shape.rank() > 0 and x.shape[0] == self._batch
        return bool(shape) and 0 not in shape and fits and shape[0] == self._batch  # rules 1 and 2
