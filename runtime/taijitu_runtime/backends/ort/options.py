"""The options of every session of ONNX Runtime."""

from __future__ import annotations

from typing import Any

from taijitu_runtime.machine import saturates_int8

LOG_WARNING, LOG_FATAL = 2, 4

WITHOUT_QDQ_FUSION = "session.disable_quant_qdq"
"""The entry that, at "1", leaves QuantizeLinear and DequantizeLinear as they are, so that int8 computes in float32."""

UNSIGNED_WEIGHTS = "session.x64quantprecision"
"""The entry that, at "1", turns the signed weights of integer operators, such as QLinearConv, into unsigned ones."""


def compute_int8_in_float32(options: Any) -> bool:
    """Leave QuantizeLinear and DequantizeLinear as they are; return False where `session_options` did so already."""
    if saturates_int8():
        return False
    options.add_session_config_entry(WITHOUT_QDQ_FUSION, "1")
    return True


def session_options(ort: Any, threads: int) -> Any:
    """Return SessionOptions of `ort`, onnxruntime, with `threads` in an operator, 0 for all cores."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    # Failures are raised; at lower levels ONNX Runtime prints remarks of its optimiser that do not help a user.
    options.log_severity_level = LOG_FATAL
    if saturates_int8():
        # ONNX Runtime's kernels for signed weights add pairs of products in 16 bits there: the sum of 64 ones, 1 x 1,
        # came out as 0.6. Without them the sums are right, and YYNet Small 16 in int8 takes three quarters of the time.
        options.add_session_config_entry(WITHOUT_QDQ_FUSION, "1")
        options.add_session_config_entry(UNSIGNED_WEIGHTS, "1")
    return options
