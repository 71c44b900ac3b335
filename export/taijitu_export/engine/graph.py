"""The ONNX graph on its way to the parser: read, converted where the precision asks for it, and free of functions."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import onnx
import onnx.inliner
import onnx.shape_inference

from taijitu_export.precision.conversion import MAX_DROP, PrecisionRequest, calibration_data_for, convert
from taijitu_runtime.card import ModelCard
from taijitu_runtime.backends import CHECKPOINT_MAGIC, nish_plugin
from taijitu_runtime.backends.base import check_file
from taijitu_runtime.card import METADATA_PREFIX
from taijitu_runtime.errors import ArtefactError, UsageError

QUANTISERS = ("QuantizeLinear", "DequantizeLinear")
STANDARD_DOMAINS = ("", "ai.onnx")
EXPORT = "taijitu onnx checkpoint.pt -o model.onnx"
NISH = (nish_plugin.NAMESPACE, nish_plugin.NAME)


@dataclasses.dataclass(frozen=True)
class Graph:
    """An ONNX model with its card, and the sha256 of the file. `notes`: what was done to it, for the user."""

    model: onnx.ModelProto
    card: ModelCard
    sha256: str
    notes: tuple[str, ...] = ()

    @property
    def is_quantised(self) -> bool:
        """Whether it has QuantizeLinear or DequantizeLinear nodes."""
        return any(node.op_type in QUANTISERS for node in self.model.graph.node)


def read_graph(path: Path) -> Graph:
    """Read an ONNX file that `taijitu onnx` wrote. ArtefactError where it is none."""
    check_file(path)
    content = path.read_bytes()
    try:
        model = onnx.load_from_string(content)
    except Exception:  # protobuf's DecodeError, whose package has no types
        model = onnx.ModelProto()
    if not model.graph.node:
        got = "a checkpoint" if content.startswith(CHECKPOINT_MAGIC) else "a file that is no ONNX model"
        raise ArtefactError(f"{path}: got {got}, expected a model made by: {EXPORT}")
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    if not any(key.startswith(METADATA_PREFIX) for key in metadata):
        raise ArtefactError(
            f"{path}: got an ONNX model without taijitu's metadata (labels, preprocessing), "
            f"expected a model made by: {EXPORT}"
        )
    try:
        card = ModelCard.read_onnx_metadata(metadata)
    except ArtefactError as error:
        raise ArtefactError(f"{path}: {error}") from None
    return Graph(model, card, hashlib.sha256(content).hexdigest())


def float16_graph(graph: Graph) -> Graph:
    """A float32 graph in float16, by the conversion of export/to_onnx.py and judged like it on 64 random pictures.

    PrecisionError where it would cost accuracy.
    """
    smaller = PrecisionRequest("fp16", None, MAX_DROP["fp16"])
    model, report = convert(graph.model, graph.card, smaller, calibration_data_for(smaller, graph.card))
    card = ModelCard.read_onnx_metadata({entry.key: entry.value for entry in model.metadata_props})
    return dataclasses.replace(graph, model=model, card=card, notes=(*graph.notes, *report))


def check_precision(graph: Graph, path: Path, asked: str) -> None:
    """UsageError where the graph cannot become an engine of the precision "fp32", "fp16" or "int8"."""
    has = graph.card.precision.name
    if asked == "int8" and not graph.is_quantised:
        raise UsageError(
            f"{path}: got --int8 for a graph without QuantizeLinear and DequantizeLinear, expected one with scales; "
            "do: taijitu onnx ckpt.pt -o model.int8.onnx --precision int8 --calibration DIR"
        )
    if asked == "fp16" and graph.is_quantised:
        raise UsageError(f"{path}: got --fp16 for an int8 graph, expected --int8, or the float32 or float16 ONNX file")
    if asked == "fp32" and has != "fp32":
        raise UsageError(f"{path}: got a graph in {has}, expected float32")


def parser_graph(graph: Graph, *, plugin: bool = False) -> onnx.ModelProto:
    """The model with its functions written out in standard operators, which every parser knows.

    TensorRT 8 does not parse functions, and 10.3 confuses names inside them with those outside; so none gets any.
    `plugin`: but for Nish, whose nodes stay, for the plugin; UsageError where there are none.
    ArtefactError for a node of another domain that is left: it has no definition in the file, TensorRT-RTX has no
    plugins that could be its own, and its parser ends the process for some of them.
    """
    # A function of another opset than the graph's has to be converted, for which the types must be known.
    typed = onnx.shape_inference.infer_shapes(graph.model)
    if plugin:
        _drop_definition(typed, NISH)
    try:
        model = onnx.inliner.inline_local_functions(typed, convert_version=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise ArtefactError(f"got functions that cannot be written out ({reason}); export it again") from None
    known = {(opset.domain, opset.version) for opset in model.opset_import}
    for node in model.graph.node:
        version = next((version for domain, version in known if domain == node.domain), 0)
        if node.domain in STANDARD_DOMAINS and onnx.defs.has(node.op_type, version, node.domain):
            continue
        if plugin and (node.domain, node.op_type) == NISH:
            _name_plugin(node)
            continue
        name = f"{node.domain}::{node.op_type}" if node.domain else node.op_type
        raise ArtefactError(
            f"got the node {node.name or node.output[0]!r} of type {name} without its definition, expected it as a "
            "function in the file; export it again: taijitu onnx ckpt.pt -o model.onnx"
        )
    return _with_names(model)


def _drop_definition(model: onnx.ModelProto, function: tuple[str, str]) -> None:
    """So that the parser has the plugin or fails, and never takes the definition instead without a word."""
    if not any((node.domain, node.op_type) == function for node in model.graph.node):
        raise UsageError(
            f"got --nishPlugin for a graph without a node {'::'.join(function)}, expected one that to_onnx.py wrote "
            "with --nish op; leave it away"
        )
    kept = [each for each in model.functions if (each.domain, each.name) != function]
    del model.functions[:]
    model.functions.extend(kept)


def _name_plugin(node: onnx.NodeProto) -> None:
    """Say in full which plugin a node is: before 10.10 the parser does not try the node's domain as its namespace."""
    for name, value in (("plugin_namespace", nish_plugin.NAMESPACE), ("plugin_version", nish_plugin.VERSION)):
        node.attribute.append(onnx.helper.make_attribute(name, value))


def _with_names(model: onnx.ModelProto) -> onnx.ModelProto:
    """Nodes without a name get that of their first output, so that an error can say where it is."""
    for node in model.graph.node:
        node.name = node.name or node.output[0]
    return model
