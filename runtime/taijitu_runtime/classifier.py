"""Classify pictures: pictures in, labels with probabilities out."""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from taijitu_runtime.answers import Prediction, Scores, check_logits, check_top, scores_from_logits
from taijitu_runtime.backends import Backend, ModelInput, open_backend
from taijitu_runtime.backends.base import check_gpu_array, check_images
from taijitu_runtime.backends.bulk import Item, Pace, Result, UntilError, mapped, tasks
from taijitu_runtime.backends.contract import padded, rows_from_pixels
from taijitu_runtime.backends.gpu_arrays import is_on_gpu
from taijitu_runtime.card import ModelCard
from taijitu_runtime.decision.decision import temperature_of
from taijitu_runtime.decision.rule import DecisionRule
from taijitu_runtime.errors import ArtefactError, InputError, PictureError, UsageError, check_number, describe
from taijitu_runtime.explain.class_maps import ClassMaps
from taijitu_runtime.explain.explanation import Explanation
from taijitu_runtime.pictures.limits import LIMITS, Limits
from taijitu_runtime.pictures.preprocess import bytes_in_memory, preprocess, preprocess_and_region

if TYPE_CHECKING:
    from taijitu_runtime.backends.gpu_arrays import CudaArray, DlpackArray, GpuArray
    from taijitu_runtime.pictures.preprocess import Picture

USUAL_TOP = 5


