"""The request for an engine, and whether its file could be written."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

from taijitu_export.engine.options import Options
from taijitu_export.engine.shapes import text_from_shapes
from taijitu_runtime.console import shown
from taijitu_runtime.engine_card import sidecar_of
from taijitu_runtime.errors import UsageError, listed
from taijitu_runtime.fields import is_one_line
from taijitu_runtime.model_files import ENGINE_SUFFIXES, is_engine
from taijitu_runtime.output_path import check_output_path


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
    """A request for an engine.

    `source`: the ONNX file; `output`: the plan's. `precision`: "fp16", "int8", or None for the graph's own. `answer`:
    whether the engine must run before it is kept, where there is a GPU for it.
    """

    source: Path
    output: Path
    backend: str = "auto"
    precision: str | None = None
    options: Options = dataclasses.field(default_factory=Options)
    answer: bool = True

    @property
    def relative_source(self) -> str:
        """The path of the ONNX file in the sidecar: relative to the plan's folder.

        Without the links in both folders, because the system takes ".." from the folder that a link names.
        """
        folder = os.path.realpath(self.source.parent)
        return Path(os.path.relpath(Path(folder, self.source.name), os.path.realpath(self.output.parent))).as_posix()

    @property
    def arguments(self) -> tuple[str, ...]:
        """The arguments of `taijitu engine` that build this engine again, except the files and the backend."""
        options = self.options
        level, core, hardware = options.optimisation_level, options.dla_core, options.hardware_compatibility
        values = {
            "fp16": self.precision == "fp16",
            "int8": self.precision == "int8",
            "noTF32": not options.tf32,
            "minShapes": text_from_shapes(options.shapes.min),
            "optShapes": text_from_shapes(options.shapes.opt),
            "maxShapes": text_from_shapes(options.shapes.max),
            "computeCapabilities": ",".join(options.compute_capabilities),
            "hardwareCompatibilityLevel": "" if hardware == "none" else hardware,
            "versionCompatible": options.version_compatible,
            "useDLACore": "" if core is None else str(core),
            "allowGPUFallback": options.gpu_fallback,
            "memPoolSize": ",".join(f"{pool}:{size_bytes}B" for pool, size_bytes in options.pools.items()),
            "builderOptimizationLevel": "" if level is None else str(level),
            "nishPlugin": options.nish_plugin,
            "skipInference": not self.answer,
        }
        return tuple(f"--{name}" if value is True else f"--{name}={value}" for name, value in values.items() if value)


def check_output(request: Request) -> None:
    """Raise UsageError where no engine can be written, before minutes are spent on one."""
    output = request.output
    if not is_engine(output):
        raise UsageError(
            f"got {output} for the engine, expected a name in {listed(ENGINE_SUFFIXES, between=' or ')}, by which the "
            "other commands know an engine; give --saveEngine=model.engine"
        )
    for file in (output, sidecar_of(output)):
        check_output_path(file, request.source)
    # check_text in Source, after the build, expects the same.
    if not is_one_line(request.relative_source):
        raise UsageError(
            f"got {shown(request.source)}, a path that is not UTF-8 or has control characters, expected one line of "
            "text, as the sidecar names it; rename it"
        )
