"""ONNX Runtime's execution providers by short names; one that was asked for and did not load is an error.

ONNX Runtime itself goes on with the CPU then. It tells its log, or prints, and the session looks like any other.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import importlib
import io
import os
import platform
import re
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

from taijitu_runtime.backends import ort_plugin
from taijitu_runtime.backends.outside_weights import has_outside_weights
from taijitu_runtime.cache import cache_folder, keep_newest, private_folder
from taijitu_runtime.errors import ProviderError, UnknownNameError
from taijitu_runtime.installed import installed_versions
from taijitu_runtime.machine import is_jetson
from taijitu_runtime.providers import PROVIDERS, RTX

Options = dict[str, str]
CPU_BUILD, GPU_BUILD = "onnxruntime", "onnxruntime-gpu"
INSTALL = 'pip install "onnxruntime-gpu[cuda,cudnn]"'
LOOK = "look at the GPU lines of: taijitu doctor"
LOG_WARNING, LOG_FATAL = 2, 4
MISSING_LIBRARY = re.compile(r"(lib[\w.+-]+\.so[\d.]*): cannot open shared object file")
TOO_OLD_DRIVER = re.compile(r"undefined symbol: (cu[A-Z]\w+)|CUDA driver version is insufficient")
GIVEN_UP = re.compile(r"EP Error (.+?)\s+when using", re.DOTALL)


def check_provider(name: str) -> None:
    """UnknownNameError unless `name` is one of PROVIDERS."""
    if name not in PROVIDERS:
        raise UnknownNameError("provider", name, PROVIDERS)


def open_on_provider(
    ort: Any, provider: str, new_session: Callable[[list[tuple[str, Options]]], Any], model: Path | None = None
) -> Any:
    """The session that `new_session(providers)` makes, with `provider` in it, and no way back to another one.

    `providers`: names and options for onnxruntime.InferenceSession. `model`: its file, which a cache of engines needs
    to know; None for a session that is not worth one. ProviderError where the provider is not in this
    ONNX Runtime or did not load. Other errors are those of `new_session`.
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


def _open_on_plugin(
    ort: Any, new_session: Callable[[list[tuple[str, Options]]], Any], model: Path | None = None
) -> Any:
    with _quiet(ort, io.StringIO()):
        try:
            providers = ort_plugin.rtx_provider(ort, model)
        except ProviderError:
            raise
        except Exception as error:  # of classes of ONNX Runtime's own, or the plugin's
            raise ProviderError("rtx", *why_not_loaded(" ".join(str(error).split()))) from None
        if not providers.devices:
            raise ProviderError("rtx", *why_not_loaded(""))
        session = new_session(providers)
    if RTX not in session.get_providers():
        raise ProviderError("rtx", *why_not_loaded(""))
    return session


def why_not_built_in(packages: Collection[str], on_jetson: bool) -> tuple[str, str]:
    """The reason and the cure where ONNX Runtime has only other providers; `packages`: names of installed packages."""
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
    """The reason and the cure where a provider is built in; `error`: what was said as it was loaded, or ""."""
    if not error:
        return "its libraries load, but it found no GPU that it can use", LOOK
    too_old = TOO_OLD_DRIVER.search(error)
    if too_old:
        return f"NVIDIA's driver is too old for it: {too_old[0]}", "update the driver"
    missing = MISSING_LIBRARY.search(error)
    library = missing[1] if missing else ""
    reason = f"{library} is missing" if missing else " ".join(error.split())
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
    if name != "TensorrtExecutionProvider" or model is None:
        return {}
    try:
        folder = private_folder(cache_folder() / "onnxruntime-tensorrt")
        engines = _engine_folder(folder, model.read_bytes())
    except (OSError, RuntimeError):  # no cache: engines are built at each start
        return {}
    options = {"trt_timing_cache_enable": "1", "trt_timing_cache_path": str(folder)}
    return options | ({"trt_engine_cache_enable": "1", "trt_engine_cache_path": str(engines)} if engines else {})


def _engine_folder(folder: Path, model: bytes) -> Path | None:
    """Where the engines of this very model lie, below `folder`; None for one whose weights are in other files.

    ONNX Runtime knows an engine again by names in the graph and of its file, regardless of the weights
    (https://github.com/microsoft/onnxruntime/issues/6455); so a model that was trained again gets another folder.
    """
    if has_outside_weights(model):
        return None
    engines = private_folder(folder / hashlib.sha256(model).hexdigest())
    os.utime(engines)  # the folders that are used are the last to go
    keep_newest(path for path in folder.iterdir() if path.is_dir())
    return engines


def _loading_error(ort: Any, provider: str) -> str:
    """What the system says on loading the provider's library. Only for after a session tried: it has to come first."""
    library = Path(ort.__file__).parent / "capi" / f"libonnxruntime_providers_{provider}.so"
    try:
        ctypes.CDLL(str(library))
    except OSError as error:
        return str(error)
    return ""


@contextlib.contextmanager
def _quiet(ort: Any, printed: io.StringIO) -> Iterator[None]:
    """ONNX Runtime prints on stdout, and logs, when it gives up a provider: we say it ourselves, in one line."""
    ort.set_default_logger_severity(LOG_FATAL)
    try:
        with contextlib.redirect_stdout(printed):
            yield
    finally:
        ort.set_default_logger_severity(LOG_WARNING)  # its default; there is no way to ask for what it was
