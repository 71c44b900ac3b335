"""The part of the public name `taijitu` that builds engines; torch is not needed, because a board has none."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Literal

from taijitu_export.engine.engine_artefact import EngineResult, make_engine
from taijitu_export.engine.options import Options
from taijitu_export.engine.request import Request
from taijitu_export.engine.shapes import Shapes
from taijitu_runtime.files import named_path
from taijitu_runtime.output_path import output_next_to


def build_engine(
    model: str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    *,
    backend: Literal["auto", "tensorrt", "rtx"] = "auto",
    precision: Literal["fp16", "int8"] | None = None,
    min_shapes: Mapping[str, tuple[int, ...]] | None = None,
    opt_shapes: Mapping[str, tuple[int, ...]] | None = None,
    max_shapes: Mapping[str, tuple[int, ...]] | None = None,
    compute_capabilities: Sequence[str] = (),
    answer: bool = True,
) -> EngineResult:
    """Build a TensorRT engine from an ONNX file, and write it with its sidecar.

    Args:
        model: The ONNX file, of `export_onnx`.
        output: The plan; by default next to the ONNX file, as .engine. The sidecar is next to it, as .engine.json.
        backend: The library; "auto" takes the one that is installed, or if both are, the one for the target.
        precision: "fp16" converts a float32 graph first; None for the precision of the graph.
        min_shapes: The smallest input by name, such as {"images": (1, 32, 32, 3)}.
        opt_shapes: The usual input, for which the engine is tuned.
        max_shapes: The largest input.
        compute_capabilities: The GPUs of a TensorRT-RTX engine, such as ("8.6", "8.9").
        answer: Run the engine before it is kept, where there is a GPU for it.

    Returns:
        The files that were written, and the precision that was counted.

    Raises:
        ExportError: The engine is not good, or cannot be built. An existing file is unchanged.
        ArtefactError: The ONNX file cannot be used.
        MissingDependencyError: The library is not installed.
        UsageError: The arguments do not fit each other, the library or this machine.
        WriteError: The engine cannot be written, such as on a full disk.
    """
    source = named_path(model, "model")
    options = Options(
        shapes=Shapes(*map(_shapes, (min_shapes, opt_shapes, max_shapes))),
        compute_capabilities=tuple(compute_capabilities),
    )
    return make_engine(
        Request(
            source=source,
            output=output_next_to(source, ".engine") if output is None else named_path(output, "output"),
            backend=backend,
            precision=precision,
            options=options,
            answer=answer,
        )
    )


def _shapes(shapes: Mapping[str, Sequence[int]] | None) -> dict[str, tuple[int, ...]]:
    return {name: tuple(shape) for name, shape in (shapes or {}).items()}
