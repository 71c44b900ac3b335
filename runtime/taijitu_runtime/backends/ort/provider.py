"""ONNX Runtime's execution providers by short names; a requested one that does not load is an error.

ONNX Runtime itself continues with the CPU then: it logs or prints that, and the session looks like any other.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import io
import platform
import re
import threading
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

from taijitu_runtime.backends.ort import plugin
from taijitu_runtime.backends.ort.options import LOG_FATAL, LOG_WARNING
from taijitu_runtime.cache import cache_folder, folder_of_model, private_folder
from taijitu_runtime.errors import ProviderError, one_line
from taijitu_runtime.installed import installed_versions
from taijitu_runtime.machine import is_jetson
from taijitu_runtime.onnx_graph.external_data import has_external_data
from taijitu_runtime.providers import PROVIDERS, RTX, TENSORRT

Options = dict[str, str]
NewSession = Callable[[list[tuple[str, Options]]], Any]
CPU_BUILD, GPU_BUILD = "onnxruntime", "onnxruntime-gpu"
INSTALL = 'pip install "onnxruntime-gpu[cuda,cudnn]"'
LOOK = "look at the GPU lines of: taijitu doctor"
MISSING_LIBRARY = re.compile(r"(lib[\w.+-]+\.so[\d.]*): cannot open shared object file")
TOO_OLD_DRIVER = re.compile(r"undefined symbol: (cu[A-Z]\w+)|CUDA driver version is insufficient")
GIVEN_UP = re.compile(r"EP Error (.+?)\s+when using", re.DOTALL)

_quieting = threading.Lock()  # stdout and the level of the log are the whole process's


def open_on_provider(ort: Any, provider: str, new_session: NewSession, model: Path | None = None) -> Any:
    """Open a session by `new_session(providers)` that uses `provider` and does not fall back to another one.

    Args:
        ort: The module onnxruntime.
        provider: One of PROVIDERS.
        new_session: Makes a session of names and options for onnxruntime.InferenceSession.
        model: The file of the model, for a cache of engines; None for no cache.

    Raises:
        ProviderError: This ONNX Runtime lacks the provider, or it did not load.
    """
    wanted = PROVIDERS[provider]
    if provider == "rtx":
        return _open_on_plugin(ort, new_session, model)
    if not set(wanted) <= set(ort.get_available_providers()):
        reason, cure = why_not_built_in(installed_versions(), is_jetson())
        raise ProviderError(provider, reason, cure)
    printed = io.StringIO()
    if provider == "cpu":
        session = new_session([(name, {}) for name in wanted])
    else:
        with _quiet(ort, printed):
            _load_libraries(ort, provider)
            session = new_session([(name, _options(name, model)) for name in wanted])
    if not set(wanted) <= set(session.get_providers()):
        given_up = GIVEN_UP.search(printed.getvalue())
        error = _loading_error(ort, provider) or (given_up[1] if given_up else "")
        raise ProviderError(provider, *why_not_loaded(error))
    session.disable_fallback()
    return session


def _open_on_plugin(ort: Any, new_session: NewSession, model: Path | None) -> Any:
    with _quiet(ort, io.StringIO()):
        try:
            providers = plugin.rtx_provider(ort, model)
        except ProviderError:
            raise
        except Exception as error:  # of classes of ONNX Runtime's own, or the plugin's
            raise ProviderError("rtx", *why_not_loaded(one_line(error))) from None
        if not providers.devices:
            raise ProviderError("rtx", *why_not_loaded(""))
        session = new_session(providers)
    if RTX not in session.get_providers():
        raise ProviderError("rtx", *why_not_loaded(""))
    return session


def why_not_built_in(packages: Collection[str], on_jetson: bool) -> tuple[str, str]:
    """Return why ONNX Runtime lacks a provider, and the cure. `packages`: the names of installed packages."""
    if on_jetson:
        return (
            "this ONNX Runtime was built without it",
            "pip uninstall -y onnxruntime onnxruntime-gpu, then install the onnxruntime-gpu wheel that NVIDIA "
            "publishes for your JetPack (the public index has none for Jetson)",
        )
    if CPU_BUILD in packages and GPU_BUILD in packages:
        return (
            "onnxruntime and onnxruntime-gpu are both installed and overwrite each other's files",
            f"pip uninstall -y onnxruntime onnxruntime-gpu && {INSTALL}",
        )
    if GPU_BUILD in packages:
        return f"the onnxruntime-gpu for {platform.machine()} was built without it", "install another build of it"
    return "onnxruntime is the build for CPUs only", f"pip uninstall -y onnxruntime && {INSTALL}"


def why_not_loaded(error: str) -> tuple[str, str]:
    """Return why a built-in provider did not load, and the cure. `error`: the message of loading it, or ""."""
    if not error:
        return "its libraries load, but it found no usable GPU", LOOK
    too_old = TOO_OLD_DRIVER.search(error)
    if too_old:
        return f"NVIDIA's driver is too old for it: {too_old[0]}", "update the driver"
    missing = MISSING_LIBRARY.search(error)
    library = missing[1] if missing else ""
    reason = f"{library} is missing" if missing else one_line(error)
    if library.startswith("libcuda.so"):
        return f"{reason}: no NVIDIA driver", "install the driver; a container takes --gpus all"
    if library.startswith(("libnvinfer", "libnvonnxparser")):
        release = library.rpartition(".so.")[2]
        return reason, f"install TensorRT {release} and name the folder of its libraries in LD_LIBRARY_PATH"
    return reason, INSTALL if missing else LOOK


def _load_libraries(ort: Any, provider: str) -> None:
    """Load the libraries of wheels, which no loader finds; the session reports failures."""
    if hasattr(ort, "preload_dlls"):  # from 1.21 on
        ort.preload_dlls()
    if provider == "tensorrt":
        with contextlib.suppress(ImportError):
            importlib.import_module("tensorrt")


def _options(name: str, model: Path | None) -> Options:
    if name != TENSORRT or model is None:
        return {}
    try:
        folder = private_folder(cache_folder() / "onnxruntime-tensorrt")
        content = model.read_bytes()
        # ONNX Runtime identifies an engine by names in the graph and of its file, regardless of the weights
        # (https://github.com/microsoft/onnxruntime/issues/6455): a model that was trained again gets another folder,
        # and one whose weights are in other files gets none.
        engines = None if has_external_data(content) else folder_of_model(folder, content)
    except (OSError, RuntimeError):  # without a cache, engines are built at each start
        return {}
    options = {"trt_timing_cache_enable": "1", "trt_timing_cache_path": str(folder)}
    return options | ({"trt_engine_cache_enable": "1", "trt_engine_cache_path": str(engines)} if engines else {})


def _loading_error(ort: Any, provider: str) -> str:
    """Load the provider's library and return the system's error. A session must have tried to load it before."""
    library = Path(ort.__file__).parent / "capi" / f"libonnxruntime_providers_{provider}.so"
    try:
        ctypes.CDLL(str(library))
    except OSError as error:
        return str(error)
    return ""


@contextlib.contextmanager
def _quiet(ort: Any, printed: io.StringIO) -> Iterator[None]:
    """Catch what ONNX Runtime prints and logs when it gives up a provider: our error says it in one line.

    One thread at a time: of two, the second would restore the first one's stdout, and leave it there.
    """
    with _quieting:
        ort.set_default_logger_severity(LOG_FATAL)
        try:
            with contextlib.redirect_stdout(printed):
                yield
        finally:
            ort.set_default_logger_severity(LOG_WARNING)  # its default; the previous value cannot be read
