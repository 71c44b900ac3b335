"""Find the GPU that an engine is built on, if there is one."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from taijitu_runtime.backends import cuda
from taijitu_runtime.errors import DeviceError, MissingDependencyError
from taijitu_runtime.machine import available_bytes, is_jetson

DRIVER_VERSION = Path("/sys/module/nvidia/version")


@dataclass(frozen=True)
class Gpu(cuda.GpuModel):
    """The GPU of a build. `driver`: its version; `free_bytes`: of memory that the build may use."""

    driver: str = ""
    free_bytes: int = 0


def local_gpu() -> Gpu | None:
    """Return the first GPU that CUDA shows; None without one, without a driver, or without cuda-bindings to ask it."""
    try:
        device = cuda.Gpu()
    except (DeviceError, MissingDependencyError):
        return None
    try:
        free_bytes = device.free_bytes
        # A Jetson has one memory for both; the kernel's file cache counts as free.
        if is_jetson():
            free_bytes = max(free_bytes, available_bytes())
        driver = DRIVER_VERSION.read_text().strip() if DRIVER_VERSION.exists() else device.driver
        return Gpu(**asdict(device.model), driver=driver, free_bytes=free_bytes)
    finally:
        device.close()
