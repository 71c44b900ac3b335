"""Run taijitu models: `Classifier.from_file("model.onnx").predict("picture.jpg")`.

Importing this imports numpy and nothing else; Pillow and onnxruntime follow at the first call that needs them.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from taijitu_runtime.card import Architecture, InputSpec, ModelCard, Precision
from taijitu_runtime.classifier import Classifier, Prediction
from taijitu_runtime.engine_card import EngineCard
from taijitu_runtime.errors import (
    ArtefactError,
    DeviceError,
    EngineError,
    InputError,
    MissingDependencyError,
    PictureError,
    TaijituError,
    UsageError,
)
from taijitu_runtime.postprocess import Answer

try:
    __version__ = version("taijitu")
except PackageNotFoundError:
    __version__ = "0+not.installed"

__all__ = [
    "Answer",
    "Architecture",
    "ArtefactError",
    "Classifier",
    "DeviceError",
    "EngineCard",
    "EngineError",
    "InputError",
    "InputSpec",
    "MissingDependencyError",
    "ModelCard",
    "PictureError",
    "Precision",
    "Prediction",
    "TaijituError",
    "UsageError",
    "__version__",
]
