"""The backend for ONNX Runtime: any ONNX file with taijitu's metadata, on every machine."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from taijitu_runtime.backends.base import Backend, check_weights_are_there
from taijitu_runtime.backends.bulk import Bulk, batch_for_cache
from taijitu_runtime.backends.contract import ModelInput, Tensor, input_and_classes, not_an_artefact
from taijitu_runtime.backends.ort.provider import open_on_provider
from taijitu_runtime.backends.ort.session import SessionOpener, run_session
from taijitu_runtime.card import ModelCard, Precision, has_card
from taijitu_runtime.errors import ArtefactError, ProviderError, check_name, check_number, one_line, require
from taijitu_runtime.fields import is_unicode
from taijitu_runtime.installed import version_numbers
from taijitu_runtime.machine import MOST_THREADS, core_cache_bytes, usable_cores
from taijitu_runtime.onnx_graph.external_data import external_files
from taijitu_runtime.onnx_graph.tensor_sizes import largest_tensor_bytes
from taijitu_runtime.providers import PROVIDERS

ROUNDS_FLOAT16 = (1, 30)
"""The first release whose CPU provider quantises float16 as it should: microsoft/onnxruntime#22741."""
NUMPY_NAMES = {"float": "float32", "double": "float64"}


class OrtBackend(Backend):
    """ONNX Runtime on the CPU, or through its provider "cuda", "tensorrt" or "rtx" on an NVIDIA GPU; never on another.

    `threads`: cores that it uses, in one inference or in so many side by side; 0 for all that this process may use.
    `native`: with our kernels for Nish, where they are built; without, the file runs as any other program would run it.
    `profile_prefix`: ONNX Runtime writes the times of every node to a file of that name, with the date behind it.

    UsageError for a negative number or an unknown provider. On loading, MissingDependencyError if onnxruntime is not
    installed, and ProviderError if the provider is not in it or cannot be used here.
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
        check_number("threads", threads, 0, MOST_THREADS, f"0 (one per core) to {MOST_THREADS}", whole=True)
        check_name("provider", provider, PROVIDERS)
        self._cores = threads or usable_cores()
        self._provider = provider
        self._native = native
        self._profile_prefix = profile_prefix
        self._image_bytes: int | None = None
        self._identity: tuple[tuple[int, ...], ...] = ()
        self._session: Any = None
        self._alongside: Any = None  # a session of one thread, opened when several inferences run at a time
        self._opening = threading.Lock()

    @property
    def session(self) -> Any:
        """The onnxruntime.InferenceSession. UsageError while the model is not loaded."""
        self._loaded()
        return self._session

    @property
    def runs_on(self) -> str:
        """The library and the provider."""
        return f"{self.name} {self._provider}"

    @property
    def on_gpu(self) -> bool:
        """Whether the provider is not the CPU's."""
        return self._provider != "cpu"

    def check_same_file(self) -> None:
        """Raise ArtefactError where the file at the path, or its weights, are others than those that were loaded."""
        if not self._is_same_file():
            raise ArtefactError(
                f"{self.path}: got another file than the one that was loaded, expected the same; load it again"
            )

    def _is_same_file(self) -> bool:
        return identity_of_files(self.path) == self._identity

    def _load(self) -> tuple[ModelCard, ModelInput, int]:
        self._identity = identity_of_files(self.path)
        self._session = self._new_session(self._cores)
        metadata = self._session.get_modelmeta().custom_metadata_map
        if not has_card(metadata):
            raise not_an_artefact(self.path, "an ONNX model without taijitu's metadata (labels, preprocessing)")
        card = ModelCard.read_onnx_metadata(metadata, self.path)
        if self._provider == "cpu":
            check_rounding(self.path, card.precision)
        self._image_bytes = largest_tensor_bytes(self.path.read_bytes())
        inputs, outputs = (
            [tensor_of(node) for node in nodes] for nodes in (self._session.get_inputs(), self._session.get_outputs())
        )
        model_input, classes = input_and_classes(self.path, inputs, outputs)
        # Where the graph leaves K open, the base compares every batch of logits with the labels.
        return card, model_input, len(card.labels) if classes is None else classes

    def _infer(self, images: NDArray[Any]) -> NDArray[np.float32]:
        return self._run(self._session, images)

    def _infer_alongside(self, images: NDArray[Any]) -> NDArray[np.float32]:
        if self._provider != "cpu" or self._cores == 1:
            return self._infer(images)
        with self._opening:
            if self._alongside is None and self._session is not None:
                # A file that was replaced since must not answer a part of the images.
                self._alongside = self._new_session(1) if self._is_same_file() else self._session
            session = self._alongside
        return self._run(session, images)

    def _bulk(self, model_input: ModelInput) -> Bulk:
        if self._provider != "cpu":
            return super()._bulk(model_input)
        return bulk_on_cpu(self._image_bytes, model_input.max_batch, self._cores)

    def _run(self, session: Any, images: NDArray[Any]) -> NDArray[np.float32]:
        if session is None:
            raise self._closed_meanwhile()
        logits: NDArray[np.float32] = run_session(session, ["logits"], {"images": images}, self.path)[0]
        return logits

    def _free(self) -> None:
        with self._opening:  # a session that is being opened would outlive it, and answer for the next file
            self._session = self._alongside = None

    def _new_session(self, threads: int) -> Any:
        return open_model(
            self.path,
            threads=threads,
            provider=self._provider,
            native=self._native,
            profile_prefix=self._profile_prefix,
        )


