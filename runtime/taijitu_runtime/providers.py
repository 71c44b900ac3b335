"""The names of ONNX Runtime's execution providers here, and what they are called there; no heavy import, for --help."""

from __future__ import annotations

from typing import Literal

Provider = Literal["cpu", "cuda", "tensorrt", "rtx"]

CPU, CUDA, TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"
RTX = "NvTensorRTRTXExecutionProvider"

# TensorRT leaves what it cannot do to the next one; without CUDA in the list that would be the CPU.
PROVIDERS: dict[str, tuple[str, ...]] = {
    "cpu": (CPU,),
    "cuda": (CUDA,),
    "tensorrt": (TENSORRT, CUDA),
    "rtx": (RTX,),
}
