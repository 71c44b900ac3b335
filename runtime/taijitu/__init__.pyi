"""The types of taijitu's public names, for editors and type checkers."""

from taijitu_export.api import adopt as adopt
from taijitu_export.api import calibrate as calibrate
from taijitu_export.api import export_onnx as export_onnx
from taijitu_export.api import verify as verify
from taijitu_export.engine.api import build_engine as build_engine
from taijitu_export.errors import ExportError as ExportError
from taijitu_runtime.answers import Answer as Answer
from taijitu_runtime.answers import Prediction as Prediction
from taijitu_runtime.backends.gpu_arrays import GpuArray as GpuArray
from taijitu_runtime.card import ModelCard as ModelCard
from taijitu_runtime.classifier import Classifier as Classifier
from taijitu_runtime.engine_card import EngineCard as EngineCard
from taijitu_runtime.errors import ArtefactError as ArtefactError
from taijitu_runtime.errors import DamagedPictureError as DamagedPictureError
from taijitu_runtime.errors import DataError as DataError
from taijitu_runtime.errors import DeviceError as DeviceError
from taijitu_runtime.errors import EmptyPictureError as EmptyPictureError
from taijitu_runtime.errors import EngineError as EngineError
from taijitu_runtime.errors import ExplanationError as ExplanationError
from taijitu_runtime.errors import FolderInUseError as FolderInUseError
from taijitu_runtime.errors import InputError as InputError
from taijitu_runtime.errors import MissingDependencyError as MissingDependencyError
from taijitu_runtime.errors import PictureError as PictureError
from taijitu_runtime.errors import PictureTooLargeError as PictureTooLargeError
from taijitu_runtime.errors import ProofError as ProofError
from taijitu_runtime.errors import ProviderError as ProviderError
from taijitu_runtime.errors import SourceError as SourceError
from taijitu_runtime.errors import TaijituError as TaijituError
from taijitu_runtime.errors import TooManyBytesError as TooManyBytesError
from taijitu_runtime.errors import TooManyPixelsError as TooManyPixelsError
from taijitu_runtime.errors import TooManyScansError as TooManyScansError
from taijitu_runtime.errors import UnknownFormatError as UnknownFormatError
from taijitu_runtime.errors import UnknownNameError as UnknownNameError
from taijitu_runtime.errors import UnreadablePictureError as UnreadablePictureError
from taijitu_runtime.errors import UsageError as UsageError
from taijitu_runtime.errors import WriteError as WriteError
from taijitu_runtime.explain.explanation import Explanation as Explanation
from taijitu_runtime.live.reader import Reader as Reader
from taijitu_runtime.live.region import Region as Region
from taijitu_runtime.live.states import Timeouts as Timeouts
from taijitu_runtime.live.watch import Result as WatchResult
from taijitu_runtime.live.watch import View as View
from taijitu_runtime.live.watch import watch as watch
from taijitu_runtime.pictures.limits import Limits as Limits
from taijitu_runtime.proof.prove import Proof as Proof
from taijitu_runtime.proof.prove import prove as prove
from taijitu_training.checkpoint import load as load_checkpoint
from taijitu_training.checkpoint import save as save_checkpoint
from taijitu_training.errors import CheckpointError as CheckpointError
from taijitu_training.errors import TrainingError as TrainingError
from taijitu_training.models import create_model as create_model
from taijitu_training.models import list_models as list_models
from taijitu_training.train import train as train
from taijitu_training.weights.from_model import checkpoint_from_model as checkpoint_from_model
from taijitu_training.weights.from_weights import checkpoint_from_weights as checkpoint_from_weights

__version__: str
__all__ = [
    "Answer",
    "ArtefactError",
    "CheckpointError",
    "Classifier",
    "DamagedPictureError",
    "DataError",
    "DeviceError",
    "EmptyPictureError",
    "EngineCard",
    "EngineError",
    "Explanation",
    "ExplanationError",
    "ExportError",
    "FolderInUseError",
    "GpuArray",
    "InputError",
    "Limits",
    "MissingDependencyError",
    "ModelCard",
    "PictureError",
    "PictureTooLargeError",
    "Prediction",
    "Proof",
    "ProofError",
    "ProviderError",
    "Reader",
    "Region",
    "SourceError",
    "TaijituError",
    "Timeouts",
    "TooManyBytesError",
    "TooManyPixelsError",
    "TooManyScansError",
    "TrainingError",
    "UnknownFormatError",
    "UnknownNameError",
    "UnreadablePictureError",
    "UsageError",
    "View",
    "WatchResult",
    "WriteError",
    "__version__",
    "adopt",
    "build_engine",
    "calibrate",
    "checkpoint_from_model",
    "checkpoint_from_weights",
    "create_model",
    "export_onnx",
    "list_models",
    "load_checkpoint",
    "prove",
    "save_checkpoint",
    "train",
    "verify",
    "watch",
]
