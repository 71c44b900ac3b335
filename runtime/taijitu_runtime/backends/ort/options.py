"""The options of every session of ONNX Runtime."""

from __future__ import annotations

from typing import Any

LOG_WARNING, LOG_FATAL = 2, 4


def session_options(ort: Any, threads: int) -> Any:
    """Return SessionOptions of `ort`, onnxruntime, with `threads` in an operator, 0 for all cores."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    # Failures are raised; at lower levels ONNX Runtime prints remarks of its optimiser that do not help a user.
    options.log_severity_level = LOG_FATAL
    return options
