"""Set the builder's configuration: flags, pools and the optimisation profile."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from taijitu_export.engine.building.failures import BuildError, log_lines, not_none
from taijitu_export.engine.library import Library
from taijitu_export.engine.memory import limit_pools
from taijitu_export.engine.options import Options
from taijitu_export.engine.shapes import profile_for
from taijitu_export.engine.target import Target
from taijitu_runtime.backends.trt import nish_plugin
from taijitu_runtime.backends.trt.logger import logger_of
from taijitu_runtime.engine_card import HARDWARE_COMPATIBILITY, ShapeRange, TensorSpec
from taijitu_runtime.errors import UsageError


@dataclass(frozen=True)
class Configuration:
    """An IBuilderConfig, and the settings in it."""

    config: Any
    profile: dict[str, ShapeRange]
    flags: tuple[str, ...]
    workspace_bytes: int


def configuration(target: Target, builder: Any, inputs: tuple[TensorSpec, ...]) -> Configuration:
    """Configure a build as the options of `target` say. UsageError for those that the builder or inputs cannot take."""
    logger = logger_of(target.library.trt)
    config = not_none(builder.create_builder_config(), "create a configuration", logger)
    profile = profile_for({tensor.name: tensor.shape for tensor in inputs}, target.options.shapes)
    if config.add_optimization_profile(_optimisation_profile(builder, profile, logger)) < 0:
        raise BuildError(f"TensorRT could not take the shapes {profile}", log_lines(logger))
    _set_flags(target, builder, config)
    workspace_bytes = limit_pools(target.library.trt, config, dict(target.options.pools), target.gpu)
    return Configuration(config, profile, _flags_set(target, config), workspace_bytes)


def _optimisation_profile(builder: Any, profile: Mapping[str, ShapeRange], logger: Any) -> Any:
    new = not_none(builder.create_optimization_profile(), "create an optimisation profile", logger)
    for name, shapes in profile.items():
        new.set_shape(name, shapes.min, shapes.opt, shapes.max)
    return new


def _set_flags(target: Target, builder: Any, config: Any) -> None:
    library, options = target.library, target.options
    trt = library.trt
    # The inspector's detail, from which the precision is counted.
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if not options.tf32:
        config.clear_flag(trt.BuilderFlag.TF32)
    if not target.is_typed and options.precision != "fp32":
        config.set_flag(trt.BuilderFlag.FP16)  # with int8 too, for the layers between the int8 ones
        if options.precision == "int8":
            config.set_flag(trt.BuilderFlag.INT8)
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
    members = library.trt.ComputeCapability.__members__
    known = {f"{name[2:-1]}.{name[-1]}": member for name, member in members.items() if name.startswith("SM")}
    if len(set(asked)) < len(asked):
        raise UsageError(f"got the compute capabilities {', '.join(asked)}, expected each once")
    config.num_compute_capabilities = len(asked)
    for index, number in enumerate(asked):
        if number not in known:
            raise UsageError(
                f"got the compute capability {number}, expected one that {library} knows: {', '.join(known)}"
            )
        config.set_compute_capability(known[number], index)


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


def _flags_set(target: Target, config: Any) -> tuple[str, ...]:
    names = [name for name, flag in target.library.trt.BuilderFlag.__members__.items() if config.get_flag(flag)]
    names += ["STRONGLY_TYPED"] if target.is_typed else []
    return (*names, nish_plugin.FLAG) if target.options.nish_plugin else tuple(names)
