"""The names of ONNX Runtime's execution providers here, and what they are called there; no heavy import, for --help."""

from __future__ import annotations

from typing import Literal

Provider = Literal["cpu", "cuda", "tensorrt", "rtx"]

RTX = "NvTensorRTRTXExecutionProvider"

# TensorRT leaves what it cannot do to the next one; without CUDA in the list that would be the CPU.
PROVIDERS: dict[str, tuple[str, ...]] = {
    "cpu": ("CPUExecutionProvider",),
    "cuda": ("CUDAExecutionProvider",),
    "tensorrt": ("TensorrtExecutionProvider", "CUDAExecutionProvider"),
    "rtx": (RTX,),
}
