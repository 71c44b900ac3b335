"""The options of a build."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from taijitu_export.engine.shapes import Shapes


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """The options of a build.

    `precision`: "fp32", "fp16" or "int8". `pools`: bytes by memory.POOLS. `optimisation_level`: 0 to 5, None for the
    library's own. `compute_capabilities`: such as ("8.6", "8.9"), for TensorRT-RTX; none for its default, Ampere and
    later. `dla_core`: its number; layers that it lacks run on the GPU if `gpu_fallback`. `timing_cache`: a file, None
    for one in the user's cache folder. `nish_plugin`: the graph's Nish nodes are taijitu's plugin. `progress`: show a
    bar, where there is a terminal.
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
