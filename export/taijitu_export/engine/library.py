"""TensorRT or TensorRT-RTX: one Python API in two modules, so one module object serves for both."""

from __future__ import annotations

import importlib.util
import platform
from dataclasses import dataclass
from typing import Any

from taijitu_export.engine.gpu import Gpu
from taijitu_export.engine.versions import DIFFERENCES, OLDEST
from taijitu_runtime.engine_card import LIBRARIES, LIBRARY_INSTALLS, RTX_COMPUTE_CAPABILITIES
from taijitu_runtime.errors import MissingDependencyError, UsageError, require
from taijitu_runtime.machine import is_jetson

BACKENDS = {"tensorrt": "tensorrt", "rtx": "tensorrt_rtx"}


@dataclass(frozen=True)
class Library:
    """A loaded library. `module`: "tensorrt" or "tensorrt_rtx"; `trt`: the module itself; `version`: such as "10.3.0".

    `reason`: why this one was taken, where the user did not choose.
    """

    module: str
    trt: Any
    version: str
    reason: str = ""

    def __str__(self) -> str:
        return f"{LIBRARIES[self.module]} {self.version}"

    @property
    def number(self) -> tuple[int, int]:
        """The first two numbers of the version."""
        major, minor = self.version.split(".")[:2]
        return int(major), int(minor)

    @property
    def backend(self) -> str:
        """Its name for --backend."""
        return "rtx" if self.is_rtx else "tensorrt"

    @property
    def is_rtx(self) -> bool:
        """Whether this is TensorRT-RTX, which builds without a GPU."""
        return self.module == "tensorrt_rtx"

    def has(self, feature: str) -> bool:
        """Return whether this release has the feature, by its name in versions.DIFFERENCES."""
        difference = DIFFERENCES[feature]
        return difference.rtx == "used" if self.is_rtx else difference.in_tensorrt(self.number)

    def need(self, feature: str, flag: str) -> None:
        """Raise UsageError, with the table's reason, where `flag` asks for a feature that this release lacks."""
        if not self.has(feature):
            raise UsageError(f"got {flag}, which {self} does not use: {DIFFERENCES[feature].why}; remove it")


def open_library(backend: str, gpu: Gpu | None, *, for_rtx: bool) -> Library:
    """Load the library for `backend`, "tensorrt", "rtx" or "auto".

    "auto" takes the only one that is installed. If both are: TensorRT-RTX `for_rtx` (compute capabilities are named),
    without a GPU, and for a GPU that it is made for; otherwise TensorRT. MissingDependencyError where it is not
    installed; UsageError for one that is too old.
    """
    module, reason = (BACKENDS[backend], "") if backend != "auto" else _chosen(gpu, for_rtx)
    trt = require(module, LIBRARY_INSTALLS[module])
    library = Library(module, trt, str(trt.__version__), reason)
    if library.number < OLDEST[module]:
        oldest = ".".join(map(str, OLDEST[module]))
        raise UsageError(f"got {library}, expected {oldest} or later; update it, or build in a container that has it")
    return library


def _chosen(gpu: Gpu | None, for_rtx: bool) -> tuple[str, str]:
    installed = [module for module in LIBRARIES if importlib.util.find_spec(module) is not None]
    if len(installed) == 1:
        return installed[0], "the only one that is installed"
    if not installed:
        if is_jetson():
            detail = "on a Jetson it comes with JetPack: make the venv with --system-site-packages"
            raise MissingDependencyError("tensorrt", "taijitu[gpu]", detail)
        raise MissingDependencyError("tensorrt_rtx", "taijitu[rtx]", "nor tensorrt")
    if for_rtx:
        return "tensorrt_rtx", "--computeCapabilities is for it"
    if gpu is None:
        return "tensorrt_rtx", "there is no GPU here, and it needs none to build"
    if platform.machine() == "x86_64" and gpu.compute_capability in RTX_COMPUTE_CAPABILITIES:
        return "tensorrt_rtx", f"it is made for GPUs like {gpu.name}"
    return "tensorrt", f"TensorRT-RTX does not run on {gpu.name}"
