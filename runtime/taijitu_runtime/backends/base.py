"""The base of all backends: load on enter, `infer`, free on exit. It checks what all of them take and give."""

from __future__ import annotations

import abc
import stat
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from taijitu_runtime.backends.bulk import USUAL_BATCH, Bulk
from taijitu_runtime.backends.contract import ModelInput, check_card
from taijitu_runtime.backends.gpu_arrays import GpuArray, is_on_gpu, read_gpu_array
from taijitu_runtime.card import ModelCard
from taijitu_runtime.errors import ArtefactError, InputError, UsageError, describe, path_fault
from taijitu_runtime.machine import usable_cores
from taijitu_runtime.model_files import is_engine
from taijitu_runtime.onnx_graph.external_data import missing_files

Self = TypeVar("Self", bound="Backend")


class Backend(abc.ABC):
    """One loaded model: `with Backend(path) as backend: logits = backend.infer(images)`.

    `load` and `close` do the same as enter and exit; both may be called twice. Several threads may call `infer` at
    once. A subclass implements `_load`, `_infer` and `_free`, and repeats no check of this class.
    """

    name: ClassVar[str]

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._contract: tuple[ModelCard, ModelInput] | None = None

    @abc.abstractmethod
    def _load(self) -> tuple[ModelCard, ModelInput, int]:
        """Load the model; return its card, its input and its number of logits. Raises ArtefactError."""

    @abc.abstractmethod
    def _infer(self, images: NDArray[Any]) -> NDArray[np.float32]:
        """Compute logits (N, K) of checked images, in memory that the backend does not use again."""

    def _infer_alongside(self, images: NDArray[Any]) -> NDArray[np.float32]:
        """Do the same as `_infer`, for one of several calls at a time."""
        return self._infer(images)

    def _bulk(self, model_input: ModelInput) -> Bulk:
        """Return how to run many images: on a device, batches run one by one, and only decoding is parallel."""
        return Bulk(min(USUAL_BATCH, model_input.max_batch or USUAL_BATCH), usable_cores())

    @abc.abstractmethod
    def _free(self) -> None:
        """Release what `_load` took; called once for every `_load`, a failed one included."""

    def load(self) -> None:
        """Load the model. Raises ArtefactError if the file is missing, unreadable, foreign, or contradicts its card."""
        if self._contract is not None:
            return
        check_file(self.path)
        try:
            card, model_input, classes = self._load()
            check_card(self.path, card, model_input, classes)
        except BaseException:
            self._free()
            raise
        self._contract = (card, model_input.as_in(card))

    def close(self) -> None:
        """Free the model. A call of `infer` in progress in another thread still finishes."""
        if self._contract is not None:
            self._contract = None
            self._free()

    def __enter__(self: Self) -> Self:
        self.load()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def card(self) -> ModelCard:
        """The model's card. Raises UsageError while the model is not loaded."""
        return self._loaded()[0]

    @property
    def input(self) -> ModelInput:
        """The array that `infer` takes. Raises UsageError while the model is not loaded."""
        return self._loaded()[1]

    @property
    def runs_on(self) -> str:
        """Library and device, such as "onnxruntime cpu"; backends with equal texts should give nearly equal logits."""
        return self.name

    @property
    def on_gpu(self) -> bool:
        """Whether it computes on a GPU, which may multiply float32 with 11 bits (TF32)."""
        return False

    @property
    def bulk(self) -> Bulk:
        """How to run many images on this machine. Raises UsageError while the model is not loaded."""
        return self._bulk(self.input)

    def infer(self, images: Any, *, alongside: bool = False) -> NDArray[np.float32]:
        """Compute the logits of N prepared images.

        Args:
            images: C-contiguous, of dtype and shape as in `input`; they are only read. A NumPy array, or for an engine
                an array on its GPU (gpu_arrays.py), which is not copied to the host.
            alongside: For one of `bulk.workers` calls at a time; on a CPU each uses one core instead of all.

        Returns:
            float32 (N, K), a new array that the caller owns.

        Raises:
            InputError: `images` has another dtype, shape or memory order.
            ArtefactError: The model fails.
            UsageError: The model is not loaded.
        """
        card, model_input = self._loaded()
        if is_on_gpu(images):
            array = self.gpu_array(images)
            check_gpu_array(array, model_input)
            count, logits = len(array), self._infer_on_gpu(array)
        else:
            check_images(images, model_input)
            count, logits = len(images), self._infer_alongside(images) if alongside else self._infer(images)
        expected = (count, len(card.labels))
        if logits.shape != expected or logits.dtype != np.float32:
            raise ArtefactError(
                f"{self.path}: got {describe(logits)} from the model, expected float32 {expected}; "
                "make it again with: taijitu onnx"
            )
        return logits

    def gpu_array(self, images: Any) -> GpuArray:
        """Return an array on this GPU as `infer` reads it. Raises InputError if the model or the array is not on one.

        On the thread that made the array: libraries have a current stream for each thread.
        """
        return read_gpu_array(images, self._gpu_stream())

    def _gpu_stream(self) -> int:
        """Return the CUDA stream that reads arrays on the GPU; only an engine has one."""
        raise InputError(
            f"{self.path}: got an array on a GPU for a model on {self.name}, expected it in the host's memory; copy it "
            "there, or build an engine: taijitu engine"
        )

    def _infer_on_gpu(self, images: GpuArray) -> NDArray[np.float32]:
        """Do the same as `_infer` for a checked array on the GPU; a backend with a `_gpu_stream` has this too."""
        raise NotImplementedError

    def _closed_meanwhile(self) -> UsageError:
        """Return the error for a call that another thread's `close` overtook."""
        return UsageError(
            f"{self.path}: got a call on a model that was closed in the meantime; close it after the last"
        )

    def _loaded(self) -> tuple[ModelCard, ModelInput]:
        if self._contract is None:
            raise UsageError(
                f"{self.path}: got a call on a model that is not loaded or was closed; use it inside `with`"
            )
        return self._contract


