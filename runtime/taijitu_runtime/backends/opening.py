"""Choose the backend for a model file by its name and first bytes, and refuse a file of another kind."""

from __future__ import annotations

import shlex
from pathlib import Path

from taijitu_runtime.backends.base import Backend, check_file
from taijitu_runtime.backends.ort.backend import OrtBackend
from taijitu_runtime.backends.trt.backend import TrtBackend
from taijitu_runtime.errors import ArtefactError, UsageError
from taijitu_runtime.files import named_path
from taijitu_runtime.model_files import ENGINE_SUFFIXES, is_engine, is_onnx

CHECKPOINT_MAGIC = b"PK\x03\x04"
ENGINE_MAGIC = (b"ftrt", b"vtrt")
"""The first bytes of plans of TensorRT and of TensorRT-RTX."""


def open_backend(
    path: str | Path,
    *,
    threads: int = 0,
    provider: str | None = None,
    rebuild: bool = False,
    cuda_graphs: bool = True,
) -> Backend:
    """Return the backend for a model file, not yet loaded.

    A file named .onnx gets ONNX Runtime; an engine, by its name or its first bytes, TensorRT, which ignores `threads`.

    Args:
        path: The model file.
        threads: As for OrtBackend.
        provider: As for OrtBackend; None for its default.
        rebuild: As for TrtBackend.
        cuda_graphs: As for TrtBackend.

    Raises:
        ArtefactError: The file is of another kind, which the text names.
        UsageError: `rebuild` or CUDA graphs are set for an ONNX file, or `provider` for an engine, or the path is
            empty or another object.
    """
    path = named_path(path, "model")
    if is_onnx(path):
        if rebuild:
            raise UsageError(f"{path}: got rebuild for an ONNX file, expected an engine; remove it")
        if not cuda_graphs:
            raise UsageError(
                f"{path}: got no CUDA graphs for an ONNX file, which has none, expected an engine; remove it"
            )
        return OrtBackend(path, threads=threads, provider="cpu" if provider is None else provider)
    check_is_engine(path)
    if provider is not None:
        raise UsageError(f"{path}: got provider={provider!r} for an engine, expected an ONNX file; remove it")
    return TrtBackend(path, cuda_graphs=cuda_graphs, rebuild=rebuild)


def check_is_engine(path: Path) -> None:
    """Raise ArtefactError unless a file is an engine by its name or its first bytes; the text names its kind."""
    check_file(path)
    with path.open("rb") as file:
        magic = file.read(4)
    if magic == CHECKPOINT_MAGIC:
        raise ArtefactError(f"{path}: got a checkpoint, expected a .onnx file; do: {export_command(path)}")
    if magic not in ENGINE_MAGIC and not is_engine(path):
        raise ArtefactError(
            f"{path}: got a file of an unknown kind, expected a .onnx file or an engine "
            f"({', '.join(ENGINE_SUFFIXES)}); rename it if it is one"
        )


def export_command(checkpoint: Path) -> str:
    """Return the command that makes an ONNX file of a checkpoint, for an error about one."""
    return f"taijitu onnx {shlex.quote(str(checkpoint))} -o model.onnx"
