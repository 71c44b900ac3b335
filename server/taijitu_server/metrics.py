"""Metrics for Prometheus: base units, one registry per server, and one folder for all worker processes."""

from __future__ import annotations

import os

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, values
from prometheus_client.multiprocess import MultiProcessCollector

SECONDS = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0)
ROWS = (1, 2, 4, 8, 16, 32, 64)
WORKERS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"


def share_metrics(folder: str) -> None:
    """Keep the numbers of this process and its forks in files of `folder`, so that each can report the sum."""
    os.environ[WORKERS_FOLDER] = folder
    # prometheus_client reads that variable when it is imported, which was earlier.
    values.ValueClass = values.MultiProcessValue()  # type: ignore[no-untyped-call]


class Metrics:
    """All metrics of one server process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        model = ("model", "version")
        self.requests = self._counter("taijitu_requests", "Requests; 499: the client left.", ("path", "status"))
        self.request_s = self._histogram("taijitu_request_seconds", "Time from headers to response.", ("path",))
        self.rejected = self._counter("taijitu_rejected_requests", "Requests refused, by reason.", ("reason",))
        self.stage_s = self._histogram(
            "taijitu_stage_seconds", "Time that a request spent in a stage.", (*model, "stage")
        )
        self.pending = Gauge(
            "taijitu_pending_requests", "Requests waiting or running.", model,
            registry=self.registry, multiprocess_mode="livesum",
        )  # fmt: skip
        self.batch = Histogram(
            "taijitu_batch_requests", "Requests in one run of a network.", model, buckets=ROWS, registry=self.registry
        )
        self.loads = self._counter("taijitu_model_loads", "Models loaded, by outcome.", ("model", "outcome"))
        self._requests: dict[tuple[str, int], Counter] = {}
        self._request_s: dict[str, Histogram] = {}

    def observe_request(self, path: str, status: int, reason: str, seconds: float) -> None:
        """Count one response; `path` is that of a route, because a client must not be able to create new series."""
        if (path, status) not in self._requests:  # `labels` takes longer than counting
            self._requests[path, status] = self.requests.labels(path, str(status))
            self._request_s[path] = self.request_s.labels(path)
        self._requests[path, status].inc()
        self._request_s[path].observe(seconds)
        if reason:
            self.rejected.labels(reason).inc()

    def text(self) -> bytes:
        """Return the metrics of all workers together in Prometheus' text format."""
        if WORKERS_FOLDER not in os.environ:
            return generate_latest(self.registry)
        together = CollectorRegistry()
        MultiProcessCollector(together)  # type: ignore[no-untyped-call]  # prometheus_client has no types there
        return generate_latest(together)

    def _counter(self, name: str, text: str, labels: tuple[str, ...]) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, labels: tuple[str, ...]) -> Histogram:
        return Histogram(name, text, labels, buckets=SECONDS, registry=self.registry)
