"""Run taijitu models: `Classifier.from_file("model.onnx").predict("picture.jpg")`.

Importing this imports numpy and nothing else; Pillow and onnxruntime follow at the first call that needs them.
"""

from __future__ import annotations

import os
from importlib.metadata import PackageNotFoundError, version

from taijitu_runtime.answers import Answer
from taijitu_runtime.card import Architecture, InputSpec, ModelCard, Precision
from taijitu_runtime.classifier import Classifier, Prediction
from taijitu_runtime.engine_card import EngineCard
from taijitu_runtime.errors import (
    ArtefactError,
    DamagedPictureError,
    DeviceError,
    EmptyPictureError,
    EngineError,
    InputError,
    MissingDependencyError,
    PictureError,
    PictureTooLargeError,
    ProviderError,
    TaijituError,
    TooManyBytesError,
    TooManyPixelsError,
    TooManyScansError,
    UnknownFormatError,
    UnreadablePictureError,
    UsageError,
)
from taijitu_runtime.pictures.headers import Limits

# From 1.29 on ONNX Runtime sends its maker the names and hashes of models, and of the processor, as soon as it is
# imported, which is later than this. Who wants that sets the variable to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

try:
    __version__ = version("taijitu")
except PackageNotFoundError:
    __version__ = "0+not.installed"

__all__ = [
    "Answer",
    "Architecture",
    "ArtefactError",
    "Classifier",
    "DamagedPictureError",
    "DeviceError",
    "EmptyPictureError",
    "EngineCard",
    "EngineError",
    "InputError",
    "InputSpec",
    "Limits",
    "MissingDependencyError",
    "ModelCard",
    "PictureError",
    "PictureTooLargeError",
    "Precision",
    "Prediction",
    "ProviderError",
    "TaijituError",
    "TooManyBytesError",
    "TooManyPixelsError",
    "TooManyScansError",
    "UnknownFormatError",
    "UnreadablePictureError",
    "UsageError",
    "__version__",
]
