"""Prepare the ONNX graph for the parser: in the precision that is asked for, and without functions."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Iterator
from string import ascii_lowercase

import onnx
import onnx.inliner
import onnx.shape_inference
import onnx_ir as ir
from onnx_ir.passes.common import LiftConstantsToInitializersPass, RemoveInitializersFromInputsPass

from taijitu_export.engine.graph import Graph
from taijitu_export.engine.target import Target
from taijitu_export.onnx.onnx_file import INITIALIZERS_ALONE, STANDARD_DOMAINS
from taijitu_export.onnx.passes import Float16Pass
from taijitu_export.onnx.passes.editing import applied, with_types
from taijitu_export.precision.calibration_data import CalibrationData
from taijitu_export.precision.conversion import PrecisionRequest, convert
from taijitu_runtime.backends.trt import nish_plugin
from taijitu_runtime.errors import ArtefactError, UsageError, one_line
from taijitu_runtime.onnx_graph.nish import NISH


def graph_for_parser(graph: Graph, target: Target) -> Graph:
    """Return the graph of a file for the parser of `target`, with the precision in its card.

    UsageError where it cannot become an engine of that precision, PrecisionError where that would cost accuracy,
    ArtefactError for a node without a definition.
    """
    check_precision(graph, target.options.precision)
    check_inputs(graph)
    if graph.has_float16_scales and not target.library.has("float16 scales"):
        raise UsageError(
            f"{graph.path}: got an int8 graph with float16 between its layers, which {target.library} does not parse, "
            "expected one with float32 there; do: taijitu onnx ckpt.pt -o model.int8.onnx --precision int8 --for cpu "
            "--calibration DIR"
        )
    try:
        if target.options.precision == "fp16" and graph.precision == "fp32" and target.is_typed:
            graph = _in_float16(graph, plugin=target.options.nish_plugin)
        return dataclasses.replace(graph, model=without_functions(graph.model, plugin=target.options.nish_plugin))
    except ArtefactError as error:
        raise ArtefactError(f"{graph.path}: {error}") from None


def _in_float16(graph: Graph, *, plugin: bool) -> Graph:
    """Convert the graph's layers to float16; with a contract, those that would cost accuracy stay in float32."""
    if graph.card is None:
        model = applied(Float16Pass(), with_types(_plain(graph.model, plugin=plugin)))
        note = "float16: every layer that can be; not judged, because the file does not describe its input"
        return dataclasses.replace(graph, model=model, notes=(*graph.notes, note))
    generated = CalibrationData.generated(graph.card)
    converted = convert(graph.model, graph.card, PrecisionRequest("fp16"), generated)
    notes = (*graph.notes, *converted.report)
    return dataclasses.replace(graph, model=converted.model, card=converted.card, notes=notes)


def _plain(model: onnx.ModelProto, *, plugin: bool) -> onnx.ModelProto:
    """Return a foreign graph as Float16Pass takes it: without functions, and with constants as initialisers alone.

    A function may choose a type itself, a constant in a node may be larger than float16's largest number, and one that
    is an input of the graph too, as before IR version 4, would keep its type there. With `plugin`, functions stay: a
    Nish without its definition has no known type.
    """
    graph = ir.from_proto(model if plugin else without_functions(model))
    lifted = ir.passes.Sequential(
        RemoveInitializersFromInputsPass(), LiftConstantsToInitializersPass(lift_all_constants=True)
    )
    plain = ir.to_proto(lifted(graph).model)
    plain.ir_version = max(plain.ir_version, INITIALIZERS_ALONE)
    return plain


def check_precision(graph: Graph, asked: str) -> None:
    """Raise UsageError where the graph cannot become an engine of the precision "fp32", "fp16" or "int8"."""
    if asked == "int8" and not graph.is_quantised:
        file = shlex.quote(str(graph.path))
        raise UsageError(
            f"{graph.path}: got --int8 for a graph without QuantizeLinear and DequantizeLinear, expected one with "
            f"scales; do: taijitu onnx {file} -o model.int8.onnx --precision int8 --calibration DIR"
        )
    if asked == "fp16" and graph.is_quantised:
        raise UsageError(
            f"{graph.path}: got --fp16 for an int8 graph, expected --int8, or the float32 or float16 ONNX file"
        )
    if asked == "fp32" and graph.precision != "fp32":
        raise UsageError(f"{graph.path}: got a graph in {graph.precision}, expected float32")


