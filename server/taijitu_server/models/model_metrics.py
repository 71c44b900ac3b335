"""Count what happens to the jobs of one model."""

from __future__ import annotations

from collections.abc import Sequence

from taijitu_server.metrics import Metrics
from taijitu_server.models.batcher import Job


class ModelMetrics:
    """The series of one model, looked up once."""

    def __init__(self, metrics: Metrics, name: str, version: str) -> None:
        # Counted up and down, never set: a model and the one that replaced it share the series for a while.
        self.pending = metrics.pending.labels(name, version)
        self._batch = metrics.batch.labels(name, version)
        self._stages = [metrics.stage_s.labels(name, version, stage) for stage in ("decode", "queue", "infer")]

    def observe(self, jobs: Sequence[Job]) -> None:
        """Count the jobs of one delivery."""
        ran = [job for job in jobs if job.batch]
        if not ran:
            return
        self._batch.observe(len(ran))
        decode, queue, infer = self._stages
        for job in ran:
            decode.observe(job.decode_s)
            queue.observe(job.queue_s)
            infer.observe(job.infer_s)
