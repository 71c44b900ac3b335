"""Replace a convolution of a concatenation by the sum of its parts' convolutions: nothing is copied together.

ONNX Runtime's blocked layout holds 8 or 16 channels a block. A concatenation of parts that do not fill their blocks
leaves that layout and returns to it, for each HalfIdentityBlock of a VGNet with 28, 56 or 184 channels per part. A sum
of two convolutions stays in it, and costs no pass over memory: the second one adds to the result of the first.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Sequence

import numpy as np
import onnx_ir as ir

from taijitu_export.onnx.passes.editing import add_constant
from taijitu_export.onnx.passes.reading import (
    channels,
    constant,
    convolution_weights,
    integers,
    is_channel_slice,
    is_operator,
    is_padded,
    is_read_inside,
)


@dataclasses.dataclass(frozen=True)
class Part:
    """Channels `start` to `stop` of the `channels` that a value has."""

    value: ir.Value
    channels: int
    start: int
    stop: int

    @property
    def width(self) -> int:
        return self.stop - self.start


class SplitConcatPass(ir.passes.InPlacePass):
    """Take each Concat of channels apart, through all nodes that read it.

    A depthwise Conv becomes one for each part. A Slice of channels selects parts. A 1x1 Conv becomes the sum of one for
    each part; where a Slice left channels out, it reads the whole tensor with zeros for their weights. The sum has the
    name of the Conv, and of its output.

    Rules. A Concat is taken apart when all of these hold:

    1. It joins two tensors of rank 4 along their channels, whose numbers are known.
    2. It goes: its result is not an output of the graph, and every node that reads it is in that graph and one of
       a. a 1x1 Conv of one group, not padded, with constant weights,
       b. a depthwise Conv with constant weights, one output channel for each input channel,
       c. a Slice of channels only, with constant ends and step 1,
       d. a Concat or Split of channels whose numbers are known,
       where rule 2 holds for the results of b, c and d.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        graph = model.graph
        parts: dict[ir.Value, list[Part]] = {}  # of the values that are taken apart
        for node in list(graph):
            out = node.outputs[0]
            apart = next((parts[value] for value in node.inputs if value in parts), None)
            if apart is None:
                if _is_channel_concat(node) and len(node.inputs) == 2 and _goes(out):  # rules 1 and 2
                    parts[out] = _joined(node, parts)
            elif node.op_type == "Concat":
                parts[out] = _joined(node, parts)
            elif node.op_type == "Slice":
                (start,), (end,) = integers(node.inputs[1]), integers(node.inputs[2])
                parts[out] = _sliced(apart, range(sum(part.width for part in apart))[start:end])
            elif node.op_type == "Split":
                parts |= _split(node, apart)
            elif _is_depthwise(node):
                parts[out] = _split_depthwise(graph, node, apart)
            else:
                _split_pointwise(graph, node, apart)
        gone = dict.fromkeys(producer for value in reversed(parts) if (producer := value.producer()) is not None)
        graph.remove(gone, safe=True)
        return ir.passes.PassResult(model, modified=bool(parts))


def _goes(value: ir.Value) -> bool:
    """Return whether rule 2 holds for the result of a node."""
    if value.is_graph_output() or is_read_inside(value) or not value.uses():
        return False
    for node, index in value.uses():
        first = index == 0
        if _is_channel_concat(node) or (first and (_is_depthwise(node) or is_channel_slice(node) or _is_split(node))):
            if not all(map(_goes, node.outputs)):  # rules 2b, 2c, 2d
                return False
        elif not (first and _is_pointwise(node)):  # rule 2a
            return False
    return True


def _is_channel_concat(node: ir.Node) -> bool:
    return is_operator(node, "Concat") and _is_along_channels(node, node.inputs)


def _is_split(node: ir.Node) -> bool:
    return is_operator(node, "Split") and _is_along_channels(node, node.outputs)


def _is_along_channels(node: ir.Node, values: Iterable[ir.Value | None]) -> bool:
    return node.attributes.get_int("axis", 0) in (1, -3) and all(channels(value) is not None for value in values)


