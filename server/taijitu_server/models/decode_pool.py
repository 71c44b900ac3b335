"""Turn requests into rows for a model, in threads.

Parsing and decoding in the event loop would delay it.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Generator

from taijitu_server.models.batcher import Deliver, Job

Put = Callable[[Job], None]
Item = tuple[Job, Put, Deliver]


class DecodePool:
    """Threads, `threads` of them, that run each job's `prepare` and pass it on.

    A job of several pictures goes to the end of the queue after each of them: it delays another request by one picture
    at most.
    """

    def __init__(self, threads: int) -> None:
        self._queue: queue.SimpleQueue[Item | None] = queue.SimpleQueue()
        self._is_open = True
        self._closing = threading.Lock()
        self._threads = [threading.Thread(target=self._work, name=f"decode-{n}", daemon=True) for n in range(threads)]
        for thread in self._threads:
            thread.start()

    def put(self, job: Job, ready: Put, failed: Deliver) -> None:
        """Prepare a job; then `ready(job)`, or `failed([job])` with its outcome set."""
        self._queue.put((job, ready, failed))

    def close(self) -> None:
        """End the threads once the jobs before this call are done."""
        with self._closing:
            self._is_open = False
            for _ in self._threads:
                self._queue.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while (item := self._queue.get()) is not None:
            if not _step(*item) and not self._put_back(item):
                prepare_here(*item)

    def _put_back(self, item: Item) -> bool:
        with self._closing:
            if self._is_open:  # otherwise no thread would take it after the end marks
                self._queue.put(item)
            return self._is_open


def prepare_here(job: Job, ready: Put, failed: Deliver) -> None:
    """Call the job's `prepare` in this thread, then `ready(job)`, or `failed([job])` with its outcome set."""
    while not _step(job, ready, failed):
        pass


def _step(job: Job, ready: Put, failed: Deliver) -> bool:
    """Run the next step of the job's `prepare`; return whether the job was passed on, ready or failed."""
    if job.is_dropped():
        failed([job])
        return True
    began = time.monotonic()
    try:
        rows = job.prepare(job) if job.steps is None else job.steps
        if isinstance(rows, Generator):
            job.steps = rows
            try:
                next(rows)
            except StopIteration as end:
                rows = end.value
            else:
                job.decode_s += time.monotonic() - began
                return False
        job.rows = rows
        job.decode_s += time.monotonic() - began
        ready(job)
    except Exception as error:
        job.outcome = error
        failed([job])
    except BaseException as error:  # nothing restarts this thread: it must not end
        job.outcome = RuntimeError(f"{type(error).__name__}: {error}")
        job.outcome.__cause__ = error
        failed([job])
    return True
