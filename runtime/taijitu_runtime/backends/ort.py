"""ONNX Runtime: any model.onnx with taijitu's metadata, on every machine."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from taijitu_runtime.backends.base import Backend, Layout, ModelInput
from taijitu_runtime.backends.ort_provider import check_provider, open_on_provider
from taijitu_runtime.backends.ort_session import open_nish_session, open_session
from taijitu_runtime.backends.tensor_sizes import largest_tensor_bytes
from taijitu_runtime.bulk import Bulk, batch_for_cache
from taijitu_runtime.card import METADATA_PREFIX, ModelCard
from taijitu_runtime.errors import ArtefactError, ProviderError, UsageError, require
from taijitu_runtime.machine import core_cache_bytes, usable_cores

LAYOUTS: dict[str, Layout] = {"tensor(uint8)": "uint8 NHWC", "tensor(float)": "float32 NCHW"}


class OrtBackend(Backend):
    """ONNX Runtime on the CPU, or through its providers "cuda" and "tensorrt" on an NVIDIA GPU; never on another one.

    `threads`: cores that it uses, in one inference or in so many side by side; 0 for all that this process may use.
    `native`: with our kernels for Nish,
    where they are built; without, the file runs as any other program would run it. UsageError for a negative number or
    an unknown provider. On loading, MissingDependencyError if onnxruntime is not installed, and ProviderError if the
    provider is not in it or cannot be used here. `profile_prefix`: ONNX Runtime writes the times of every node to a
    file of that name, with the date behind it.
    """

    name: ClassVar[str] = "onnxruntime"

    def __init__(
        self,
        path: str | Path,
        *,
        threads: int = 0,
        provider: str = "cpu",
        native: bool = True,
        profile_prefix: Path | None = None,
    ) -> None:
        super().__init__(path)
        if threads < 0:
            raise UsageError(f"got threads={threads}, expected 0 (ONNX Runtime decides) or more")
        check_provider(provider)
        self._cores = threads or usable_cores()
        self._provider = provider
        self._native = native
        self._profile_prefix = profile_prefix
        self._image_bytes: int | None = None
        self._session: Any = None
        self._alongside: Any = None  # a session of one thread, opened when several inferences run at a time
        self._opening = threading.Lock()

    @property
    def session(self) -> Any:
        """The onnxruntime.InferenceSession. UsageError while the model is not loaded."""
        self._loaded()
        return self._session

    def _load(self) -> tuple[ModelCard, ModelInput, int]:
        self._session = self._new_session(self._cores)
        metadata = self._session.get_modelmeta().custom_metadata_map
        if not any(key.startswith(METADATA_PREFIX) for key in metadata):
            raise self._not_ours("an ONNX model without taijitu's metadata (labels, preprocessing)")
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if [node.name for node in inputs] != ["images"] or [node.name for node in outputs] != ["logits"]:
            names = [node.name for node in inputs], [node.name for node in outputs]
            raise self._not_ours(f"inputs {names[0]} and outputs {names[1]} instead of 'images' and 'logits'")
        if outputs[0].type != "tensor(float)" or len(outputs[0].shape) != 2:
            raise self._not_ours(f"logits of {outputs[0].type} {outputs[0].shape} instead of tensor(float) [N, K]")
        card = ModelCard.read_onnx_metadata(metadata)
        self._image_bytes = largest_tensor_bytes(self.path.read_bytes())
        classes = outputs[0].shape[1]
        # Where the graph leaves K open, the base compares every batch of logits with the labels.
        return card, self._model_input(inputs[0]), classes if isinstance(classes, int) else len(card.labels)

    def _infer(self, images: NDArray[Any]) -> NDArray[np.float32]:
        return self._run(self._session, images)

    def _infer_alongside(self, images: NDArray[Any]) -> NDArray[np.float32]:
        if self._provider != "cpu" or self._cores == 1:
            return self._infer(images)
        with self._opening:
            if self._alongside is None and self._session is not None:
                self._alongside = self._new_session(1)
            session = self._alongside
        return self._run(session, images)

    def _bulk(self, model_input: ModelInput) -> Bulk:
        if self._provider != "cpu":
            return super()._bulk(model_input)
        batch = model_input.max_batch or batch_for_cache(self._image_bytes, core_cache_bytes())
        return Bulk(batch, self._cores)

    def _run(self, session: Any, images: NDArray[Any]) -> NDArray[np.float32]:
        if session is None:
            raise UsageError(f"{self.path}: got a call on a model that was closed meanwhile; close it after the last")
        try:
            logits: NDArray[np.float32] = session.run(["logits"], {"images": images})[0]
        except Exception as error:
            raise ArtefactError(f"{self.path}: ONNX Runtime failed on {images.shape}: {_line(error)}") from error
        return logits

    def _free(self) -> None:
        self._session = self._alongside = None

    def _new_session(self, threads: int) -> Any:
        ort = require("onnxruntime", "taijitu[ort]")
        open_one = open_nish_session if self._native else open_session
        try:
            return open_on_provider(
                ort,
                self._provider,
                lambda found: open_one(ort, self.path, threads, found, self._profile_prefix),
                self.path,
            )
        except ProviderError:
            raise
        except Exception as error:
            raise ArtefactError(
                f"{self.path}: got a file that ONNX Runtime cannot load ({_line(error)}), expected a whole ONNX model; "
                "copy it again, or make it again with: taijitu onnx"
            ) from error

    def _model_input(self, node: Any) -> ModelInput:
        layout = LAYOUTS.get(node.type)
        shape = node.shape
        if layout is None or len(shape) != 4:
            raise self._not_ours(f"images of {node.type} {shape} instead of uint8 [N, H, W, 3] or float [N, 3, H, W]")
        batch, channels = shape[0], shape[3] if layout == "uint8 NHWC" else shape[1]
        height, width = shape[1:3] if layout == "uint8 NHWC" else shape[2:4]
        if channels != 3 or not isinstance(height, int) or not isinstance(width, int):
            raise self._not_ours(f"images of shape {shape} instead of a fixed height and width and 3 channels")
        if isinstance(batch, int):
            return ModelInput(layout, height, width, min_batch=batch, max_batch=batch)
        return ModelInput(layout, height, width)

    def _not_ours(self, got: str) -> ArtefactError:
        return ArtefactError(
            f"{self.path}: got {got}, expected a model made by: taijitu onnx checkpoint.pt -o model.onnx"
        )


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
