"""Fold the division of each channel, as at the end of a normalisation, into the weights of the layers that read it."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from taijitu_export.onnx.passes.editing import replace_constant, take_out
from taijitu_export.onnx.passes.reading import (
    channels,
    constant,
    convolution_weights,
    integers,
    is_channel_slice,
    is_operator,
    is_read_inside,
)


class FoldScalePass(ir.passes.InPlacePass):
    """Fold y = x / c into the convolutions that read y: their padding is 0 before the division as after it.

    A subtraction before it stays: a padded convolution would see the mean instead of 0 at the border.

    Rules. A Div is folded when all of these hold:

    1. x has rank 4 and a known number of channels C; c is constant, finite, not 0, with C elements along the channels.
    2. The result is not an output of the graph, and every node that reads it is in that graph and one of
       a. a Conv of one group with constant weights,
       b. a Slice of channels only, with constant ends and step 1, that only Convs of one group with constant weights
          read.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        graph, modified = model.graph, False
        for node in list(graph):
            divisor = _divisor(node)
            readers = _readers(node.outputs[0], sliced=True)
            if divisor is None or not readers:  # rules 1 and 2
                continue
            for conv, kept in readers:
                _fold(graph, conv, divisor[kept])
            take_out(graph, node)
            modified = True
        return ir.passes.PassResult(model, modified=modified)


def _divisor(node: ir.Node) -> NDArray[np.float64] | None:
    """Return c, (C,), by rule 1."""
    if not is_operator(node, "Div"):
        return None
    width, divisor = channels(node.inputs[0]), constant(node.inputs[1])
    if width is None or divisor is None or divisor.shape not in ((width, 1, 1), (1, width, 1, 1)):
        return None
    fits = np.isfinite(divisor).all() and divisor.all()
    return divisor.reshape(width).astype(np.float64) if fits else None


def _readers(value: ir.Value, *, sliced: bool) -> list[tuple[ir.Node, slice]]:
    """Return the convolutions by rule 2, and the channels that each reads; none where the rule forbids it."""
    found: list[tuple[ir.Node, slice]] = []
    if value.is_graph_output() or is_read_inside(value):
        return []
    for node, index in value.uses():
        if index == 0 and convolution_weights(node) is not None and node.attributes.get_int("group", 1) == 1:  # a
            found.append((node, slice(None)))
            continue
        behind = (
            _readers(node.outputs[0], sliced=False) if sliced and is_channel_slice(node) and index == 0 else []
        )  # b
        if not behind:
            return []
        (start,), (end,) = integers(node.inputs[1]), integers(node.inputs[2])
        found += [(conv, slice(start, end)) for conv, _ in behind]
    return found


def _fold(graph: ir.Graph, conv: ir.Node, divisor: NDArray[np.float64]) -> None:
    weights, old = conv.inputs[1], constant(conv.inputs[1])
    assert weights is not None
    assert old is not None
    scaled = (old / divisor.reshape(-1, 1, 1)).astype(old.dtype)
    replace_constant(graph, weights, scaled, f"folded_{conv.name}", {conv}.__contains__)
