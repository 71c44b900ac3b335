"""ONNX -> TensorRT engine: parsed, built, its precision counted."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx

from taijitu_export.engine.gpu import Gpu
from taijitu_export.engine.layers import Count, count_engine, count_network, shortfall
from taijitu_export.engine.library import Library
from taijitu_export.engine.memory import limit_pools
from taijitu_export.engine.progress import Phases, progress_monitor
from taijitu_export.engine.shapes import Shapes, profile_for
from taijitu_export.engine.timing_cache import TimingCache
from taijitu_export.errors import ExportError
from taijitu_runtime.backends import nish_plugin
from taijitu_runtime.backends.trt_engine import logger_of
from taijitu_runtime.engine_card import ShapeRange, TensorSpec
from taijitu_runtime.errors import UsageError

HARDWARE_COMPATIBILITY = {
    "none": "NONE",
    "ampere+": "AMPERE_PLUS",
    "sameComputeCapability": "SAME_COMPUTE_CAPABILITY",
}


class BuildError(ExportError):
    """The library could not make an engine; `details`: one line for each of its errors."""

    def __init__(self, message: str, details: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.details = details


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What a build can be told.

    `precision`: "fp32", "fp16" or "int8". `pools`: bytes by memory.POOLS. `optimisation_level`: 0 to 5, None for the
    library's own. `compute_capabilities`: such as ("8.6", "8.9"), for TensorRT-RTX; none for its default, Ampere and
    later. `dla_core`: its number; what it cannot do runs on the GPU if `gpu_fallback`. `timing_cache`: a file, None for
    one in the user's cache folder. `nish_plugin`: the graph's Nish nodes are our plugin's. `progress`: show a bar,
    where there is a terminal.
    """

    precision: str = "fp32"
    shapes: Shapes = dataclasses.field(default_factory=lambda: Shapes({}, {}, {}))
    pools: Mapping[str, int] = dataclasses.field(default_factory=dict)
    optimisation_level: int | None = None
    hardware_compatibility: str = "none"
    version_compatible: bool = False
    compute_capabilities: tuple[str, ...] = ()
    dla_core: int | None = None
    gpu_fallback: bool = False
    tf32: bool = True
    timing_cache: Path | None = None
    nish_plugin: bool = False
    progress: bool = False


@dataclasses.dataclass(frozen=True)
class Built:
    """A plan, and what is to be known of it."""

    plan: bytes
    count: Count
    profile: dict[str, ShapeRange]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    flags: tuple[str, ...]
    workspace_bytes: int
    seconds: float


def is_typed(library: Library, options: Options) -> bool:
    """Whether the graph's own types are the engine's: from TensorRT 10.0 on and in TensorRT-RTX.

    Not for a DLA core before TensorRT 11.0, where DLA takes its precision from the builder's flags.
    """
    for_dla = options.dla_core is not None and library.has("precision flags")
    return library.has("typed network") and not for_dla


def check_options(library: Library, options: Options, gpu: Gpu | None) -> None:
    """UsageError for an option that this library has no use for, or that does not go with another.

    DeviceError for the plugin of Nish without its CUDA library.
    """
    if options.precision == "int8":
        library.need("quantised activations", "int8 (--int8, or an int8 graph)")
    if options.optimisation_level is not None:
        library.need("optimisation level", "--builderOptimizationLevel")
    if options.hardware_compatibility != "none":
        library.need("hardware compatibility", "--hardwareCompatibilityLevel")
    if options.hardware_compatibility == "sameComputeCapability":
        library.need("same compute capability", "--hardwareCompatibilityLevel=sameComputeCapability")
    if options.version_compatible:
        library.need("version compatibility", "--versionCompatible")
    if options.compute_capabilities:
        library.need("compute capabilities", "--computeCapabilities")
    if options.timing_cache is not None:
        library.need("timing cache", "--timingCacheFile")
    if options.nish_plugin:
        library.need("plugin for Nish", "--nishPlugin")
        nish_plugin.cuda_launcher()
    if options.dla_core is not None:
        library.need("DLA", "--useDLACore")
        if options.precision == "fp32":
            raise UsageError("got --useDLACore for float32, expected what a DLA core computes in; add --fp16 or --int8")
    if options.gpu_fallback and options.dla_core is None:
        raise UsageError("got --allowGPUFallback without --useDLACore; name a core, or leave it away")
    if "tacticSharedMem" in options.pools:
        library.need("tactic shared memory", "--memPoolSize=tacticSharedMem")
    for pool in options.pools:
        if pool.startswith("dla") and options.dla_core is None:
            raise UsageError(f"got --memPoolSize={pool} without --useDLACore; name a core, or leave it away")
    if gpu is None and not library.is_rtx:
        raise UsageError(
            f"got no GPU, expected the one that {library} is to build for: it tries its kernels out there; "
            "build on that machine, or with --backend=rtx for RTX cards"
        )


