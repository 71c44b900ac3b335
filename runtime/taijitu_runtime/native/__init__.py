"""The native Nish: a library of custom operators for ONNX Runtime, which computes `taijitu::Nish` in one pass.

The build of the wheel compiles it where it finds a C++ compiler; so does `python -m taijitu_runtime.native.build`.
Without it, everything works by the definition of Nish in every model file.
"""

from __future__ import annotations

import functools
import logging
from pathlib import Path
from typing import Any

from taijitu_runtime.errors import one_line
from taijitu_runtime.providers import CPU, CUDA

_log = logging.getLogger(__name__)

LIBRARY = Path(__file__).with_name("libtaijitu_nish.so")

CUDA_LIBRARY = Path(__file__).with_name("libtaijitu_nish_cuda.so")
"""The library with kernels for ONNX Runtime's CUDA provider too, built by the same command with --cuda."""

BUILD = "python -m taijitu_runtime.native.build"
LOST = "Nish runs operator by operator, several times slower"


def register_nish(options: Any, provider: str) -> Path | None:
    """Register the kernels of Nish for the execution provider `provider` in `options`, ONNX Runtime's SessionOptions.

    Returns:
        The library. None if it is missing or cannot be used, with one warning per process that says what is lost and
        the cure; None also for a provider without a kernel here, as a kernel on another processor would cost more time
        than it saves.
    """
    if provider == CPU:
        library, needed, command = LIBRARY, "a C++ compiler", BUILD
    elif provider == CUDA:
        library, needed, command = CUDA_LIBRARY, "a C++ compiler and nvcc", f"{BUILD} --cuda"
    else:
        return None
    if not library.is_file():
        _warn_once(f"{LOST}: got no {library}, expected it in this package; install {needed} and do: {command}")
        return None
    try:
        options.register_custom_ops_library(str(library))
    except Exception as error:  # built for another processor, system library or ABI: each has its own message
        reason = one_line(error)
        _warn_once(f"{LOST}: got {library} that cannot be loaded ({reason}); do: {command}")
        return None
    return library


@functools.cache
def _warn_once(text: str) -> None:
    _log.warning("%s", text)
