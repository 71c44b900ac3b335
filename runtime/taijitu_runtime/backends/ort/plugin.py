"""NVIDIA's TensorRT-RTX as a plugin of ONNX Runtime: an ONNX file on an RTX card, without an engine built by hand."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from taijitu_runtime.cache import cache_folder, folder_of_model, private_folder
from taijitu_runtime.errors import MissingDependencyError, ProviderError, require
from taijitu_runtime.providers import RTX

MODULE, PACKAGE = "onnxruntime_ep_nv_tensorrt_rtx", "onnxruntime-ep-nv-tensorrt-rtx"
REGISTRATION = "taijitu_rtx"


class PluginProviders(list[tuple[str, dict[str, str]]]):
    """Names and options as of any provider, and the `devices` that the plugin computes on."""

    devices: list[Any]


def rtx_provider(ort: Any, model: Path | None) -> PluginProviders:
    """Load the plugin into `ort`, onnxruntime, and choose the first GPU that it can use.

    Args:
        ort: The module onnxruntime.
        model: Its file, for which compiled kernels are kept; None keeps none.

    Raises:
        ProviderError: The plugin is not installed, does not load, or finds no GPU. The errors of the library are those
            of loading it; `reason` has them as they came.
    """
    if not hasattr(ort, "register_execution_provider_library"):
        text = f"onnxruntime {ort.__version__} takes no plugins"
        raise ProviderError("rtx", text, "pip install --upgrade 'onnxruntime>=1.23'")
    try:
        plugin = require(MODULE, PACKAGE)
    except MissingDependencyError:
        raise ProviderError("rtx", f"{PACKAGE} is not installed", f"pip install {PACKAGE}-cu13 (or -cu12)") from None
    _registered(ort, plugin.get_library_path())
    providers = PluginProviders([(RTX, _options(model))])
    providers.devices = [device for device in ort.get_ep_devices() if device.ep_name == RTX][:1]
    return providers


@functools.cache
def _registered(ort: Any, library: str) -> None:
    """Register the plugin's library, once in a process; a failure is not remembered."""
    ort.register_execution_provider_library(REGISTRATION, library)


def _options(model: Path | None) -> dict[str, str]:
    if model is None:
        return {}
    try:
        folder = private_folder(cache_folder() / "onnxruntime-rtx")
        kernels = folder_of_model(folder, model.read_bytes())
    except (OSError, RuntimeError):  # no cache: kernels are compiled at each start
        return {}
    return {"nv_runtime_cache_path": str(kernels)}
