"""Order GELU's multiplications so that ONNX Runtime recognises it, and makes one operator of five."""

from __future__ import annotations

import onnx_ir as ir

from taijitu_export.onnx.passes.reading import constant, is_operator


class GeluOrderPass(ir.passes.InPlacePass):
    """Turn x * (0.5 * (1 + erf(x / sqrt(2)))), as torch exports it, into (x * (1 + erf(x / sqrt(2)))) * 0.5.

    Halving is exact, so the change is exact too.

    Rules. A Mul(x, h), or Mul(h, x), is rewritten when all of these hold:

    1. h is a Mul by the constant 0.5, has no other reader, and is not an output of the graph.
    2. The other factor is the sum of a constant and an Erf.
    3. The Erf is of x divided by a constant.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        modified = False
        for node in model.graph:
            if is_operator(node, "Mul"):
                modified |= any(_rewrite(node, *pair) for pair in (node.inputs, node.inputs[::-1]))
        return ir.passes.PassResult(model, modified=modified)


def _rewrite(product: ir.Node, x: ir.Value | None, halved: ir.Value | None) -> bool:
    halving = halved.producer() if halved is not None else None
    if halved is None or halving is None or not is_operator(halving, "Mul"):  # rule 1
        return False
    half, total = _constant_first(halving)
    factor = constant(half)
    if factor is None or factor.size != 1 or factor != 0.5:  # rule 1
        return False
    if len(halved.uses()) != 1 or halved.is_graph_output():  # rule 1
        return False
    addition = total.producer() if total is not None else None
    if addition is None or not is_operator(addition, "Add"):  # rule 2
        return False
    one, erf = _constant_first(addition)
    bend = erf.producer() if erf is not None else None
    if constant(one) is None or bend is None or not is_operator(bend, "Erf") or bend.inputs[0] is None:  # rule 2
        return False
    division = bend.inputs[0].producer()
    if division is None or not is_operator(division, "Div") or division.inputs[0] is not x:  # rule 3
        return False
    for node, inputs in ((halving, (x, total)), (product, (halved, half))):
        for index, value in enumerate(inputs):
            node.replace_input_with(index, value)
    return True


def _constant_first(node: ir.Node) -> tuple[ir.Value | None, ir.Value | None]:
    first, second = node.inputs
    return (first, second) if constant(first) is not None else (second, first)
