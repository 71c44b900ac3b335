"""A served model: loaded, warmed up, checked, and with a queue of its own."""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from taijitu_runtime.answers import Scores
from taijitu_runtime.backends import ModelInput
from taijitu_runtime.classifier import Classifier
from taijitu_runtime.console import shown
from taijitu_runtime.errors import ArtefactError, ExplanationError, PictureError
from taijitu_runtime.explain.class_maps import maps_added_to
from taijitu_runtime.explain.explanation import Explanation
from taijitu_runtime.model_files import is_onnx
from taijitu_runtime.pictures.headers import inspect
from taijitu_runtime.pictures.limits import Limits
from taijitu_runtime.proof.prove import Proof, proof_at_start
from taijitu_server.errors import (
    MODEL_DEAD,
    MODEL_HANGS,
    MODEL_REPLACED,
    QUEUE_FULL,
    REQUEST_PIXELS,
    HttpError,
    overloaded,
)
from taijitu_server.metrics import Metrics
from taijitu_server.models.batcher import Batcher, Job, Prepare, Rows, Steps
from taijitu_server.models.decode_pool import DecodePool, prepare_here
from taijitu_server.models.model_metrics import ModelMetrics
from taijitu_server.models.names import name_from_card
from taijitu_server.settings import Settings

if TYPE_CHECKING:
    from PIL import Image

log = logging.getLogger("taijitu.server")

# To pass a picture to another thread and back takes about as long as to decode this many pixels.
QUICK_PIXELS = 64 * 64
QUICK_BYTES = 8192


