"""Find where two graphs of one network diverge: the same pictures through both, tensor by tensor.

The measure of a tensor is the root mean square of the difference over that of the reference's tensor: 0 for equals, 1
where the difference is as large as the signal, infinite where the candidate has NaN or Inf. float32 against float32
shows about 1e-6, float16 1e-3, int8 with good scales 1e-2 to 1e-1.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from taijitu_export.comparison.intermediates import Intermediates
from taijitu_export.errors import ExportError
from taijitu_export.onnx.passes.reading import WEIGHTED

SHARE_OF_THE_LARGEST = 0.1
STEP = 3.0


@dataclasses.dataclass(frozen=True)
class Layer:
    """One node of the reference: its error, and `before`, the largest error of what flows into it.

    `name` is that of its weights without ".weight", or the node's own; `node` is the node's.
    """

    name: str
    node: str
    operator: str
    error: float
    before: float

    @property
    def own(self) -> float:
        """The error that the layer added, if its error were independent of what came before."""
        if math.isinf(self.error):
            return 0.0 if math.isinf(self.before) else math.inf
        return math.sqrt(max(0.0, self.error**2 - self.before**2))

    def __str__(self) -> str:
        return f"{self.name} ({self.operator}): {self.before:.2g} before it, {self.error:.2g} after it"


@dataclasses.dataclass(frozen=True)
class Divergence:
    """The layers in the order in which they run."""

    layers: tuple[Layer, ...]

    @property
    def is_none(self) -> bool:
        """Whether every layer gives the same numbers in both graphs."""
        return all(layer.error == 0 for layer in self.layers)

    @property
    def first(self) -> Layer:
        """The first layer that diverges.

        That is the first whose error is at least a tenth of the largest of all and at least three times that of what
        flows into it; of errors that only creep up, the layer that added the most.
        """
        largest = max(layer.error for layer in self.layers)
        floor = largest if math.isinf(largest) else SHARE_OF_THE_LARGEST * largest
        for layer in self.layers:
            if layer.error >= max(floor, STEP * layer.before) and layer.own > 0:
                return layer
        return max(self.layers, key=lambda layer: layer.own)

    def worst(self, count: int = 5) -> list[Layer]:
        """Return the layers that added the most, the worst first."""
        return sorted(self.layers, key=lambda layer: -layer.own)[:count]


def divergence(candidate: onnx.ModelProto, reference: onnx.ModelProto, pictures: NDArray[np.uint8]) -> Divergence:
    """Compare every tensor that both graphs have, on pictures, uint8 RGB (N, H, W, 3).

    Tensors are matched by name (every precision that export makes keeps the names); if less than half of the layers
    with weights match so, those are matched by their order. ExportError if that fails too.
    """
    pairs = _pairs(candidate, reference)
    ours, theirs = Intermediates(candidate, pairs.values()), Intermediates(reference, pairs)
    sums = {name: np.zeros(2) for name in pairs}
    for picture in pictures:
        got, expected = ours.run(picture[None]), theirs.run(picture[None])
        for name in pairs:
            sums[name] += _squares(got[pairs[name]], expected[name])
    errors = {name: _ratio(*total) for name, total in sums.items()}
    return Divergence(tuple(_layers(reference, errors)))


def layer_name(node: onnx.NodeProto, constants: Iterable[str]) -> str:
    """Return the name of a node's weights without ".weight", as in the checkpoint; without weights, the node's own."""
    for name in map(str, node.input[1:2]):
        if name in constants and name.endswith(".weight"):
            return name.removesuffix(".weight").removeprefix("model.")
    return str(node.name)


def layer_names(model: onnx.ModelProto, nodes: Collection[str]) -> tuple[str, ...]:
    """Return the layer_name of each node of these names, in the order of the graph."""
    constants = {constant.name for constant in model.graph.initializer}
    return tuple(layer_name(node, constants) for node in model.graph.node if node.name in nodes)


def _squares(got: NDArray[Any], expected: NDArray[Any]) -> NDArray[np.float64]:
    if got.shape != expected.shape:
        raise ExportError(
            f"got tensors of shapes {got.shape} and {expected.shape} under one name; give another reference"
        )
    difference = got.astype(np.float64) - expected
    squared = float((difference**2).sum())
    return np.array([squared if math.isfinite(squared) else math.inf, float((expected.astype(np.float64) ** 2).sum())])


def _ratio(difference: float, signal: float) -> float:
    if not math.isfinite(difference):
        return math.inf
    if signal == 0.0:
        return 0.0 if difference == 0.0 else math.inf
    return math.sqrt(difference / signal)


def _pairs(candidate: onnx.ModelProto, reference: onnx.ModelProto) -> dict[str, str]:
    """Return the reference's tensors with the candidate's of the same name, or of the same position."""
    floats = _float_outputs(candidate)
    pairs = {name: name for name in _float_outputs(reference) if name in floats}
    theirs, ours = (
        [next(filter(None, n.output)) for n in m.graph.node if n.op_type in WEIGHTED]  # an LSTM may omit its first
        for m in (reference, candidate)
    )
    if 2 * sum(name in pairs for name in theirs) >= len(theirs) > 0:
        return pairs
    if len(ours) != len(theirs) or not ours:
        raise ExportError(
            f"got {len(ours)} layers with weights in the candidate and {len(theirs)} in the reference, with other "
            "names, expected as many or the same names; give the file that it was made from"
        )
    return dict(zip(theirs, ours)) | {
        other.name: own.name for other, own in zip(reference.graph.output, candidate.graph.output)
    }


def _float_outputs(model: onnx.ModelProto) -> dict[str, None]:
    """Return the floating-point tensors that nodes compute, in order."""
    floats = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)
    inferred = onnx.shape_inference.infer_shapes(model).graph
    types = {value.name: value.type.tensor_type.elem_type for value in (*inferred.value_info, *inferred.output)}
    outputs = (name for node in model.graph.node if node.op_type != "Constant" for name in node.output)
    return dict.fromkeys(name for name in outputs if types.get(name) in floats)


def _layers(reference: onnx.ModelProto, errors: Mapping[str, float]) -> Iterable[Layer]:
    constants = {constant.name for constant in reference.graph.initializer}
    reaching: dict[str, float] = {}  # the error of a tensor, or of its inputs where it has no match
    for node in reference.graph.node:
        before = max((reaching.get(name, 0.0) for name in _read_by(node)), default=0.0)
        for name in node.output:
            reaching[name] = errors.get(name, before)
            if name in errors:
                yield Layer(layer_name(node, constants), node.name, node.op_type, errors[name], before)


def _read_by(node: onnx.NodeProto) -> Iterator[str]:
    """Yield the names of a node's inputs, and of what the nodes of its branches or its loop read."""
    yield from node.input
    for attribute in node.attribute:
        for inner in attribute.g.node:
            yield from _read_by(inner)
