"""The backends, and `open_backend`, which chooses one by the file."""

from taijitu_runtime.backends.base import Backend
from taijitu_runtime.backends.contract import ModelInput
from taijitu_runtime.backends.opening import check_is_engine, export_command, open_backend
from taijitu_runtime.backends.ort.backend import OrtBackend
from taijitu_runtime.backends.trt.backend import TrtBackend

__all__ = ["Backend", "ModelInput", "OrtBackend", "TrtBackend", "check_is_engine", "export_command", "open_backend"]
