"""The native Nish: a library of custom operators for ONNX Runtime, which computes `taijitu::Nish` in one pass.

The wheel's build makes it where it finds a C++ compiler; `python -m taijitu_runtime.native.build` does at any time.
Without it everything works, through the definition of Nish that every model file carries.
"""

from __future__ import annotations

import functools
import logging
from pathlib import Path
from typing import Any

_log = logging.getLogger(__name__)

LIBRARY = Path(__file__).with_name("libtaijitu_nish.so")

CUDA_LIBRARY = Path(__file__).with_name("libtaijitu_nish_cuda.so")
"""The same for ONNX Runtime's CUDA provider too; made by `python -m taijitu_runtime.native.build --cuda`."""

BUILD = "python -m taijitu_runtime.native.build"
LOST = "Nish runs operator by operator, several times slower"


def register_nish(options: Any, provider: str) -> Path | None:
    """Give `options`, ONNX Runtime's SessionOptions, the kernels of Nish for its execution provider `provider`.

    Returns:
        The library that was taken. None where it is missing or cannot be used, with one warning a process that says
        what is lost and how to cure it; None also for a provider without a kernel here: a kernel on another processor
        would cost more than it saves.
    """
    if provider == "CPUExecutionProvider":
        library, needed, command = LIBRARY, "a C++ compiler", BUILD
    elif provider == "CUDAExecutionProvider":
        library, needed, command = CUDA_LIBRARY, "a C++ compiler and nvcc", f"{BUILD} --cuda"
    else:
        return None
    if not library.is_file():
        _warn_once(f"{LOST}: got no {library}, expected it in this package; install {needed} and do: {command}")
        return None
    try:
        options.register_custom_ops_library(str(library))
    except Exception as error:  # for another processor, a newer system library, another ABI: each has its own text
        reason = " ".join(str(error).split())
        _warn_once(f"{LOST}: got {library} that cannot be loaded ({reason}); do: {command}")
        return None
    return library


@functools.cache
def _warn_once(text: str) -> None:
    _log.warning("%s", text)