class ServedModel:
    """One version of one model. `open` does all that may fail; call `submit` and `accept` in the event loop."""

    def __init__(
        self,
        name: str,
        version: str,
        classifier: Classifier,
        settings: Settings,
        metrics: Metrics,
        proof: Proof | None = None,
    ) -> None:
        self.name = name
        self.version = version
        self.classifier = classifier
        self.proof = proof
        self.labels = classifier.labels
        self.decision_rule = classifier.decision_rule()
        self.input: ModelInput = classifier.backend.input
        self._no_maps: ExplanationError | None = None
        try:
            maps_added_to(classifier.backend)
        except ExplanationError as error:
            self._no_maps = error
        self._jobs: set[Job] = set()
        self._settings = settings
        self._limits = settings.picture_limits()
        self._metrics = ModelMetrics(metrics, name, version)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_hanging = False
        self._batcher = Batcher(
            name,
            self.scores,
            self._deliver,
            max_batch=classifier.batch_size,
            max_delay_s=settings.max_delay_ms / 1e3,
            instances=settings.batches_at_once(),
        )

    @classmethod
    def open(cls, name: str, version: str, path: Path, settings: Settings, metrics: Metrics) -> ServedModel:
        """Load a file, run it on blank and on random pictures, alone and as a batch, and prove it.

        An empty `name`: the one in its card. ArtefactError where a run fails, ProofError where its proof does.
        """
        classifier = Classifier.from_file(
            path,
            batch_size=settings.max_batch,
            threads=settings.inference_threads,
            provider=settings.provider,
            cuda_graphs=settings.cuda_graphs or is_onnx(path),
        )
        try:
            _check(classifier)
            proof = proof_at_start(classifier, settings.prove)
            if proof is not None and proof.outcome == "failed":
                log.warning("%s is served although it failed: %s", shown(path), shown(proof))
            return cls(name or name_from_card(classifier.card), version, classifier, settings, metrics, proof)
        except BaseException:
            classifier.close()
            raise

    @property
    def is_alive(self) -> bool:
        """Whether it answers: False once its inference threads are dead and not replaced, and while it hangs."""
        return self._batcher.is_alive and not self._is_hanging

    @property
    def explains(self) -> bool:
        """Whether it has class-activation maps."""
        return self._no_maps is None

    def check_explains(self) -> None:
        """Raise ExplanationError where it has no class-activation maps."""
        if self._no_maps is not None:
            raise self._no_maps

    @property
    def pending(self) -> int:
        """Requests waiting or running."""
        return len(self._jobs)

    def check_overdue(self) -> None:
        """Answer overdue requests with an error: their run takes too long, or waits for one that does."""
        due = time.monotonic() - self._settings.run_timeout_s
        overdue = [job for job in self._jobs if job.deadline < due]
        for job in overdue:
            if not job.future.done():
                job.future.set_exception(HttpError(MODEL_HANGS, f"{self.name} gave no answer in time"))
        if bool(overdue) != self._is_hanging:
            self._is_hanging = bool(overdue)
            level, state = (logging.ERROR, "hangs") if overdue else (logging.INFO, "answers again")
            log.log(level, "model %s version %s %s", self.name, self.version, state)

    def submit(self, pool: DecodePool | None, prepare: Prepare) -> Job:
        """Queue one request; its `future` gives the scores. HttpError 503 where the queue is full.

        It is prepared in `pool`, or without one in the calling thread.
        """
        job = self.accept(prepare)
        if pool is None:
            self.prepare(job)
        else:
            pool.put(job, self._batcher.put, self._deliver)
        return job

    def submit_explained(
        self, pool: DecodePool, pictures: Callable[[], Sequence[bytes]], top: int, threshold: float | None
    ) -> tuple[Job, list[Explanation]]:
        """Queue one request whose pictures are explained in `pool`, by a session of its own.

        The list has an explanation for each picture when the job's `future` has its result. HttpError 503 where the
        queue is full or the file was replaced, ExplanationError where there are no maps.
        """
        self.check_explains()
        explanations: list[Explanation] = []

        def explain(_: Job) -> Steps:
            found = pictures()
            check_request_pixels(found, self._limits, self._settings.max_request_pixels)
            self._open_maps()
            for index, picture in enumerate(found):
                with _naming(index, len(found)):
                    most = min(top, len(self.labels))
                    explanations.append(
                        self.classifier.explain(picture, most, limits=self._limits, threshold=threshold)
                    )
                yield
            return np.stack([explanation.prediction.logits for explanation in explanations])

        def deliver(job: Job) -> None:
            job.outcome = self.classifier.scores(job.rows)
            self._deliver([job])

        job = self.accept(explain)
        pool.put(job, deliver, self._deliver)
        return job, explanations

    def _open_maps(self) -> None:
        """Open the session of the maps, which the first request does from the file; HttpError 503 for another file."""
        try:
            self.classifier.class_maps()
        except ArtefactError as error:
            text = f"the file of {self.name} was replaced since it was loaded; try again once it is loaded again"
            raise overloaded(MODEL_REPLACED, text, self._settings.retry_after_s) from error

    def is_quick(self, picture: bytes) -> bool:
        """Return whether preparing a picture file takes less time than telling another thread about it.

        True for a JPEG as small as those of CIFAR-10, for a network that takes such.
        """
        if len(picture) > QUICK_BYTES or self.input.height * self.input.width > QUICK_PIXELS:
            return False
        try:
            header = inspect(picture, self._limits)
        except PictureError:
            return True  # `prepare` will refuse it
        return header.format == "JPEG" and not header.has_metadata and header.width * header.height <= QUICK_PIXELS

    def accept(self, prepare: Prepare) -> Job:
        """Reserve a place in the queue for a job, which is not run once the settings' time in it is over.

        Call `prepare` with it next. HttpError 503 where the queue is full.
        """
        settings = self._settings
        if not self.is_alive:
            raise overloaded(MODEL_DEAD, f"{self.name} is not running", settings.retry_after_s)
        if self.pending >= settings.queue_size:
            text = f"{settings.queue_size} requests already wait for {self.name}; try again"
            raise overloaded(QUEUE_FULL, text, settings.retry_after_s)
        self._loop = asyncio.get_running_loop()
        job = Job(self._loop.create_future(), prepare, time.monotonic() + settings.queue_timeout_ms / 1e3)
        self._jobs.add(job)
        self._metrics.pending.inc()
        return job

    def prepare(self, job: Job) -> None:
        """Prepare an accepted job in the calling thread, any thread, and queue it."""
        prepare_here(job, self._batcher.put, self._deliver)

    def rows_from_pictures(self, pictures: Sequence[bytes]) -> Rows | Steps:
        """Return rows for the model from picture files; for several, in steps.

        PictureError, naming the first bad one; HttpError 413 where all together have too many pixels, before any is
        decoded.
        """
        if len(pictures) == 1:
            return self._rows([self._prepared(0, 1, pictures[0])])
        check_request_pixels(pictures, self._limits, self._settings.max_request_pixels)
        return self._steps(pictures)

    def _steps(self, pictures: Sequence[bytes]) -> Steps:
        rows = []
        for index, picture in enumerate(pictures):
            rows.append(self._prepared(index, len(pictures), picture))
            yield
        return self._rows(rows)

    def rows_from_image(self, image: Image.Image) -> Rows:
        """Return one row for the model from an image."""
        return self._rows([self.classifier.prepare(image)])

    def scores(self, rows: Rows) -> Scores:
        """Run the network, `max_batch` rows at a time; ArtefactError where it fails or gives NaN."""
        return self.classifier.scores(self.classifier.infer(rows))

    def close(self) -> None:
        """Answer all accepted requests, then free the model; blocks until then."""
        self._batcher.close()
        self.classifier.close()

    def _rows(self, prepared: Sequence[Rows]) -> Rows:
        return self.classifier.rows_from_prepared(np.stack(prepared))

    def _prepared(self, index: int, count: int, picture: bytes) -> Any:
        with _naming(index, count):
            return self.classifier.prepare(picture, self._limits)

    def _deliver(self, jobs: Sequence[Job]) -> None:
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._resolve, tuple(jobs))

    def _resolve(self, jobs: Sequence[Job]) -> None:
        accepted = len(self._jobs)
        self._jobs.difference_update(jobs)
        self._metrics.pending.dec(accepted - len(self._jobs))
        self._metrics.observe(jobs)
        for job in jobs:
            job.is_delivered = True
            if job.on_delivered is not None:
                job.on_delivered()
                job.on_delivered = None
            if job.future.done():
                continue
            if isinstance(job.outcome, Exception):
                job.future.set_exception(job.outcome)
            else:
                job.future.set_result(job.outcome)


