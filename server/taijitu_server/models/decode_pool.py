"""The threads that turn requests into rows for a model: parsing and decoding release or share the interpreter's lock,
and must not hold up the event loop."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable

from taijitu_server.models.batcher import Deliver, Job

Put = Callable[[Job], None]


class DecodePool:
    """Runs each job's `prepare` in one of `threads` threads, then hands it on."""

    def __init__(self, threads: int) -> None:
        self._queue: queue.SimpleQueue[tuple[Job, Put, Deliver] | None] = queue.SimpleQueue()
        self._threads = [threading.Thread(target=self._work, name=f"decode-{n}", daemon=True) for n in range(threads)]
        for thread in self._threads:
            thread.start()

    def put(self, job: Job, ready: Put, failed: Deliver) -> None:
        """Prepare a job; then `ready(job)`, or `failed([job])` with its outcome set."""
        self._queue.put((job, ready, failed))

    def close(self) -> None:
        """End the threads once the jobs before this call are done."""
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while (item := self._queue.get()) is not None:
            prepare(*item)


def prepare(job: Job, ready: Put, failed: Deliver) -> None:
    """Call the job's `prepare` in this thread, then `ready(job)`, or `failed([job])` with its outcome set."""
    if job.is_dropped():
        failed([job])
        return
    began = time.monotonic()
    try:
        job.rows = job.prepare(job)
    except Exception as error:
        job.outcome = error
        failed([job])
    except BaseException as error:  # this thread is all there is: it must not end
        job.outcome = RuntimeError(f"{type(error).__name__}: {error}")
        job.outcome.__cause__ = error
        failed([job])
    else:
        job.decode_s = time.monotonic() - began
        ready(job)
