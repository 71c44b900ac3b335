"""Convert a foreign ONNX graph to an artefact's: pictures in, preprocessing inside, logits out."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from typing import Literal

import numpy as np
import onnx
import onnx.version_converter
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes.common import (
    IdentityEliminationPass,
    LiftConstantsToInitializersPass,
    NameFixPass,
    RemoveInitializersFromInputsPass,
    RemoveUnusedNodesPass,
)

from taijitu_export.adopt.original import CARRIERS, Signature, with_functions_inlined
from taijitu_export.onnx.onnx_file import INITIALIZERS_ALONE, opset_of
from taijitu_export.onnx.passes import DynamicBatchPass, WriteOutGeluPass
from taijitu_export.onnx.passes.editing import FreeNames, add_constant, applied, take_out, with_types
from taijitu_export.onnx.passes.lower_to_opset_17 import IR_VERSION, OPSET
from taijitu_export.onnx.passes.reading import QUANTISERS, is_operator
from taijitu_runtime.card import InputSpec
from taijitu_runtime.errors import ArtefactError, one_line
from taijitu_runtime.pictures.preprocess import LUMINANCE

LEAST_OPSET = 7  # with the arithmetic that is put before and behind a network

Ending = Literal["logits", "softmax", "probabilities", "logit", "probability"]
"""The last step of a foreign network.

"softmax": probabilities from a Softmax, or that sum to 1; "probabilities": independent ones, from a Sigmoid;
"logit", "probability": one number for two labels, before or after the sigmoid that makes it a probability.
"""

LEAST = float(np.finfo(np.float32).tiny)
"""The smallest probability that has a logarithm here: the smallest normal float32."""


@dataclasses.dataclass(frozen=True)
class Standard:
    """A graph in ONNX's own operators, with named nodes and known types.

    `notes`: conversions that were not possible.
    """

    model: onnx.ModelProto
    notes: tuple[str, ...]


def standard_graph(model: onnx.ModelProto) -> Standard:
    """Write out the model's functions, make constants initialisers, and convert to OPSET where that is possible."""
    if model.functions:
        model = with_functions_inlined(model)
    model = _with_dense_weights(model)
    converted, notes = _converted(model)
    graph = ir.from_proto(converted)
    # In a branch or a loop, an Identity makes an output of its own from another output, or from an outer value.
    has_inner_graphs = any(node.graph is not graph.graph for node in graph.graph.all_nodes())
    passes = (
        RemoveInitializersFromInputsPass(),
        LiftConstantsToInitializersPass(lift_all_constants=True),
        *(() if has_inner_graphs else (IdentityEliminationPass(),)),
        RemoveUnusedNodesPass(),
        NameFixPass(),
    )
    return Standard(with_types(ir.to_proto(ir.passes.Sequential(*passes)(graph).model)), notes)


def onnx_from_foreign(
    standard: onnx.ModelProto,
    signature: Signature,
    spec: InputSpec,
    ending: Ending,
    classes: int,
    *,
    batch: int | None,
) -> ir.Model:
    """Return the graph with `images` RGB in, and `logits` float32 (N, K) out.

    The images are uint8 (N, H, W, 3), or float32 (N, 3, H, W) in [0, 255] where `spec` says "pixels".

    Args:
        standard: The result of `standard_graph`.
        signature: The network's input and output.
        spec: The contract; its arithmetic goes into the graph.
        ending: The network's last step. A last Softmax is cut off, so that logits are left; other probabilities that
            sum to 1, and the two of one probability, become their logarithms, which softmax turns into the
            probabilities again.
        classes: K of the network's output.
        batch: The only batch size that it takes; None for any.
    """
    model = ir.from_proto(standard)
    graph = model.graph
    _free_names(graph)
    _put_before(graph, signature, spec)
    cut = ending in ("softmax", "probability") and _cut(graph, "Softmax" if ending == "softmax" else "Sigmoid", classes)
    _put_behind(graph, ending, is_cut=cut)
    images = graph.inputs[0]
    images.shape = ir.Shape([signature.batch or batch or "batch", *_sides(spec)])
    if batch is None:
        DynamicBatchPass(signature.batch or 1)(model)
    graph.outputs[0].shape = ir.Shape([batch or "batch", 2 if ending in ("logit", "probability") else classes])
    return ir.from_proto(with_types(ir.to_proto(model)))


def logarithms(probabilities: NDArray[np.floating], least: float = LEAST) -> NDArray[np.float32]:
    """Compute the logarithms of an array of any shape, float32; those of `least` for smaller numbers."""
    logs: NDArray[np.float32] = np.log(np.maximum(probabilities.astype(np.float64), least)).astype(np.float32)
    return logs


