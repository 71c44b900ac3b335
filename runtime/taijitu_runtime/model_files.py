"""The suffixes of model files, in any case."""

from __future__ import annotations

from pathlib import PurePath

ONNX_SUFFIX = ".onnx"
ENGINE_SUFFIXES = (".engine", ".plan", ".trt")


def is_onnx(path: PurePath) -> bool:
    """Return whether the file has the suffix of an ONNX model."""
    return path.suffix.lower() == ONNX_SUFFIX


def is_engine(path: PurePath) -> bool:
    """Return whether the file has a suffix of TensorRT plans."""
    return path.suffix.lower() in ENGINE_SUFFIXES


def is_model(path: PurePath) -> bool:
    """Return whether the file has a suffix that a backend opens."""
    return is_onnx(path) or is_engine(path)