class Classifier:
    """A loaded model, with preprocessing, labels and batching.

        with Classifier.from_file("model.onnx") as classifier:
            print(classifier.predict("picture.jpg").best)

    It takes ownership of the backend, loads it at once and closes it in `close`. One classifier may be used from
    several threads.

    Args:
        backend: The backend of a model file.
        batch_size: The most pictures that go through the network in one run; None for the number that suits the model
            and the processor's cache, see `Backend.bulk`.

    Raises:
        UsageError: The batch size is below 1, or the backend is none, such as a path. In addition, the errors of
            `Backend.load`.
    """

    def __init__(self, backend: Backend, *, batch_size: int | None = None) -> None:
        if not isinstance(backend, Backend):
            raise UsageError(f"got {describe(backend)}, expected a backend; for a file do: Classifier.from_file(path)")
        if batch_size is not None:
            check_number("batch_size", batch_size, 1, math.inf, "at least 1", whole=True)
        backend.load()
        self.backend = backend
        bulk = backend.bulk
        self._workers = bulk.workers
        limits = (size for size in (batch_size or bulk.batch, backend.input.max_batch) if size is not None)
        self.batch_size = min(limits)
        self._class_maps: ClassMaps | None = None
        self._opening = threading.Lock()

    @classmethod
    def from_file(
        cls,
        path: str | Path,
        *,
        batch_size: int | None = None,
        threads: int = 0,
        provider: str | None = None,
        rebuild: bool = False,
        cuda_graphs: bool = True,
    ) -> Classifier:
        """Load a model.onnx, or a model.engine with model.engine.json next to it.

        Args:
            path: The model file.
            batch_size: As for the class.
            threads: Cores of the CPU that it uses, for one picture or for several side by side; 0 for all.
            provider: ONNX Runtime's provider: "cpu", "cuda", "tensorrt" or "rtx"; None for "cpu".
            rebuild: Build an engine that was built for another GPU, TensorRT or platform, or is damaged, again from its
                ONNX file, which takes minutes on a small board.
            cuda_graphs: An engine captures its usual batches as CUDA graphs while it loads, see TrtBackend.

        Raises:
            ArtefactError: The file cannot be used.
            EngineError: The engine was built for another machine, and `rebuild` is False; it says for which.
            ProviderError: The provider cannot be used here; another one is never used instead.
            DeviceError: There is no driver or GPU for an engine.
            MissingDependencyError: The library that computes is not installed.
            UsageError: An argument is out of its range, or does not fit the file.
        """
        backend = open_backend(path, threads=threads, provider=provider, rebuild=rebuild, cuda_graphs=cuda_graphs)
        return cls(backend, batch_size=batch_size)

    def close(self) -> None:
        """Free the model; every later call raises UsageError."""
        self.backend.close()
        self._class_maps = None

    def __enter__(self) -> Classifier:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def card(self) -> ModelCard:
        """The model's card."""
        return self.backend.card

    @property
    def labels(self) -> tuple[str, ...]:
        """The K labels in the order of the logits."""
        return self.card.labels

    @overload
    def predict(
        self,
        pictures: list[Any] | tuple[Any, ...],
        top: int | None = None,
        *,
        limits: Limits = LIMITS,
        threshold: float | None = None,
    ) -> list[Prediction]: ...

    @overload
    def predict(
        self, pictures: Picture, top: int | None = None, *, limits: Limits = LIMITS, threshold: float | None = None
    ) -> Prediction: ...

    @overload
    def predict(
        self,
        pictures: GpuArray | DlpackArray | CudaArray,
        top: int | None = None,
        *,
        limits: Limits = LIMITS,
        threshold: float | None = None,
    ) -> Prediction | list[Prediction]: ...

    def predict(
        self, pictures: Any, top: int | None = None, *, limits: Limits = LIMITS, threshold: float | None = None
    ) -> Prediction | list[Prediction]:
        """Return the answers for one picture, or for each of a list or tuple of pictures.

        A picture is a path, the bytes of a file, a PIL image, or a uint8 RGB array (H, W, 3), [0, 255]. For an engine
        it may be an array on its GPU (PyTorch, CuPy, pycuda, ...): uint8 RGB of the model's size, (height, width, 3) or
        (N, height, width, 3) for a list, which is neither resized nor copied to the host.

        Args:
            pictures: One picture, or a list or tuple of pictures.
            top: How many answers, 1 to K; None for 5, or all if the model has fewer labels.
            limits: The limits of one picture, such as `Limits(max_pixels=200_000_000)`.
            threshold: The probability from which the likeliest answer is known; None for the card's own, if it has one.

        Raises:
            PictureError: A picture cannot be decoded; the first such picture is named.
            InputError: Something is not a picture.
            UsageError: `top` or `threshold` is out of its range.
        """
        top, rule = self.answer_count(top), self.decision_rule(threshold)
        if is_on_gpu(pictures):
            return self._predict_on_gpu(pictures, top, rule)
        if not isinstance(pictures, (list, tuple)):
            return self._predict([self.prepare(pictures, limits)], top, rule)[0]
        predictions = []
        for index, outcome in enumerate(self.predict_each(pictures, top, limits=limits, threshold=threshold)):
            if isinstance(outcome, PictureError):
                raise outcome.named(outcome.name or f"picture {index} of the list") from outcome
            predictions.append(outcome)
        return predictions

    def predict_each(
        self,
        pictures: Iterable[Picture],
        top: int | None = None,
        *,
        limits: Limits = LIMITS,
        threshold: float | None = None,
    ) -> Iterator[Prediction | PictureError]:
        """Yield, for each of any number of pictures in order, its prediction, or the error if it cannot be decoded.

        Pictures are taken from the iterable as they are needed, decoded and answered on all cores; memory does not grow
        with their number. An error of the iterable is raised behind the answers to what it gave before. `top`, `limits`
        and `threshold` as for `predict`, and its other errors.
        """
        if isinstance(pictures, (str, bytes)) or not isinstance(pictures, Iterable):  # each letter would be a path
            raise InputError(f"got {describe(pictures)}, expected several pictures; call predict for one")
        top, rule = self.answer_count(top), self.decision_rule(threshold)
        remaining = UntilError(pictures)

        def answer(task: list[Picture], alongside: bool) -> list[Prediction | PictureError]:
            prepared = [self._prepared(picture, limits) for picture in task]
            images = [image for image in prepared if not isinstance(image, PictureError)]
            found = iter(self._predict(images, top, rule, alongside=alongside) if images else [])
            return [image if isinstance(image, PictureError) else next(found) for image in prepared]

        answers = itertools.chain.from_iterable(self._tasks_done(answer, remaining, bytes_in_memory))
        return itertools.chain(answers, remaining.error())

    def explain(
        self, picture: Picture, top: int | None = None, *, limits: Limits = LIMITS, threshold: float | None = None
    ) -> Explanation:
        """Return the answers for a picture, and for each of them where in the picture it comes from.

        Computed on the CPU from the ONNX file, by a session of its own that the first call opens. Arguments and errors
        as for `predict`, of a picture in the host's memory, and ExplanationError for an engine and for a network that
        has no class-activation maps.
        """
        top, rule = self.answer_count(top), self.decision_rule(threshold)
        class_maps = self.class_maps()
        prepared, region = preprocess_and_region(picture, self.card.input, limits)
        logits, maps = class_maps(self.rows_from_prepared(prepared[None]))
        (prediction,) = self._predictions(logits, top, rule)
        return Explanation(prediction, maps[0, [answer.index for answer in prediction.answers]], region)

    def class_maps(self) -> ClassMaps:
        """Return what computes the maps of all labels; ExplanationError where there are none."""
        with self._opening:
            if self._class_maps is None:
                self._class_maps = ClassMaps(self.backend, self.card.input)
            return self._class_maps

    def prepare(self, picture: Picture, limits: Limits = LIMITS) -> NDArray[np.uint8]:
        """Check, decode, resize and crop one picture: uint8 RGB (height, width, 3) for `logits`, as `preprocess`.

        PictureError and InputError as for `predict`.
        """
        return preprocess(picture, self.card.input, limits)

    def logits(self, prepared: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Compute logits, float32 (N, K), of N >= 1 prepared pictures, uint8 RGB (N, height, width, 3), C-contiguous.

        They go through the network `batch_size` at a time, side by side where there are more, padded where the model
        takes one size of batch only, and normalised here where it takes float32. InputError for any other array.
        """
        taken = self.backend.input
        check_images(prepared, ModelInput("uint8 NHWC", taken.height, taken.width))
        return self._mapped(prepared, self.rows_from_prepared)

    def rows_from_prepared(self, prepared: NDArray[np.uint8]) -> NDArray[Any]:
        """Return prepared pictures, uint8 RGB (N, H, W, 3), as `backend.input` describes: unchanged, or in float32."""
        return rows_from_pixels(prepared, self.backend.input.layout, self.card.input)

    def infer(self, rows: NDArray[Any]) -> NDArray[np.float32]:
        """Compute logits, float32 (N, K), of N >= 1 rows of `rows_from_prepared`, as `logits` does."""
        return self._mapped(rows, lambda chunk: chunk)

    def scores(self, logits: NDArray[np.float32]) -> Scores:
        """Return probabilities, after the card's temperature, and order of float32 logits (N, K).

        Raises:
            ArtefactError: One of them is NaN or infinite.
        """
        try:
            return scores_from_logits(logits, temperature_of(self.card.decision), self.card.output)
        except ArtefactError as error:
            raise ArtefactError(f"{self.backend.path}: {error}") from None

    def predictions(
        self, logits: NDArray[np.float32], top: int | None = None, *, threshold: float | None = None
    ) -> list[Prediction]:
        """Return the predictions for logits (N, K), `top` answers each, as in `predict`.

        Logits of another dtype than float32, real numbers, are converted to it. InputError for anything else than such
        an array; the other errors as for `predict` and `scores`.
        """
        return self._predictions(logits, self.answer_count(top), self.decision_rule(threshold))

    def answer_count(self, top: int | None = None) -> int:
        """Return how many answers `top` asks for: None for 5, or all if the model has fewer labels.

        Raises:
            UsageError: It is not a number from 1 to K.
        """
        if top is None:
            return min(USUAL_TOP, len(self.labels))
        check_top(top, self.labels)
        return top

    def decision_rule(self, threshold: float | None = None) -> DecisionRule:
        """Return how answers are decided, by the card or by a threshold as in `predict`."""
        return DecisionRule(self.labels, self.card.decision, threshold)

    def _predictions(self, logits: NDArray[np.float32], top: int, rule: DecisionRule) -> list[Prediction]:
        check_logits(logits, self.labels)
        logits = logits.astype(np.float32, copy=False)
        scores = self.scores(logits)
        found = zip(scores.answers(self.labels, top), logits, scores.certainties(rule), strict=True)
        return [Prediction(tuple(answers), row.copy(), certainty) for answers, row, certainty in found]

    def _prepared(self, picture: Picture, limits: Limits) -> NDArray[np.uint8] | PictureError:
        try:
            return self.prepare(picture, limits)
        except PictureError as error:
            return error

    def _predict(
        self, images: list[NDArray[np.uint8]], top: int, rule: DecisionRule, *, alongside: bool = False
    ) -> list[Prediction]:
        rows = self.rows_from_prepared(np.stack(images))
        return self._predictions(self._infer(rows, alongside=alongside), top, rule)

    def _predict_on_gpu(self, pictures: Any, top: int, rule: DecisionRule) -> Prediction | list[Prediction]:
        array = self.backend.gpu_array(pictures)
        batch = array.as_batch()
        taken = self.backend.input
        check_gpu_array(batch, ModelInput("uint8 NHWC", taken.height, taken.width))
        parts = [
            self.backend.infer(batch.rows(start, start + self.batch_size))
            for start in range(0, len(batch), self.batch_size)
        ]
        predictions = self._predictions(np.concatenate(parts), top, rule)
        return predictions if batch is array else predictions[0]

    def _mapped(
        self, images: NDArray[Any], rows_from_images: Callable[[NDArray[Any]], NDArray[Any]]
    ) -> NDArray[np.float32]:
        def infer(task: list[int], alongside: bool) -> NDArray[np.float32]:
            return self._infer(rows_from_images(images[task[0] : task[-1] + 1]), alongside=alongside)

        return _joined(list(self._tasks_done(infer, range(len(images)))))

    def _tasks_done(
        self,
        work: Callable[[list[Item], bool], Result],
        items: Iterable[Item],
        bytes_of: Callable[[Item], int] = lambda _: 0,
    ) -> Iterator[Result]:
        """Yield `work(task, alongside)` of all tasks that the items make, on all workers.

        `alongside`: whether several runs of the network are in progress.
        """
        pace = Pace(self.batch_size)
        remaining = tasks(items, pace, self._workers, bytes_of)
        ahead = list(itertools.islice(remaining, 2))

        def timed(task: list[Item]) -> Result:
            began = time.monotonic()
            result = work(task, len(ahead) > 1)
            pace.note(len(task), time.monotonic() - began)
            return result

        return mapped(timed, itertools.chain(ahead, remaining), self._workers)

    def _infer(self, rows: NDArray[Any], *, alongside: bool) -> NDArray[np.float32]:
        size = self.batch_size
        return _joined([self._run(rows[start : start + size], alongside) for start in range(0, len(rows), size)])

    def _run(self, rows: NDArray[Any], alongside: bool) -> NDArray[np.float32]:
        return self.backend.infer(padded(rows, self.backend.input.min_batch), alongside=alongside)[: len(rows)]


def _joined(parts: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
