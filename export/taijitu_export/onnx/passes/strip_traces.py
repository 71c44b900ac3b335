"""Remove the exporter's notes on nodes and values: stack traces with the paths of this computer."""

from __future__ import annotations

import onnx_ir as ir


class StripTracesPass(ir.passes.InPlacePass):
    """Empty the metadata and doc strings of every node, value and initializer. The model's own metadata stays.

    Nodes in branches and loops, and what they compute, are among them.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        graph = model.graph
        carriers: list[ir.Node | ir.Value | ir.Graph] = [graph, *graph.inputs, *graph.initializers.values()]
        for node in graph.all_nodes():
            carriers += [node, *node.outputs]
        noted = [carrier for carrier in carriers if carrier.metadata_props or carrier.doc_string]
        for carrier in noted:
            carrier.metadata_props.clear()
            carrier.doc_string = None
        return ir.passes.PassResult(model, modified=bool(noted))
