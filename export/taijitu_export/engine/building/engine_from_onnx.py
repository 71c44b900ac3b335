"""Convert ONNX to a TensorRT engine: parse, configure, build, count its precision; each once, in this order."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import onnx

from taijitu_export.engine.building.build_config import configuration
from taijitu_export.engine.building.failures import BuildError, log_lines, not_none
from taijitu_export.engine.building.layers import LayerCount, count_layers, type_name
from taijitu_export.engine.building.progress import BuildProgress, ended_by_ctrl_c, progress_monitor
from taijitu_export.engine.building.timing_cache import TimingCache
from taijitu_export.engine.graph import Graph
from taijitu_export.engine.library import Library
from taijitu_export.engine.target import Target
from taijitu_runtime.backends.trt import nish_plugin
from taijitu_runtime.backends.trt.logger import logger_of
from taijitu_runtime.engine_card import ShapeRange, TensorSpec


@dataclasses.dataclass(frozen=True)
class Built:
    """A plan, and what was measured while it was built."""

    plan: bytes
    count: LayerCount
    profile: dict[str, ShapeRange]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    flags: tuple[str, ...]
    workspace_bytes: int
    seconds: float


def engine_from_onnx(graph: Graph, target: Target) -> Built:
    """Build an engine of a graph without functions (graph_for_parser).

    BuildError where the library cannot parse or build it, and where the engine's layers, counted, are not of the
    precision that was asked for.
    """
    phases = BuildProgress(shown=target.options.progress)
    with ended_by_ctrl_c(phases):
        return _built(graph, target, phases)


def _built(graph: Graph, target: Target, phases: BuildProgress) -> Built:
    library, options, began = target.library, target.options, time.perf_counter()
    logger = logger_of(library.trt)
    logger.messages.clear()
    if options.nish_plugin:
        nish_plugin.register_nish_plugin(library.trt)
    builder = not_none(library.trt.Builder(logger), "start its builder", logger)
    network = not_none(builder.create_network(_network_flags(target)), "create a network", logger)
    _parse(library, network, graph.model, logger)
    inputs, outputs = _tensors(network)
    configured = configuration(target, builder, inputs)
    with TimingCache(library, configured.config, target.gpu, options.timing_cache):
        plan = _build(target, builder, network, configured.config, phases)
    count = count_layers(target, network, plan, graph.excluded_layers)
    return Built(
        plan=plan,
        count=count,
        profile=configured.profile,
        inputs=inputs,
        outputs=outputs,
        flags=configured.flags,
        workspace_bytes=configured.workspace_bytes,
        seconds=time.perf_counter() - began,
    )


def _network_flags(target: Target) -> int:
    kinds, flags = target.library.trt.NetworkDefinitionCreationFlag, 0
    if target.library.has("explicit batch"):
        flags |= 1 << int(kinds.EXPLICIT_BATCH)
    if target.is_typed:
        flags |= 1 << int(kinds.STRONGLY_TYPED)
    return flags


def _parse(library: Library, network: Any, model: onnx.ModelProto, logger: Any) -> None:
    parser = not_none(library.trt.OnnxParser(network, logger), "start its parser", logger)
    if parser.parse(model.SerializeToString()):
        return
    errors = [parser.get_error(index) for index in range(parser.num_errors)]
    details = tuple(_parser_error(library, error, model) for error in errors)
    raise BuildError(f"{library} cannot parse the graph: {len(details)} errors", details or log_lines(logger))


def _parser_error(library: Library, error: Any, model: onnx.ModelProto) -> str:
    """Return one error in one line: the node, its operator, the reason."""
    nodes, index = model.graph.node, error.node()
    name, operator = (error.node_name(), error.node_operator()) if library.has("parser's node names") else ("", "")
    if 0 <= index < len(nodes):
        name, operator = name or nodes[index].name, operator or nodes[index].op_type
    reason = " ".join(error.desc().split())
    if reason == "false":  # the condition that failed, in full
        reason = "this library does not have the operator"
    return f"node {name or index!r} ({operator or 'unknown operator'}): {reason} [{error.code().name}]"


def _tensors(network: Any) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    inputs = [network.get_input(index) for index in range(network.num_inputs)]
    outputs = [network.get_output(index) for index in range(network.num_outputs)]

    def spec(tensor: Any) -> TensorSpec:
        return TensorSpec(tensor.name, type_name(tensor.dtype.name), tuple(tensor.shape))

    return tuple(map(spec, inputs)), tuple(map(spec, outputs))


def _build(target: Target, builder: Any, network: Any, config: Any, phases: BuildProgress) -> bytes:
    if target.library.has("progress"):
        # Kept in a variable: the library does not own it.
        monitor = progress_monitor(target.library.trt, phases)
        config.progress_monitor = monitor
    try:
        plan = builder.build_serialized_network(network, config)
    finally:
        phases.close()
    if phases.stopped:
        raise KeyboardInterrupt
    return bytes(not_none(plan, "build the engine", logger_of(target.library.trt)))
