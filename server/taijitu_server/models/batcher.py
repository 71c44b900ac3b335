"""Run one model's queue in threads: a batch is the requests that gathered while the last one ran.

No timer is needed under load, and a lone request never waits. Results go back to the event loop by one call per batch.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable, Generator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taijitu_runtime.answers import Scores
from taijitu_runtime.errors import one_line
from taijitu_server.errors import CLIENT_GONE, DEADLINE, HttpError, ModelFailedError

log = logging.getLogger("taijitu.server")

Rows = NDArray[Any]
Deliver = Callable[[Sequence["Job"]], None]

MAX_RESTARTS_A_MINUTE = 5

Infer = Callable[[Rows], Scores]
Steps = Generator[None, None, Rows]  # yields where other work may go first
Prepare = Callable[["Job"], "Rows | Steps"]


class Job:
    """One request in progress: made in the event loop, filled by the threads, and delivered back to the loop once.

    `prepare` returns the rows for the model; after `deadline`, a `time.monotonic`, nothing is run for it:
    `prepare` may make it earlier. `is_delivered`: no thread holds it any more; `on_delivered` is called when it becomes
    so. Its future may be done long before: the client left, or was told that the model hangs.
    """

    __slots__ = (
        "batch",
        "deadline",
        "decode_s",
        "future",
        "infer_s",
        "is_delivered",
        "on_delivered",
        "outcome",
        "prepare",
        "put_at",
        "queue_s",
        "rows",
        "steps",
    )

    def __init__(self, future: asyncio.Future[Scores], prepare: Prepare, deadline: float) -> None:
        self.future = future
        self.prepare = prepare
        self.deadline = deadline
        self.put_at = time.monotonic()
        self.decode_s = self.queue_s = self.infer_s = 0.0
        self.batch = 0
        self.is_delivered = False
        self.on_delivered: Callable[[], None] | None = None
        self.steps: Steps | None = None  # the result of `prepare`, where that is not done at once
        self.rows: Rows
        self.outcome: Scores | Exception

    def is_dropped(self) -> bool:
        """Return whether no client waits for it: it disconnected, or the deadline passed; the outcome says so."""
        if self.future.cancelled():
            self.outcome = HttpError(CLIENT_GONE, "the client left")
            return True
        if time.monotonic() > self.deadline:
            self.outcome = HttpError(DEADLINE, "the request waited too long for its turn; try again later")
            return True
        return False


class Batcher:
    """Threads, `instances` of them, that run `infer` on queued jobs: whole ones, until they have `max_batch` rows.

    `deliver` is called from those threads with jobs whose outcome is set; every queued job is delivered once. A thread
    that dies (SystemExit from a driver, for example) fails the jobs it held, and is replaced a few times a minute at
    most: `is_alive` is False after that.
    """

    def __init__(
        self, name: str, infer: Infer, deliver: Deliver, *, max_batch: int, max_delay_s: float, instances: int
    ) -> None:
        self._name = name
        self._infer = infer
        self._deliver = deliver
        self._max_batch = max_batch
        self._max_delay_s = max_delay_s
        self._queue: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._deaths: list[float] = []
        self._lock = threading.Lock()
        self.is_alive = True
        self._threads = [self._start() for _ in range(instances)]

    def put(self, job: Job) -> None:
        """Queue a job whose rows are ready."""
        self._queue.put(job)
        if not self.is_alive:
            self._fail_queued()

    def close(self) -> None:
        """End the threads once the jobs before this call are done."""
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join()

    def _start(self) -> threading.Thread:
        thread = threading.Thread(target=self._work, name=f"infer-{self._name}", daemon=True)
        thread.start()
        return thread

    def _work(self) -> None:
        jobs: list[Job] = []
        try:
            while self._gather(jobs):
                self._run(jobs)
                self._deliver(jobs)
                jobs.clear()
        except BaseException as error:
            self._died(jobs, error)

    def _gather(self, jobs: list[Job]) -> bool:
        """Wait for a job, then take all that are queued; return False when closed."""
        rows, wait_until = 0, 0.0
        while rows < self._max_batch:
            try:
                job = self._queue.get(timeout=self._remaining(jobs, wait_until))
            except queue.Empty:
                break
            if job is None:
                if not jobs:
                    return False
                self._queue.put(None)  # for the next round
                break
            if not jobs:
                wait_until = time.monotonic() + self._max_delay_s
            jobs.append(job)
            rows += len(job.rows)
        return True

    def _remaining(self, jobs: list[Job], wait_until: float) -> float | None:
        if not jobs:
            return None
        return max(0.0, wait_until - time.monotonic()) if self._max_delay_s else 0.0

    def _run(self, jobs: list[Job]) -> None:
        live = [job for job in jobs if not job.is_dropped()]
        if not live:
            return
        began = time.monotonic()
        try:
            self._run_together(live)
        except Exception as error:
            self._run_alone(live, error)
        infer_s = time.monotonic() - began
        for job in live:
            job.queue_s = began - job.put_at - job.decode_s
            job.infer_s = infer_s
            job.batch = len(live)

    def _run_together(self, jobs: list[Job]) -> None:
        scores = self._infer(jobs[0].rows if len(jobs) == 1 else np.concatenate([job.rows for job in jobs]))
        start = 0
        for job in jobs:
            end = start + len(job.rows)
            job.outcome = scores.part(start, end)
            start = end

    def _run_alone(self, jobs: list[Job], error: Exception) -> None:
        """Run jobs that failed together with `error` one at a time, so that only the faulty one fails."""
        if len(jobs) == 1:
            jobs[0].outcome = _failure(error)
            return
        for job in jobs:
            try:
                self._run_together([job])
            except Exception as alone:
                job.outcome = _failure(alone)

    def _died(self, jobs: list[Job], error: BaseException) -> None:
        now = time.monotonic()
        with self._lock:
            self._deaths = [at for at in self._deaths if now - at < 60] + [now]
            restarts = len(self._deaths) <= MAX_RESTARTS_A_MINUTE
            if restarts:
                self._threads = [t for t in self._threads if t is not threading.current_thread()] + [self._start()]
            else:
                self.is_alive = False
        after = "it is replaced" if restarts else "it is no longer replaced"
        log.error("an inference thread of %s died of %s: %s; %s", self._name, type(error).__name__, error, after)
        for job in jobs:
            job.outcome = _failure(error)
        self._deliver(jobs)
        if not restarts:
            self._fail_queued()

    def _fail_queued(self) -> None:
        ends = 0
        while not self._queue.empty():
            try:
                job = self._queue.get_nowait()
            except queue.Empty:
                break
            if job is None:
                ends += 1
            else:
                job.outcome = ModelFailedError(f"{self._name}: its inference thread is dead")
                self._deliver([job])
        for _ in range(ends):  # of `close`, for the threads that still run
            self._queue.put(None)


def _failure(error: BaseException) -> ModelFailedError:
    failure = ModelFailedError(f"{type(error).__name__}: {one_line(error)[:500]}")
    failure.__cause__ = error
    return failure