def two_logits(numbers: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return numbers (N, 1) as logits (N, 2): those of the second of two labels, next to zeros for the first."""
    return np.concatenate([np.zeros_like(numbers), numbers], axis=1)


def ends_in(standard: onnx.ModelProto, answers: NDArray[np.float32], labels: int) -> Ending:
    """Return a network's last step, from its last operator and its answers to some pictures, float32 (N, K)."""
    node = _last(ir.from_proto(standard).graph, (*CARRIERS, *QUANTISERS))
    last = "" if node is None else node.op_type.removeprefix("QLinear")  # ONNX Runtime's own, of integers
    if answers.shape[1] == 1 and labels == 2:
        return "probability" if last in ("Sigmoid", "HardSigmoid") else "logit"
    if last == "Softmax":
        return "softmax"
    if last in ("Sigmoid", "HardSigmoid"):
        return "probabilities"
    sums_to_1 = (answers >= 0).all() and (np.abs(answers.sum(axis=1) - 1) <= 1e-2).all()
    return "softmax" if sums_to_1 else "logits"


def _with_dense_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy of the model whose sparse weights, which onnx_ir does not read, are dense initialisers."""
    dense = onnx.ModelProto()
    dense.CopyFrom(model)
    graph = dense.graph
    weights = [(tensor.values.name, tensor) for tensor in graph.sparse_initializer]
    constants = [node for node in graph.node if any(each.name == "sparse_value" for each in node.attribute)]
    weights += [(node.output[0], node.attribute[0].sparse_tensor) for node in constants]
    for name, tensor in weights:
        values = onnx.numpy_helper.to_array(tensor.values)
        places = onnx.numpy_helper.to_array(tensor.indices)  # one number for each value, or one for each dimension
        array = np.zeros(tuple(tensor.dims), values.dtype)
        array[tuple(places.T) if places.ndim == 2 else np.unravel_index(places, array.shape)] = values
        graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    for node in constants:
        graph.node.remove(node)
    del graph.sparse_initializer[:]
    return dense


def _converted(model: onnx.ModelProto) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """Convert the model to OPSET, or to the one above it, which LowerToOpset17Pass lowers with fewer mistakes."""
    opset = opset_of(model)
    if opset > OPSET + 1:
        model = applied(WriteOutGeluPass(), with_types(model))
    wanted = OPSET if opset < OPSET else OPSET + 1
    if opset not in (OPSET, wanted):
        try:
            converted = onnx.version_converter.convert_version(model, wanted)
            _check(converted)  # it takes over types that the operators of `wanted` do not know
            model = converted
        except Exception as error:  # one class both for an unknown operator and for its own bugs
            reason = one_line(error).rpartition(" failed: ")[2][:200]  # without the place in onnx's own source
            if opset < LEAST_OPSET:
                text = f"got opset {opset}, which onnx cannot convert ({reason}), expected {LEAST_OPSET} or a later one"
                raise ArtefactError(f"{text}; export the network again") from None
            least = onnx.helper.find_min_ir_version_for(list(model.opset_import), ignore_unknown=True)
            model.ir_version = max(least, INITIALIZERS_ALONE)
            return model, (f"opset {opset} stays: onnx's converter reports {reason}",)
    model.ir_version = IR_VERSION
    return model, ()


def _check(model: onnx.ModelProto) -> None:
    """Raise an error where operators do not take what they get. Shapes in files may be outdated: they do not count."""
    onnx.checker.check_model(model)
    onnx.shape_inference.infer_shapes(model, check_type=True)


def _free_names(graph: ir.Graph) -> None:
    """Rename values that have the names of an artefact's input and output, in branches and loops too."""
    names = FreeNames(graph)
    computed = (value for node in graph.all_nodes() for value in node.outputs)
    for value in (*graph.inputs, *graph.initializers.values(), *computed):
        if value.name in ("images", "logits"):
            value.name = names(f"network_{value.name}")


def _put_before(graph: ir.Graph, signature: Signature, spec: InputSpec) -> None:
    """Prepend `images` -> the network's input: float, planes, channels, normalised, as far as needed."""
    taken, as_planes = graph.inputs[0], spec.float_values == "pixels"
    images = ir.Value(
        name="images",
        type=ir.TensorType(ir.DataType.FLOAT if as_planes else ir.DataType.UINT8),
        shape=ir.Shape([signature.batch or "batch", *_sides(spec)]),
    )
    chain = _Chain(graph, images)
    is_computed = signature.dtype != np.uint8 or spec.colour == "grey"
    if is_computed and not as_planes:
        chain.add("Cast", to=ir.DataType.FLOAT)
    if (signature.layout == "nchw") != as_planes:
        chain.add("Transpose", perm=[0, 2, 3, 1] if as_planes else [0, 3, 1, 2])
    along = 1 if signature.layout == "nchw" else 3
    shape = [1, -1, 1, 1] if along == 1 else [1, 1, 1, -1]
    if spec.colour == "BGR":
        chain.add("Gather", np.array([2, 1, 0], np.int64), axis=along)
    elif spec.colour == "grey":
        # Exact, as Pillow rounds it: the sum stays below 2 ** 24.
        chain.add("Mul", np.array(LUMINANCE, np.float32).reshape(shape))
        chain.add("ReduceSum", np.array([along], np.int64), keepdims=1)
        chain.add("Add", np.array(2**15, np.float32))
        chain.add("Div", np.array(2**16, np.float32))
        chain.add("Floor")
    if signature.dtype != np.uint8:
        mean, std = (np.array(numbers, np.float64) / spec.scale for numbers in (spec.mean, spec.std))
        if mean.any():
            chain.add("Sub", mean.astype(np.float32).reshape(shape))
        if (std.astype(np.float32) != 1).any():
            chain.add("Div", std.astype(np.float32).reshape(shape))
    if signature.dtype == np.float16:
        chain.add("Cast", to=ir.DataType.FLOAT16)
    elif signature.dtype == np.uint8 and (is_computed or as_planes):
        chain.add("Cast", to=ir.DataType.UINT8)
    ir.convenience.replace_all_uses_with(taken, chain.value)
    graph.inputs[0] = images
    if chain.nodes:
        graph.insert_before(graph[0], chain.nodes)


def _sides(spec: InputSpec) -> tuple[int, int, int]:
    """Return the shape of one picture at `images`."""
    height, width = spec.height, spec.width
    return (3, height, width) if spec.float_values == "pixels" else (height, width, 3)


def _put_behind(graph: ir.Graph, ending: Ending, *, is_cut: bool) -> None:
    """Append the network's output -> `logits` float32 (N, K)."""
    given = graph.outputs[0]
    chain = _Chain(graph, given)
    if given.dtype != ir.DataType.FLOAT:
        chain.add("Cast", to=ir.DataType.FLOAT)
    if given.shape is None or given.shape.rank() != 2:
        chain.add("Flatten", axis=1)
    if ending == "logit" or (ending == "probability" and is_cut):
        chain.add("Mul", np.array([[0, 1]], np.float32))  # the logit of the first label is 0
    elif ending == "probability":
        chain.add("Mul", np.array([[-1, 1]], np.float32))
        chain.add("Add", np.array([[1, 0]], np.float32))
    if ending in ("softmax", "probability") and not is_cut:
        chain.add("Max", np.array(LEAST, np.float32))
        chain.add("Log")
    if not chain.nodes:
        chain.add("Identity")
    for node in chain.nodes:
        graph.append(node)
    chain.value.name = "logits"
    chain.value.dtype = ir.DataType.FLOAT
    graph.outputs[0] = chain.value


def _cut(graph: ir.Graph, op_type: str, classes: int) -> bool:
    """Cut the last Softmax or Sigmoid off; return whether there was one that made the K numbers."""
    node = _last(graph)
    if node is None or not is_operator(node, op_type):
        return False
    made, x = node.outputs[0], node.inputs[0]
    if x is None or (op_type == "Softmax" and not _is_over(node, classes)):
        return False
    if made.is_graph_output():
        graph.outputs[graph.outputs.index(made)] = x
    take_out(graph, node)
    return True


def _is_over(node: ir.Node, classes: int) -> bool:
    """Return whether a Softmax goes over K numbers, as far as its shape is known."""
    shape = node.outputs[0].shape
    side = None if shape is None else shape[node.attributes.get_int("axis", -1)]
    return not isinstance(side, int) or side == classes


def _last(graph: ir.Graph, carriers: Collection[str] = CARRIERS) -> ir.Node | None:
    """Return the node that computes the graph's only output, skipping `carriers`, which pass values on.

    Other readers of a carried value compute a shape from it, because there is one output.
    """
    node = graph.outputs[0].producer()
    while node is not None and node.domain == "" and node.op_type in carriers and node.inputs[0] is not None:
        node = node.inputs[0].producer()
    return node


class _Chain:
    """A chain of nodes, each with a constant of its own where it needs one."""

    def __init__(self, graph: ir.Graph, value: ir.Value) -> None:
        self._graph, self._names = graph, FreeNames(graph)
        self._begins_at = value.name
        self.value = value
        self.nodes: list[ir.Node] = []

    def add(
        self, op_type: str, constant: NDArray[np.float32] | NDArray[np.int64] | None = None, **options: object
    ) -> None:
        name = self._names(f"taijitu_{self._begins_at}_{op_type.lower()}")
        inputs = [self.value]
        if constant is not None:
            inputs.append(add_constant(self._graph, f"{name}_by", constant, self._names))
        node = ir.node(op_type, inputs, dict(options), name=name)  # type: ignore[arg-type]  # plain numbers and lists
        node.outputs[0].name = name
        self.nodes.append(node)
        self.value = node.outputs[0]
