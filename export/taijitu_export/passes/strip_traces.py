"""What the exporter notes beside nodes and values (stack traces with the paths of this computer) is not shipped."""

from __future__ import annotations

import onnx_ir as ir


class StripTracesPass(ir.passes.InPlacePass):
    """Empty the metadata and doc strings of every node, value and initializer. The model's own metadata stays."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        modified = False
        for node in model.graph:
            modified |= bool(node.metadata_props or node.doc_string)
            node.metadata_props.clear()
            node.doc_string = None
            for value in node.outputs:
                value.metadata_props.clear()
        for value in (*model.graph.inputs, *model.graph.initializers.values()):
            modified |= bool(value.metadata_props or value.doc_string)
            value.metadata_props.clear()
            value.doc_string = None
        model.graph.metadata_props.clear()
        model.graph.doc_string = None
        return ir.passes.PassResult(model, modified=modified)
