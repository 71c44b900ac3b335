"""The backends, and `open_backend`, which picks one by the file."""

from __future__ import annotations

from pathlib import Path

from taijitu_runtime.backends.base import Backend, ModelInput, check_file
from taijitu_runtime.backends.ort import OrtBackend
from taijitu_runtime.backends.trt import TrtBackend
from taijitu_runtime.errors import ArtefactError, UsageError

__all__ = ["Backend", "ModelInput", "OrtBackend", "TrtBackend", "open_backend"]

CHECKPOINT_MAGIC = b"PK\x03\x04"
ENGINE_SUFFIXES = (".engine", ".plan", ".trt")
ENGINE_MAGIC = (b"ftrt", b"vtrt")
"""How plans of TensorRT and of TensorRT-RTX begin."""


def open_backend(path: str | Path, *, threads: int = 0, rebuild: bool = False) -> Backend:
    """The backend for a model file, not yet loaded; `threads` as for OrtBackend, `rebuild` as for TrtBackend.

    A file named .onnx goes to ONNX Runtime; an engine, by its name or its first bytes, to TensorRT. ArtefactError,
    saying what the file is, for any other. UsageError for `threads` of an engine and `rebuild` of an ONNX file.
    """
    path = Path(path)
    if path.suffix.lower() == ".onnx":
        if rebuild:
            raise UsageError(f"{path}: got rebuild for an ONNX file, expected an engine; leave it away")
        return OrtBackend(path, threads=threads)
    check_file(path)
    with path.open("rb") as file:
        magic = file.read(4)
    if magic == CHECKPOINT_MAGIC:
        raise ArtefactError(
            f"{path}: got a checkpoint, expected a .onnx file; do: python export/to_onnx.py {path} -o model.onnx"
        )
    if magic in ENGINE_MAGIC or path.suffix.lower() in ENGINE_SUFFIXES:
        if threads:
            raise UsageError(f"{path}: got threads={threads} for an engine, which runs on the GPU; leave it away")
        return TrtBackend(path, rebuild=rebuild)
    raise ArtefactError(
        f"{path}: got a file of an unknown kind, expected a .onnx file or an engine ({', '.join(ENGINE_SUFFIXES)}); "
        "rename it if it is one"
    )