def engine_from_onnx(model: onnx.ModelProto, library: Library, options: Options, gpu: Gpu | None, kept: int) -> Built:
    """Build an engine from a model without functions (graph.parser_graph), for `gpu`, the one here, if any.

    `kept`: how many of its layers the graph keeps in float32. BuildError where the library cannot parse or build it,
    and where the engine's layers, counted, are not of the precision that was asked for.
    """
    trt, began = library.trt, time.perf_counter()
    logger = logger_of(trt)
    logger.messages.clear()
    if options.nish_plugin:
        nish_plugin.register_nish_plugin(trt)
    builder = _made(trt.Builder(logger), "start its builder", logger)
    network = builder.create_network(_network_flags(library, options))
    _parse(library, network, model, logger)
    inputs, outputs = _tensors(trt, network)
    profile = profile_for({tensor.name: tensor.shape for tensor in inputs}, options.shapes)
    config = builder.create_builder_config()
    config.add_optimization_profile(_optimisation_profile(builder, profile))
    _set_flags(library, builder, config, options)
    workspace_bytes = limit_pools(trt, config, dict(options.pools), gpu)
    flags = _flags_set(library, config, options)
    with TimingCache(library, config, gpu, options.timing_cache):
        plan = _build(library, builder, network, config, options, logger)
    count = _count(library, network, plan, gpu, logger)
    problem = shortfall(options.precision, count, kept)
    if problem:
        raise BuildError(f"not kept: asked for {options.precision}, {problem}")
    return Built(plan, count, profile, inputs, outputs, flags, workspace_bytes, time.perf_counter() - began)


def _network_flags(library: Library, options: Options) -> int:
    kinds, flags = library.trt.NetworkDefinitionCreationFlag, 0
    if library.has("explicit batch"):
        flags |= 1 << int(kinds.EXPLICIT_BATCH)
    if is_typed(library, options):
        flags |= 1 << int(kinds.STRONGLY_TYPED)
    return flags


def _parse(library: Library, network: Any, model: onnx.ModelProto, logger: Any) -> None:
    parser = library.trt.OnnxParser(network, logger)
    if parser.parse(model.SerializeToString()):
        return
    errors = [parser.get_error(index) for index in range(parser.num_errors)]
    details = tuple(_parser_error(library, error, model) for error in errors)
    raise BuildError(f"{library} cannot parse the graph: {len(details)} errors", details or _said(logger))


def _parser_error(library: Library, error: Any, model: onnx.ModelProto) -> str:
    """One error in one line: the node, its operator, the reason."""
    nodes, index = model.graph.node, error.node()
    name, operator = (error.node_name(), error.node_operator()) if library.has("parser's node names") else ("", "")
    if 0 <= index < len(nodes):
        name, operator = name or nodes[index].name, operator or nodes[index].op_type
    reason = " ".join(error.desc().split())
    if reason == "false":  # the condition that failed, in full
        reason = "this library does not have the operator"
    return f"node {name or index!r} ({operator or 'unknown operator'}): {reason} [{error.code().name}]"


def _tensors(trt: Any, network: Any) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    inputs = [network.get_input(index) for index in range(network.num_inputs)]
    outputs = [network.get_output(index) for index in range(network.num_outputs)]
    names = {"FLOAT": "float32", "HALF": "float16"}

    def spec(tensor: Any) -> TensorSpec:
        kind = tensor.dtype.name
        return TensorSpec(tensor.name, names.get(kind, kind.lower()), tuple(tensor.shape))

    return tuple(map(spec, inputs)), tuple(map(spec, outputs))


