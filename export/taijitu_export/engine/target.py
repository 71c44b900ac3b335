"""The target of a build: the library, its options, and the local GPU."""

from __future__ import annotations

import dataclasses

from taijitu_export.engine.gpu import Gpu, local_gpu
from taijitu_export.engine.library import Library, open_library
from taijitu_export.engine.options import Options
from taijitu_runtime.backends.trt import nish_plugin
from taijitu_runtime.engine_card import AMPERE
from taijitu_runtime.errors import UsageError
from taijitu_runtime.installed import version_numbers


@dataclasses.dataclass(frozen=True)
class Target:
    """A library, its options, and the local GPU, if any."""

    library: Library
    options: Options
    gpu: Gpu | None

    @property
    def is_typed(self) -> bool:
        """Whether the graph's own types are the engine's: from TensorRT 10.0 on and in TensorRT-RTX.

        Not for a DLA core before TensorRT 11.0, where DLA takes its precision from the builder's flags.
        """
        for_dla = self.options.dla_core is not None and self.library.has("precision flags")
        return self.library.has("typed network") and not for_dla

    @property
    def runs_here(self) -> bool:
        """Whether an engine that is built for it runs on the local GPU.

        TensorRT builds for that GPU; TensorRT-RTX for the GPUs that are named, by default for Ampere and later.
        """
        if self.gpu is None or not self.library.is_rtx:
            return self.gpu is not None
        wanted, here = self.options.compute_capabilities, self.gpu.compute_capability
        return here in wanted if wanted else version_numbers(here) >= AMPERE


def open_target(backend: str, options: Options) -> Target:
    """Load the library for `backend` ("auto", "tensorrt" or "rtx") and check the options.

    UsageError for an option that the library does not use; MissingDependencyError where the library is missing.
    """
    gpu = local_gpu()
    library = open_library(backend, gpu, for_rtx=bool(options.compute_capabilities))
    check_options(library, options, gpu)
    return Target(library, options, gpu)


def check_options(library: Library, options: Options, gpu: Gpu | None) -> None:
    """Raise UsageError for an option that this library does not use, or that contradicts another.

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
        raise UsageError("got --allowGPUFallback without --useDLACore; name a core, or remove it")
    if "tacticSharedMem" in options.pools:
        library.need("tactic shared memory", "--memPoolSize=tacticSharedMem")
    for pool in options.pools:
        if pool.startswith("dla") and options.dla_core is None:
            raise UsageError(f"got --memPoolSize={pool} without --useDLACore; name a core, or remove it")
    if gpu is None and not library.is_rtx:
        raise UsageError(
            f"got no GPU, expected the one that {library} builds for, as it times its kernels there; "
            "build on that machine, or with --backend=rtx for RTX cards"
        )
