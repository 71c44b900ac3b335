"""A served model: loaded, warmed up, checked, and with a queue of its own."""

from __future__ import annotations

import asyncio
import io
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from taijitu_runtime.answers import Scores
from taijitu_runtime.backends import ModelInput
from taijitu_runtime.classifier import Classifier
from taijitu_runtime.console import shown
from taijitu_runtime.explain.explanation import Explanation
from taijitu_runtime.model_files import is_onnx
from taijitu_runtime.proof.prove import Proof, proof_at_start
from taijitu_server.errors import MODEL_DEAD, MODEL_HANGS, QUEUE_FULL, HttpError, overloaded
from taijitu_server.metrics import Metrics
from taijitu_server.models.batcher import Batcher, Job, Prepare, Rows
from taijitu_server.models.decode_pool import DecodePool, prepare_here
from taijitu_server.models.explainer import Explainer
from taijitu_server.models.model_metrics import ModelMetrics
from taijitu_server.models.names import name_from_card
from taijitu_server.models.preparation import Preparation
from taijitu_server.settings import Settings

log = logging.getLogger("taijitu.server")


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
        self.preparation = Preparation(classifier, settings)
        self.explainer = Explainer(name, classifier, self.preparation, settings.retry_after_s)
        self._jobs: set[Job] = set()
        self._settings = settings
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
        queue is full, ExplanationError where there are no maps.
        """
        self.explainer.check()
        explanations: list[Explanation] = []

        def deliver(job: Job) -> None:
            job.outcome = self.classifier.scores(job.rows)
            self._deliver([job])

        job = self.accept(lambda _: self.explainer.steps(pictures, top, threshold, explanations))
        pool.put(job, deliver, self._deliver)
        return job, explanations

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

    def scores(self, rows: Rows) -> Scores:
        """Run the network, `max_batch` rows at a time; ArtefactError where it fails or gives NaN."""
        return self.classifier.scores(self.classifier.infer(rows))

    def close(self) -> None:
        """Answer all accepted requests, then free the model; blocks until then."""
        self._batcher.close()
        self.classifier.close()

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
