"""taijitu's public names, such as `from taijitu import Classifier`; docs/api.md lists them.

A name is loaded when it is first used: importing this package loads nothing, and a board needs only the packages that
it uses. Editors and type checkers read __init__.pyi.
"""

from __future__ import annotations

import taijitu_runtime  # noqa: F401 -- it turns ONNX Runtime's telemetry off

# The module of each name, and after a colon its name there if that differs.
_HOMES = {
    "Answer": "taijitu_runtime.answers",
    "ArtefactError": "taijitu_runtime.errors",
    "CheckpointError": "taijitu_training.errors",
    "Classifier": "taijitu_runtime.classifier",
    "DamagedPictureError": "taijitu_runtime.errors",
    "DataError": "taijitu_runtime.errors",
    "DeviceError": "taijitu_runtime.errors",
    "EmptyPictureError": "taijitu_runtime.errors",
    "EngineCard": "taijitu_runtime.engine_card",
    "EngineError": "taijitu_runtime.errors",
    "Explanation": "taijitu_runtime.explain.explanation",
    "ExplanationError": "taijitu_runtime.errors",
    "ExportError": "taijitu_export.errors",
    "FolderInUseError": "taijitu_runtime.errors",
    "GpuArray": "taijitu_runtime.backends.gpu_arrays",
    "InputError": "taijitu_runtime.errors",
    "Limits": "taijitu_runtime.pictures.limits",
    "MissingDependencyError": "taijitu_runtime.errors",
    "ModelCard": "taijitu_runtime.card",
    "PictureError": "taijitu_runtime.errors",
    "PictureTooLargeError": "taijitu_runtime.errors",
    "Prediction": "taijitu_runtime.answers",
    "Proof": "taijitu_runtime.proof.prove",
    "ProofError": "taijitu_runtime.errors",
    "ProviderError": "taijitu_runtime.errors",
    "Reader": "taijitu_runtime.live.reader",
    "Region": "taijitu_runtime.live.region",
    "SourceError": "taijitu_runtime.errors",
    "TaijituError": "taijitu_runtime.errors",
    "Timeouts": "taijitu_runtime.live.states",
    "TooManyBytesError": "taijitu_runtime.errors",
    "TooManyPixelsError": "taijitu_runtime.errors",
    "TooManyScansError": "taijitu_runtime.errors",
    "TrainingError": "taijitu_training.errors",
    "UnknownFormatError": "taijitu_runtime.errors",
    "UnknownNameError": "taijitu_runtime.errors",
    "UnreadablePictureError": "taijitu_runtime.errors",
    "UsageError": "taijitu_runtime.errors",
    "View": "taijitu_runtime.live.watch",
    "WatchResult": "taijitu_runtime.live.watch:Result",
    "WriteError": "taijitu_runtime.errors",
    "adopt": "taijitu_export.api",
    "build_engine": "taijitu_export.engine.api",
    "calibrate": "taijitu_export.api",
    "checkpoint_from_model": "taijitu_training.weights.from_model",
    "checkpoint_from_weights": "taijitu_training.weights.from_weights",
    "create_model": "taijitu_training.models",
    "export_onnx": "taijitu_export.api",
    "list_models": "taijitu_training.models",
    "load_checkpoint": "taijitu_training.checkpoint:load",
    "save_checkpoint": "taijitu_training.checkpoint:save",
    "prove": "taijitu_runtime.proof.prove",
    "train": "taijitu_training.train",
    "verify": "taijitu_export.api",
    "watch": "taijitu_runtime.live.watch",
}
# What the names of a package or module cannot be loaded without, except errors.
_NEEDS = {
    "taijitu_export.api": ("onnx", "torch"),
    "taijitu_export.engine": ("onnx",),
    "taijitu_training": ("torch",),
}
__all__ = [
    "__version__",
    *_HOMES,
]


def __getattr__(name: str) -> object:
    import importlib

    if name == "__version__":
        return importlib.import_module("taijitu_runtime.installed").taijitu_version()
    if name not in _HOMES:
        raise AttributeError(f"module 'taijitu' has no attribute {name!r}")
    home, _, name_there = _HOMES[name].partition(":")
    try:
        value: object = getattr(importlib.import_module(home), name_there or name)
    except ModuleNotFoundError as error:
        if home.startswith("taijitu_runtime") or (error.name or "").startswith("taijitu"):
            raise
        installs = importlib.import_module("taijitu_runtime.installed").installs_for(home)
        missing = importlib.import_module("taijitu_runtime.errors").MissingDependencyError
        raise missing(error.name, installs, f"needed by taijitu.{name}") from error
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    # help() and the interpreter's completion load every name that they find here, and end at the first that fails.
    return sorted({*globals(), "__version__", *filter(_is_installed, _HOMES)})


def _is_installed(name: str) -> bool:
    from importlib.util import find_spec

    home = _HOMES[name].partition(":")[0]
    needed = [home.partition(".")[0]]
    if not home.endswith(".errors"):
        needed += [module for start, modules in _NEEDS.items() if home.startswith(start) for module in modules]
    return all(find_spec(module) is not None for module in needed)
