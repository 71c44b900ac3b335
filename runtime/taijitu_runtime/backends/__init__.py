"""The backends, and `open_backend`, which picks one by the file."""

from __future__ import annotations

from pathlib import Path

from taijitu_runtime.backends.base import Backend, ModelInput, check_file
from taijitu_runtime.backends.ort import OrtBackend
from taijitu_runtime.errors import ArtefactError

__all__ = ["Backend", "ModelInput", "OrtBackend", "open_backend"]

CHECKPOINT_MAGIC = b"PK\x03\x04"
ENGINE_MAGIC = b"ftrt"


def open_backend(path: str | Path, *, threads: int = 0, provider: str | None = None) -> Backend:
    """The backend for a model file, not yet loaded; `threads` and `provider` as for OrtBackend, None being its default.

    A file named .onnx goes to ONNX Runtime. ArtefactError, saying what the file is, for any other.
    """
    path = Path(path)
    if path.suffix.lower() == ".onnx":
        return OrtBackend(path, threads=threads, provider="cpu" if provider is None else provider)
    check_file(path)
    with path.open("rb") as file:
        magic = file.read(4)
    if magic == CHECKPOINT_MAGIC:
        raise ArtefactError(
            f"{path}: got a checkpoint, expected a .onnx file; do: python export/to_onnx.py {path} -o model.onnx"
        )
    if magic == ENGINE_MAGIC or path.suffix.lower() in (".engine", ".plan"):
        raise ArtefactError(
            f"{path}: got a TensorRT engine, expected a .onnx file: engines come with a later version; "
            "give the model.onnx that it was built from"
        )
    raise ArtefactError(f"{path}: got a file of an unknown kind, expected a .onnx file; rename it if it is one")