def _is_pointwise(node: ir.Node) -> bool:
    weights = convolution_weights(node)
    one_group = node.attributes.get_int("group", 1) == 1
    return weights is not None and weights.shape[2:] == (1, 1) and one_group and not is_padded(node)


def _is_depthwise(node: ir.Node) -> bool:
    weights = convolution_weights(node)
    return weights is not None and weights.shape[:2] == (node.attributes.get_int("group", 1), 1)


def _joined(node: ir.Node, known: dict[ir.Value, list[Part]]) -> list[Part]:
    parts: list[Part] = []
    for value in node.inputs:
        assert value is not None
        width = channels(value) or 0
        parts += known.get(value, [Part(value, width, 0, width)])
    return parts


def _sliced(parts: Iterable[Part], wanted: range) -> list[Part]:
    found, offset = [], 0
    for part in parts:
        first, last = max(wanted.start - offset, 0), min(wanted.stop - offset, part.width)
        if first < last:
            found.append(dataclasses.replace(part, start=part.start + first, stop=part.start + last))
        offset += part.width
    return found


def _split(node: ir.Node, parts: Sequence[Part]) -> dict[ir.Value, list[Part]]:
    ends = list(itertools.accumulate(channels(out) or 0 for out in node.outputs))
    return {out: _sliced(parts, range(end - (channels(out) or 0), end)) for out, end in zip(node.outputs, ends)}


def _split_depthwise(graph: ir.Graph, node: ir.Node, parts: Sequence[Part]) -> list[Part]:
    made, offset = [], 0
    for number, part in enumerate(parts):
        constants = [_share(graph, value, number, part, offset, axis=0) for value in node.inputs[1:]]
        conv = _part_of(graph, node, [part.value, *constants], number)
        conv.attributes.add(ir.AttrInt64("group", part.channels))
        shape = list(node.outputs[0].shape or ())
        shape[1] = part.channels
        conv.outputs[0].shape = ir.Shape(shape)
        made.append(dataclasses.replace(part, value=conv.outputs[0]))
        offset += part.width
    return made


def _split_pointwise(graph: ir.Graph, node: ir.Node, parts: Sequence[Part]) -> None:
    addends: list[ir.Value] = []
    offset = 0
    for number, part in enumerate(parts):
        weights = _share(graph, node.inputs[1], number, part, offset, axis=1)
        bias = node.inputs[2:] if number == 0 else ()
        addends.append(_part_of(graph, node, [part.value, weights, *bias], number).outputs[0])
        offset += part.width
    out, total = node.outputs[0], addends[0]
    for number, addend in enumerate(addends[1:], start=1):
        # The newest first: ONNX Runtime adds it to the other.
        add = ir.node("Add", [addend, total], name=f"{node.name}_sum{number}")
        total = add.outputs[0]
        total.name, total.shape, total.type = f"{out.name}_sum{number}", out.shape, out.type
        graph.insert_before(node, add)
    name, out.name = out.name, f"{out.name}_joined"
    ir.convenience.replace_nodes_and_values(graph, node, [node], [], [out], [total])
    total.name = name


def _share(graph: ir.Graph, value: ir.Value | None, number: int, part: Part, offset: int, *, axis: int) -> ir.Value:
    """Return a part's share of a layer's constant, along `axis`, with zeros for channels that are not in the part."""
    array = constant(value)
    assert value is not None
    assert array is not None
    shape = list(array.shape)
    shape[axis] = part.channels
    share = np.zeros(shape, array.dtype)
    there, here = [slice(None)] * array.ndim, [slice(None)] * array.ndim
    there[axis], here[axis] = slice(part.start, part.stop), slice(offset, offset + part.width)
    share[tuple(there)] = array[tuple(here)]
    stem, dot, kind = (value.name or "").rpartition(".")
    return add_constant(graph, f"{stem}.part{number}{dot}{kind}", share)


def _part_of(graph: ir.Graph, node: ir.Node, inputs: Sequence[ir.Value | None], number: int) -> ir.Node:
    conv = ir.node("Conv", inputs, dict(node.attributes), name=f"{node.name}_part{number}")
    made, out = conv.outputs[0], node.outputs[0]
    made.name, made.shape, made.type = f"{out.name}_part{number}", out.shape, out.type
    graph.insert_before(node, conv)
    return conv