def _optimisation_profile(builder: Any, profile: Mapping[str, ShapeRange]) -> Any:
    made = builder.create_optimization_profile()
    for name, shapes in profile.items():
        made.set_shape(name, shapes.min, shapes.opt, shapes.max)
    return made


def _set_flags(library: Library, builder: Any, config: Any, options: Options) -> None:
    trt = library.trt
    # What the inspector tells of an engine, which is what its precision is counted from.
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if not options.tf32:
        config.clear_flag(trt.BuilderFlag.TF32)
    if not is_typed(library, options) and options.precision != "fp32":
        config.set_flag(getattr(trt.BuilderFlag, options.precision.upper()))
    if options.optimisation_level is not None:
        config.builder_optimization_level = options.optimisation_level
    if options.hardware_compatibility != "none":
        levels = trt.HardwareCompatibilityLevel
        config.hardware_compatibility_level = getattr(levels, HARDWARE_COMPATIBILITY[options.hardware_compatibility])
    if options.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if options.compute_capabilities:
        _set_compute_capabilities(library, config, options.compute_capabilities)
    if options.dla_core is not None:
        _set_dla(library, builder, config, options)


def _set_compute_capabilities(library: Library, config: Any, asked: tuple[str, ...]) -> None:
    known = library.trt.ComputeCapability.__members__
    config.num_compute_capabilities = len(asked)
    for index, number in enumerate(asked):
        name = f"SM{number.replace('.', '')}"
        if name not in known:
            numbers = ", ".join(f"{key[2:-1]}.{key[-1]}" for key in known if key.startswith("SM"))
            raise UsageError(f"got the compute capability {number}, expected of {library}: {numbers}")
        config.set_compute_capability(known[name], index)


def _set_dla(library: Library, builder: Any, config: Any, options: Options) -> None:
    trt = library.trt
    if not 0 <= (options.dla_core or 0) < builder.num_DLA_cores:
        raise UsageError(
            f"got --useDLACore={options.dla_core}, expected one of the {builder.num_DLA_cores} that TensorRT finds"
        )
    config.default_device_type = trt.DeviceType.DLA
    config.DLA_core = options.dla_core
    if options.gpu_fallback:
        config.set_flag(trt.BuilderFlag.GPU_FALLBACK)


def _flags_set(library: Library, config: Any, options: Options) -> tuple[str, ...]:
    names = [name for name, flag in library.trt.BuilderFlag.__members__.items() if config.get_flag(flag)]
    names += ["STRONGLY_TYPED"] if is_typed(library, options) else []
    return (*names, nish_plugin.FLAG) if options.nish_plugin else tuple(names)


def _build(library: Library, builder: Any, network: Any, config: Any, options: Options, logger: Any) -> bytes:
    phases = Phases(shown=options.progress)
    if library.has("progress"):
        # Kept in a variable: the library does not own it.
        monitor = progress_monitor(library.trt, phases)
        config.progress_monitor = monitor
    try:
        plan = builder.build_serialized_network(network, config)
    finally:
        phases.close()
    if phases.stopped:
        raise KeyboardInterrupt
    return bytes(_made(plan, "build the engine", logger))


def _count(library: Library, network: Any, plan: bytes, gpu: Gpu | None, logger: Any) -> Count:
    if library.is_rtx or gpu is None:
        return count_network(library.trt, network)
    runtime = library.trt.Runtime(logger)
    runtime.engine_host_code_allowed = True  # a version-compatible plan, which was just made here
    return count_engine(library.trt, _made(runtime.deserialize_cuda_engine(plan), "open the engine", logger))


def _made(thing: Any, what: str, logger: Any) -> Any:
    if thing is None:
        raise BuildError(f"TensorRT could not {what}", _said(logger))
    return thing


def _said(logger: Any) -> tuple[str, ...]:
    return tuple(" ".join(message.split()) for message in logger.messages) or ("it gave no reason",)