@contextlib.contextmanager
def _naming(index: int, count: int) -> Iterator[None]:
    """Say in a PictureError which of `count` pictures it is about."""
    try:
        yield
    except PictureError as error:
        if count == 1:
            raise
        raise error.named(f"picture {index}") from error


def check_request_pixels(pictures: Sequence[bytes], limits: Limits, max_pixels: int) -> None:
    """Raise HttpError 413 where the headers of one request's pictures declare more than `max_pixels` together.

    Other faults of a picture are reported when it is decoded.
    """
    pixels = 0
    for picture in pictures:
        with contextlib.suppress(PictureError):
            header = inspect(picture, limits)
            pixels += header.width * header.height
    if pixels > max_pixels:
        text = f"got {pixels} pixels in {len(pictures)} pictures, expected at most {max_pixels} in one request"
        raise HttpError(REQUEST_PIXELS, f"{text}; send fewer pictures at a time, or smaller ones")


def _check(classifier: Classifier) -> None:
    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "JPEG")
    classifier.prepare(file.getvalue())  # the decoders are imported with their first picture
    taken = classifier.backend.input
    for count in sorted({taken.min_batch, classifier.batch_size}):
        pictures = np.zeros((count, taken.height, taken.width, 3), np.uint8)
        classifier.scores(classifier.logits(pictures))
        noise = np.random.default_rng(0).integers(0, 256, pictures.shape, np.uint8)
        classifier.scores(classifier.logits(noise))