def check_file(path: Path, *, may_be_empty: bool = False) -> None:
    """Raise ArtefactError unless the path is a readable file, which is not empty unless it may be.

    An empty engine is refused by the hash in its sidecar, which has how to build it again.
    """
    try:
        status = path.stat()
        is_file = stat.S_ISREG(status.st_mode)
        if is_file:  # opening a pipe would wait for a writer
            path.open("rb").close()
    except (FileNotFoundError, NotADirectoryError):
        raise ArtefactError(f"{path}: got no such file, expected a model file; check the path") from None
    except (OSError, ValueError) as error:
        raise ArtefactError(
            f"{path}: got a file that cannot be read ({path_fault(error)}), expected a model file; check its "
            "permissions"
        ) from None
    if not is_file:
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a special file"
        raise ArtefactError(f"{path}: got {kind}, expected a model file; check the path")
    if status.st_size == 0 and not may_be_empty and not is_engine(path):
        raise ArtefactError(f"{path}: got an empty file, expected a model; copy or export it again")


def check_weights_are_there(path: Path, model: bytes) -> None:
    """Raise ArtefactError where the ONNX file at `path`, whose content is `model`, has weights in a missing file."""
    for file in missing_files(path, model):
        name = file.relative_to(path.parent)
        raise ArtefactError(f"{path}: got no {name}, expected its weights in that file; copy it next to the model")


def check_images(images: object, expected: ModelInput) -> None:
    """Raise InputError unless `images` is a C-contiguous array of the dtype, shape and batch size in `expected`."""
    if not isinstance(images, np.ndarray) or not _fits(images, expected):
        raise _unfit(describe(images), expected)
    if not images.flags.c_contiguous:
        raise InputError(
            f"got {describe(images)} that is not C-contiguous, expected a C-contiguous one; use numpy.ascontiguousarray"
        )
    _check_batch(len(images), expected)


def check_gpu_array(array: GpuArray, expected: ModelInput) -> None:
    """Raise InputError unless an array on the GPU has the dtype, shape and batch size in `expected`."""
    if not _fits(array, expected):
        raise _unfit(str(array), expected)
    if array.row_bytes is not None and expected.layout != "uint8 NHWC":
        raise InputError(
            f"got {array} with rows of {array.row_bytes} bytes, expected {array.row_size}; make it contiguous"
        )
    _check_batch(len(array), expected)


def _fits(images: NDArray[Any] | GpuArray, expected: ModelInput) -> bool:
    shape = images.shape
    return images.dtype == expected.dtype and len(shape) == 4 and shape[1:] == expected.shape(1)[1:]


def _unfit(got: str, expected: ModelInput) -> InputError:
    wanted = f"{expected.dtype} (N, {', '.join(map(str, expected.shape(1)[1:]))})"
    return InputError(f"got {got}, expected {wanted}; prepare pictures with Classifier.prepare")


def _check_batch(count: int, expected: ModelInput) -> None:
    upper = expected.max_batch
    if count < expected.min_batch or (upper is not None and count > upper):
        limits = f"at least {expected.min_batch}" if upper is None else f"{expected.min_batch} to {upper}"
        limits = f"exactly {upper}" if expected.min_batch == upper else limits
        raise InputError(f"got a batch of {count}, expected {limits}; split or pad it, or use Classifier.logits")
