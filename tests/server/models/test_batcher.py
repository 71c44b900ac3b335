"""The queue and its thread, without anything around them."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from taijitu_runtime.answers import Scores
from taijitu_server.errors import ClientGoneError, HttpError, ModelFailedError
from taijitu_server.http.connection import CONNECTION
from taijitu_server.http.request import Request
from taijitu_server.models.batcher import Batcher, Job
from taijitu_server.models.decode_pool import DecodePool

LONG_S = 30.0


class Bench:
    """A batcher whose model returns its rows; `gate` holds each run, `runs` lists the sizes."""

    def __init__(self, infer: Callable[[Any], Scores] | None = None, **options: Any) -> None:
        self.gate = threading.Event()
        self.runs: list[list[int]] = []
        self.done: list[Job] = []
        self.loop = asyncio.new_event_loop()
        self._infer = infer or (lambda rows: Scores(rows, rows, rows))
        settings = {"max_batch": 4, "max_delay_s": 0.0, "instances": 1} | options
        self.batcher = Batcher("m", self._run, self._deliver, **settings)

    def _run(self, rows: Any) -> Scores:
        self.runs.append(rows[:, 0].tolist())
        assert self.gate.wait(LONG_S)
        return self._infer(rows)

    def _deliver(self, jobs: Sequence[Job]) -> None:
        self.done += list(jobs)

    def put(self, number: int, rows: int = 1, timeout_s: float = LONG_S) -> Job:
        job = Job(self.loop.create_future(), lambda job: job.rows, time.monotonic() + timeout_s)
        job.rows = np.full((rows, 1), number)
        self.batcher.put(job)
        return job

    def wait_for(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + LONG_S
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.002)


@contextmanager
def bench(*args: Any, **kwargs: Any) -> Iterator[Bench]:
    made = Bench(*args, **kwargs)
    yield made
    made.gate.set()
    made.batcher.close()
    made.loop.close()


def test_a_batch_is_all_that_was_queued_while_the_last_one_ran() -> None:
    with bench() as b:
        b.put(0)
        b.wait_for(lambda: b.runs == [[0]])
        jobs = [b.put(number) for number in range(1, 7)]
        b.gate.set()
        b.wait_for(lambda: len(b.done) == 7)
        assert b.runs == [[0], [1, 2, 3, 4], [5, 6]]
        assert [job.outcome.logits.tolist() for job in jobs] == [[[number]] for number in range(1, 7)]  # type: ignore[union-attr]


def test_a_delay_waits_for_more() -> None:
    with bench(max_delay_s=LONG_S) as b:
        b.gate.set()
        for number in range(4):
            b.put(number)
        b.wait_for(lambda: len(b.done) == 4)
        assert b.runs == [[0, 1, 2, 3]]


def test_a_client_that_left_before_its_request_was_queued_is_not_waited_for() -> None:
    async def ask() -> None:
        connection = SimpleNamespace(is_gone=True, waiting=None)
        scope = {"type": "http", "path": "/classify", "method": "POST", "headers": []}
        scope["extensions"] = {CONNECTION: {"connection": connection}}
        request = Request(scope, asyncio.Queue[Any]().get)
        job = Job(asyncio.get_running_loop().create_future(), lambda job: job.rows, time.monotonic() + LONG_S)
        with pytest.raises(ClientGoneError):
            await asyncio.wait_for(request.scores_of(job), LONG_S)
        assert job.is_dropped()

    asyncio.run(ask())


def test_jobs_without_a_waiting_client_are_not_run() -> None:
    with bench() as b:
        b.put(0)
        b.wait_for(lambda: b.runs == [[0]])
        late, gone, good = b.put(1, timeout_s=0.0), b.put(2), b.put(3)
        gone.future.cancel()
        b.gate.set()
        b.wait_for(lambda: len(b.done) == 4)
        assert b.runs == [[0], [3]]
        assert isinstance(late.outcome, HttpError)
        assert (late.outcome.status, late.outcome.reason) == (504, "deadline")
        assert isinstance(good.outcome, Scores)


@pytest.mark.parametrize("error", [RuntimeError("bad"), MemoryError()])
def test_a_failure_is_that_of_its_request_alone(error: Exception) -> None:
    def infer(rows: Any) -> Scores:
        if (rows == 2).any():
            raise error
        return Scores(rows, rows, rows)

    with bench(infer) as b:
        b.put(0)
        b.wait_for(lambda: b.runs == [[0]])
        jobs = [b.put(number) for number in (1, 2, 3)]
        b.gate.set()
        b.wait_for(lambda: len(b.done) == 4)
        assert [type(job.outcome) for job in jobs] == [Scores, ModelFailedError, Scores]


def test_a_dead_thread_is_replaced_until_it_dies_too_often() -> None:
    def infer(rows: Any) -> Scores:
        if (rows < 0).any():
            raise SystemExit(1)
        return Scores(rows, rows, rows)

    with bench(infer) as b:
        b.gate.set()
        for death in range(1, 6):
            b.put(-1)
            b.wait_for(lambda: len(b.done) == 2 * death - 1)  # noqa: B023  # called at once
            assert isinstance(b.done[-1].outcome, ModelFailedError)
            b.put(1)
            b.wait_for(lambda: len(b.done) == 2 * death)  # noqa: B023
            assert isinstance(b.done[-1].outcome, Scores)
        assert b.batcher.is_alive
        b.put(-1)
        b.wait_for(lambda: not b.batcher.is_alive)
        b.put(1)
        b.wait_for(lambda: len(b.done) == 12)
        assert isinstance(b.done[-1].outcome, ModelFailedError)


def test_closing_answers_what_was_put_in_before() -> None:
    with bench(instances=2) as b:
        b.gate.set()
        jobs = [b.put(number) for number in range(50)]
        b.batcher.close()
        assert all(isinstance(job.outcome, Scores) for job in jobs)


def test_closing_ends_the_threads_that_are_left_when_one_died_for_good() -> None:
    held = threading.Event()

    def infer(rows: Any) -> Scores:
        if (rows < 0).any():
            raise SystemExit(1)
        assert held.wait(LONG_S)
        return Scores(rows, rows, rows)

    with bench(infer, instances=2) as b:
        b.gate.set()
        kept = b.put(0)
        b.wait_for(lambda: b.runs == [[0]])
        for death in range(1, 7):
            b.put(-1)
            b.wait_for(lambda: len(b.done) == death)  # noqa: B023  # called at once
        b.wait_for(lambda: not b.batcher.is_alive)
        closing = threading.Thread(target=b.batcher.close)
        closing.start()
        b.wait_for(lambda: b.batcher._queue.qsize() == 2)
        late = b.put(1)
        assert isinstance(late.outcome, ModelFailedError)
        held.set()
        closing.join(LONG_S)
        assert not closing.is_alive()
        assert isinstance(kept.outcome, Scores)


def test_a_decoding_thread_survives_an_exception_of_what_takes_its_rows() -> None:
    def ready(job: Job) -> None:  # of an explanation: it computes the scores
        raise MemoryError

    pool, done = DecodePool(1), queue.SimpleQueue[Job]()
    loop = asyncio.new_event_loop()
    try:
        for _ in range(3):
            job = Job(loop.create_future(), lambda _: np.zeros((1, 1)), time.monotonic() + LONG_S)
            pool.put(job, ready, lambda jobs: done.put(jobs[0]))
            assert done.get(timeout=LONG_S) is job
            assert isinstance(job.outcome, MemoryError)
    finally:
        pool.close()
        loop.close()


def test_a_decoding_thread_survives_any_exception_of_a_decoder() -> None:
    def prepare(job: Job) -> Any:
        raise SystemExit("the decoder gave up")

    pool, done = DecodePool(1), queue.SimpleQueue[Job]()
    loop = asyncio.new_event_loop()
    try:
        for _ in range(3):
            job = Job(loop.create_future(), prepare, time.monotonic() + LONG_S)
            pool.put(job, done.put, lambda jobs: done.put(jobs[0]))
            assert done.get(timeout=LONG_S) is job
            assert isinstance(job.outcome, RuntimeError)
    finally:
        pool.close()
        loop.close()