def check_inputs(graph: Graph) -> None:
    """Raise ArtefactError where there is no input, or one without a shape: the parser takes it for a single number."""
    values = {each.name for each in graph.model.graph.initializer}
    inputs = [tensor for tensor in graph.model.graph.input if tensor.name not in values]
    if not inputs:
        raise ArtefactError(f"{graph.path}: got a network without an input, expected one at least; export it again")
    for tensor in inputs:
        kind = tensor.type
        if kind.HasField("tensor_type") and not kind.tensor_type.HasField("shape"):
            raise ArtefactError(
                f"{graph.path}: got the input {tensor.name} with an unknown number of dimensions, expected its shape, "
                "with names for those that are open; export it again"
            )


def without_functions(model: onnx.ModelProto, *, plugin: bool = False) -> onnx.ModelProto:
    """Write the model's functions out in standard operators, which every parser knows.

    TensorRT 8 does not parse functions, and 10.3 confuses names inside them with those outside; so all are written out.
    `plugin`: except Nish, whose nodes stay, for the plugin; UsageError where there are none.
    ArtefactError for a remaining node of another domain: it has no definition in the file, TensorRT-RTX has no
    plugins that could be its own, and its parser ends the process for some of them.
    """
    # A function of another opset than the graph's has to be converted, for which the types must be known.
    typed = onnx.shape_inference.infer_shapes(model)
    if plugin:
        _drop_definition(typed, NISH)
    try:
        model = onnx.inliner.inline_local_functions(typed, convert_version=True)
    except RuntimeError as error:
        reason = one_line(error)
        raise ArtefactError(f"got functions that cannot be written out ({reason}); export it again") from None
    known = {(opset.domain, opset.version) for opset in model.opset_import}
    for node in _nodes(model.graph):
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
    return _tidied(model)


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Yield the nodes of a graph, and of the branches and bodies in it."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _nodes(inner)


def _drop_definition(model: onnx.ModelProto, function: tuple[str, str]) -> None:
    """Remove it, so that the parser has the plugin or fails, and never silently uses the definition instead."""
    if not any((node.domain, node.op_type) == function for node in _nodes(model.graph)):
        raise UsageError(
            f"got --nishPlugin for a graph without a node {'::'.join(function)}, expected one that taijitu "
            "onnx wrote with --nish op; remove the flag"
        )
    others = [each for each in model.functions if (each.domain, each.name) != function]
    del model.functions[:]
    model.functions.extend(others)


def _name_plugin(node: onnx.NodeProto) -> None:
    """Name a node's plugin in full: before 10.10 the parser does not try the node's domain as its namespace."""
    for name, value in (("plugin_namespace", nish_plugin.NAMESPACE), ("plugin_version", nish_plugin.VERSION)):
        node.attribute.append(onnx.helper.make_attribute(name, value))


def _tidied(model: onnx.ModelProto) -> onnx.ModelProto:
    """Give nodes without a name that of their first output, for errors, and write them as the parser takes them.

    ONNX means the same by an optional input that is empty and one that is absent; the parser refuses an empty bias.
    """
    for node in _nodes(model.graph):
        node.name = node.name or node.output[0]
        while node.input and not node.input[-1]:
            del node.input[-1]
        if node.op_type == "Einsum":
            _in_lower_case(node)
    return model


def _in_lower_case(einsum: onnx.NodeProto) -> None:
    """Rename the axes of an equation with capitals, which torch and ONNX Runtime take and the parser does not.

    The letters keep their order, by which an equation without "->" orders the axes of its result.
    """
    for attribute in einsum.attribute:
        equation = attribute.s.decode()
        letters = sorted(filter(str.isalpha, set(equation)))
        if attribute.name == "equation" and equation != equation.lower() and len(letters) <= len(ascii_lowercase):
            attribute.s = equation.translate(str.maketrans(dict(zip(letters, ascii_lowercase)))).encode()
