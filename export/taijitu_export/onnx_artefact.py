"""Write an ONNX artefact: the file that a user gets, checked, and with its own answers in its passport."""

from __future__ import annotations

from pathlib import Path

import onnx

from taijitu_export.passport import with_own_answers
from taijitu_runtime.backends import OrtBackend
from taijitu_runtime.card import ModelCard
from taijitu_runtime.errors import UsageError
from taijitu_runtime.files import write_whole
from taijitu_runtime.model_files import is_onnx
from taijitu_runtime.output_path import check_output_path


def check_output(output: Path, source: Path) -> None:
    """Raise UsageError for an output that is not a file of its own in .onnx, or that cannot be written."""
    check_output_path(output, source)
    if not is_onnx(output):
        raise UsageError(
            f"got {output} as the output, expected a name in .onnx; taijitu engine then builds an engine from it"
        )


def checked_file(model: onnx.ModelProto, path: Path) -> Path:
    """Write a model that onnx.checker accepts; types that constants have themselves are not written twice."""
    constants = {constant.name for constant in model.graph.initializer}
    needed = [value for value in model.graph.value_info if value.name not in constants]
    del model.graph.value_info[:]
    model.graph.value_info.extend(needed)
    onnx.checker.check_model(model, full_check=True)
    write_whole(path, model.SerializeToString())
    return path


def sealed(model: onnx.ModelProto, card: ModelCard, trial: Path) -> bytes:
    """Return the content of an artefact with its own answers in its passport. ExportError where these are wrong."""
    onnx.helper.set_model_props(model, card.to_metadata())
    with OrtBackend(checked_file(model, trial)) as backend:
        card = with_own_answers(card, backend)
    onnx.helper.set_model_props(model, card.to_metadata())
    content: bytes = model.SerializeToString()
    return content
