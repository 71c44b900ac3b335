"""Classifier: pictures in, labels with probabilities out."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from taijitu_runtime.answers import Answer, Scores, check_top, scores_from_logits, top_k
from taijitu_runtime.backends import Backend, ModelInput, open_backend
from taijitu_runtime.backends.base import check_images
from taijitu_runtime.card import ModelCard
from taijitu_runtime.errors import PictureError, UsageError
from taijitu_runtime.pictures.headers import LIMITS, Limits
from taijitu_runtime.pictures.preprocess import normalise, preprocess

if TYPE_CHECKING:
    from taijitu_runtime.pictures.preprocess import Picture

USUAL_TOP = 5


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What the model says of one picture: its answers, the likeliest first, and all its logits, float32 (K,)."""

    answers: tuple[Answer, ...]
    logits: NDArray[np.float32] = dataclasses.field(repr=False, compare=False)

    @property
    def best(self) -> Answer:
        """The likeliest answer."""
        return self.answers[0]


class Classifier:
    """A loaded model and everything around it:

        with Classifier.from_file("model.onnx") as classifier:
            print(classifier.predict("picture.jpg").best)

    It takes ownership of the backend, loads it at once and closes it in `close`. `batch_size`: at most that many
    pictures go through the network at a time; memory grows with it. Errors as for `Backend.load`, and UsageError for a
    batch size below 1. One classifier may be used from several threads.
    """

    def __init__(self, backend: Backend, *, batch_size: int = 8) -> None:
        if batch_size < 1:
            raise UsageError(f"got batch_size={batch_size}, expected at least 1")
        backend.load()
        self.backend = backend
        limit = backend.input.max_batch
        self.batch_size = batch_size if limit is None else min(batch_size, limit)

    @classmethod
    def from_file(
        cls,
        path: str | Path,
        *,
        batch_size: int = 8,
        threads: int = 0,
        provider: str | None = None,
        rebuild: bool = False,
    ) -> Classifier:
        """Load a model.onnx, or a model.engine with its model.engine.json beside it. ArtefactError if it is no use.

        `threads`: of one inference on the CPU, 0 leaves it to the backend. `provider`, of ONNX Runtime: "cpu", which is
        also what None means, "cuda" or "tensorrt"; ProviderError, and never another one instead, where it cannot be
        used. `rebuild`: an engine that was built for another GPU, TensorRT or platform, or is damaged, is built again
        from its ONNX, which takes minutes on a small board; without, EngineError says what it was built for.
        """
        return cls(open_backend(path, threads=threads, provider=provider, rebuild=rebuild), batch_size=batch_size)

    def close(self) -> None:
        """Free the model; every later call raises UsageError."""
        self.backend.close()

    def __enter__(self) -> Classifier:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
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
        self, pictures: list[Any] | tuple[Any, ...], top: int | None = None, *, limits: Limits = LIMITS
    ) -> list[Prediction]: ...

    @overload
    def predict(self, pictures: Picture, top: int | None = None, *, limits: Limits = LIMITS) -> Prediction: ...

    def predict(
        self, pictures: Any, top: int | None = None, *, limits: Limits = LIMITS
    ) -> Prediction | list[Prediction]:
        """The answers for one picture, or for each of a list or tuple of pictures.

        A picture is a path, the bytes of a file, a PIL image, or a uint8 RGB array (H, W, 3), [0, 255]. `top`: how
        many answers, 1 to K; None gives 5, or all where the model knows fewer. `limits`: what one picture may cost, as
        `Limits(max_pixels=200_000_000)`. PictureError, naming the first picture that cannot be decoded; InputError for
        anything that is not a picture; UsageError for `top`.
        """
        top = self._checked_top(top)
        if not isinstance(pictures, (list, tuple)):
            return self._predict([self.prepare(pictures, limits)], top)[0]
        predictions = []
        for start in range(0, len(pictures), self.batch_size):
            batch = [
                self._prepare_nth(start + offset, picture, limits)
                for offset, picture in enumerate(pictures[start : start + self.batch_size])
            ]
            predictions += self._predict(batch, top)
        return predictions

    def prepare(self, picture: Picture, limits: Limits = LIMITS) -> NDArray[np.uint8]:
        """Check, decode, resize and crop one picture: uint8 RGB (height, width, 3) for `logits`, as `preprocess`."""
        return preprocess(picture, self.card.input, limits)

    def logits(self, prepared: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Logits, float32 (N, K), of N >= 1 prepared pictures, uint8 RGB (N, height, width, 3), C-contiguous.

        They go through the network `batch_size` at a time, padded where the model takes one size of batch only, and
        normalised here where it takes float32. InputError for any other array.
        """
        taken = self.backend.input
        check_images(prepared, ModelInput("uint8 NHWC", taken.height, taken.width))
        return _joined([self.infer(self.rows_from_prepared(chunk)) for chunk in self._chunks(prepared)])

    def rows_from_prepared(self, prepared: NDArray[np.uint8]) -> NDArray[Any]:
        """Prepared pictures as `backend.input` says that the model takes them: as they are, or normalised float32."""
        return prepared if self.backend.input.layout == "uint8 NHWC" else normalise(prepared, self.card.input)

    def infer(self, rows: NDArray[Any]) -> NDArray[np.float32]:
        """Logits, float32 (N, K), of N >= 1 rows of `rows_from_prepared`, `batch_size` at a time, padded as needed."""
        return _joined([self._infer(chunk) for chunk in self._chunks(rows)])

    def scores(self, logits: NDArray[np.float32]) -> Scores:
        """Probabilities and order of float32 logits (N, K). ArtefactError where one is NaN or infinite."""
        return scores_from_logits(logits, self.card.output)

    def predictions(self, logits: NDArray[np.float32], top: int | None = None) -> list[Prediction]:
        """The predictions for float32 logits (N, K), `top` answers each, as in `predict`."""
        answers = top_k(logits, self.labels, self._checked_top(top), self.card.output)
        return [Prediction(tuple(row), scores.copy()) for row, scores in zip(answers, logits, strict=True)]

    def _checked_top(self, top: int | None) -> int:
        if top is None:
            return min(USUAL_TOP, len(self.labels))
        check_top(top, self.labels)
        return top

    def _prepare_nth(self, index: int, picture: Picture, limits: Limits) -> NDArray[np.uint8]:
        try:
            return self.prepare(picture, limits)
        except PictureError as error:
            raise error.named(error.name or f"picture {index} of the list") from error

    def _predict(self, batch: list[NDArray[np.uint8]], top: int) -> list[Prediction]:
        return self.predictions(self.logits(np.stack(batch)), top)

    def _chunks(self, pictures: NDArray[Any]) -> list[NDArray[Any]]:
        return [pictures[start : start + self.batch_size] for start in range(0, len(pictures), self.batch_size)]

    def _infer(self, chunk: NDArray[Any]) -> NDArray[np.float32]:
        missing = max(0, self.backend.input.min_batch - len(chunk))
        padded = np.concatenate([chunk, np.zeros((missing, *chunk.shape[1:]), chunk.dtype)]) if missing else chunk
        return self.backend.infer(padded)[: len(chunk)]


def _joined(parts: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