def check_rounding(path: Path, precision: Precision) -> None:
    """Raise ArtefactError for int8 with float16 between its layers on a release that quantises float16 wrongly.

    The logits would be off by a third of their range, without any error of ONNX Runtime.
    """
    if precision.is_float16_between and not rounds_float16():
        version, least = onnxruntime_version(), ".".join(map(str, ROUNDS_FLOAT16))
        raise ArtefactError(
            f"{path}: got int8 with float16 between its layers and ONNX Runtime {version}, whose CPU provider rounds "
            f"float16 wrongly, expected {least} or later, for Python 3.11 or later; upgrade it, or do: taijitu onnx "
            "CKPT --precision int8 --for cpu"
        )


def rounds_float16() -> bool:
    """Return whether the installed ONNX Runtime rounds float16 rightly on a CPU where it quantises it."""
    return version_numbers(onnxruntime_version()) >= ROUNDS_FLOAT16


def onnxruntime_version() -> str:
    """Return the version of the installed ONNX Runtime."""
    version: str = require("onnxruntime", "taijitu[ort]").__version__
    return version


def identity_of_files(path: Path) -> tuple[tuple[int, ...], ...]:
    """Return what changes when a model's file, or one of its weights, is replaced or written to; empty without it."""
    try:
        found = [file.stat() for file in (path, *external_files(path, path.read_bytes()))]
    except OSError:
        return ()
    return tuple((status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns) for status in found)


def bulk_on_cpu(image_bytes: int | None, max_batch: int | None, threads: int) -> Bulk:
    """Return how ONNX Runtime's CPU runs many images best, from its largest tensor of one image, if known.

    `max_batch`: the most that the model takes, None for any number. `threads`: as of OrtBackend.
    """
    return Bulk(max_batch or batch_for_cache(image_bytes, core_cache_bytes()), threads or usable_cores())


def open_model(
    path: Path,
    *,
    threads: int = 0,
    provider: str = "cpu",
    native: bool = True,
    profile_prefix: Path | None = None,
    more: bytes = b"",
) -> Any:
    """Open any ONNX file as an onnxruntime.InferenceSession; the arguments and errors are those of OrtBackend.

    `more`: a serialised ModelProto that is merged into that of the file.
    """
    ort = require("onnxruntime", "taijitu[ort]")
    if not is_unicode(str(path)):
        raise ArtefactError(
            f"{path}: got a path that is not UTF-8, expected one that ONNX Runtime can open; rename the file or folder"
        )
    opener = SessionOpener(ort, path, threads, profile_prefix, more)
    try:
        return open_on_provider(ort, provider, opener.open_with_nish if native else opener.open, path)
    except ProviderError:
        raise
    except Exception as error:
        check_weights_are_there(path, path.read_bytes())
        raise ArtefactError(
            f"{path}: got a file that ONNX Runtime cannot load ({one_line(error)}), expected a whole ONNX model; "
            "copy it again, or make it again with: taijitu onnx"
        ) from error


def tensor_of(node: Any) -> Tensor:
    """Return an input or output of a session."""
    kind = node.type.removeprefix("tensor(").removesuffix(")")
    shape = tuple(side if isinstance(side, int) else None for side in node.shape)
    return Tensor(node.name, NUMPY_NAMES.get(kind, kind), shape)
