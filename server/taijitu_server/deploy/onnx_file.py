"""Check the ONNX file that the commands of this folder copy, and the path where another program will see it."""

from __future__ import annotations

import os
from pathlib import Path

from taijitu_runtime.backends import ModelInput, check_is_engine
from taijitu_runtime.backends.base import check_file
from taijitu_runtime.card import ModelCard
from taijitu_runtime.console import shown
from taijitu_runtime.errors import UsageError
from taijitu_runtime.fields import is_unicode
from taijitu_runtime.model_files import is_onnx
from taijitu_runtime.onnx_graph.external_data import has_external_data, sha256_with_weights
from taijitu_runtime.proof.prove import proven_file


def read_onnx_file(model: Path) -> tuple[ModelCard, ModelInput, bytes]:
    """Return the card, the input and the content of an ONNX file that is loaded and proven, and can be copied alone.

    UsageError unless it is an ONNX file with all its weights, ArtefactError if it cannot be read, does not answer as
    its passport says, or is replaced meanwhile: the content is that of the file that was proven.
    """
    if not is_onnx(model):
        check_is_engine(model)  # the error for a checkpoint has the command that exports it
        raise UsageError(f"{model}: got an engine, expected a .onnx file; give the one that it was built from")
    check_file(model)
    content = model.read_bytes()
    if has_external_data(content):
        raise UsageError(
            f"{model}: got an ONNX file with weights in other files, expected all in one file, because only this one "
            "is copied; write it again without external data"
        )
    with proven_file(model, sha256_with_weights(model, content)) as classifier:
        return classifier.card, classifier.backend.input, content


def check_mounted_at(path: Path | None) -> None:
    """Raise UsageError for a relative path: the program that reads it has another working directory."""
    if path is not None and not path.is_absolute():
        raise UsageError(f"got --mounted-at {path}, expected an absolute path; begin it with /")


def path_in_text(out: Path, mounted_at: Path | None) -> Path:
    """Return the absolute path of the folder `out` to write into a configuration: `mounted_at`, or its path here.

    UsageError for one that is not UTF-8, as the configuration is.
    """
    seen = mounted_at or Path(os.path.realpath(out))
    if not is_unicode(str(seen)):
        raise UsageError(
            f"got {shown(seen)}, a path that is not UTF-8, expected one, as the configuration names it; rename the "
            "folder, or choose another"
        )
    return seen
