"""Run the network on many images: small batches, one worker per core, results in order.

A large batch does not help on a CPU: the tensors of 64 images exceed its cache, and threads that share one run wait for
one another. Several runs in parallel, each small enough for the cache, answer two to three times as many images.
"""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

CACHE_SHARE = 0.5  # of a core's cache, for the largest tensor; its input or output takes as much again
MOST_IMAGES = 16  # beyond this, the fixed cost of a run is negligible
USUAL_BATCH = 8  # where the sizes of the tensors are not known
TASK_S = 0.1
"""What a worker's task shall take, whose length follows from the tasks before.

A worker decodes all images of a task, then runs the network, then makes the answers. Each of them finds its code and
data gone from the core's cache by then, which costs as much as one run of a small network: hence not shorter. Nor
longer, or the first answers would be late, and images in memory many.
"""
MOST_IN_TASK = 256
WINDOW = 2  # tasks per worker: one in progress, one waiting
AHEAD_BYTES = 64 * 2**20  # of images in memory, before they are handed to workers
PATIENCE_S = 0.1  # for images that come slowly, such as those of a camera, before a task is begun with fewer


@dataclasses.dataclass(frozen=True)
class Bulk:
    """How to run many images: `workers` runs at a time, of `batch` images each; both at least 1."""

    batch: int
    workers: int


def batch_for_cache(image_bytes: int | None, cache_bytes: int) -> int:
    """Return how many images one run takes, 1 to 16: from `image_bytes`, the largest tensor of one image, if known."""
    if not image_bytes:
        return USUAL_BATCH
    return max(1, min(MOST_IMAGES, int(CACHE_SHARE * cache_bytes) // image_bytes))


class UntilError(Generic[Item]):
    """Iterates over `items`; where they raise an error it ends, and `error` raises it behind the results so far."""

    def __init__(self, items: Iterable[Item]) -> None:
        self._items = iter(items)
        self._error: Exception | None = None

    def __iter__(self) -> Iterator[Item]:
        return self

    def __next__(self) -> Item:
        if self._error is not None:
            raise StopIteration
        try:
            return next(self._items)
        except StopIteration:
            raise
        except Exception as error:
            self._error = error
            raise StopIteration from None

    def error(self) -> Iterator[Any]:
        """Yield nothing; raise the error, if there was one."""
        if self._error is not None:
            raise self._error
        yield from ()


class Pace:
    """How many images a task has: whole batches of `batch` images, one at first, then as many as take TASK_S."""

    def __init__(self, batch: int) -> None:
        self.batch = batch
        self.images = batch

    def note(self, images: int, seconds: float) -> None:
        """Count a finished task; from any thread."""
        fit = min(MOST_IN_TASK, int(images * TASK_S / max(seconds, 1e-9)))
        self.images = max(self.batch, fit // self.batch * self.batch)


def tasks(
    items: Iterable[Item], pace: Pace, workers: int, bytes_of: Callable[[Item], int] = lambda _: 0
) -> Iterator[list[Item]]:
    """Yield the items in lists, each a whole number of batches, only the last of any length.

    They are as long as `pace` says, shorter towards the end, so that the workers end together, and where items come
    slowly or are large. Which items share a batch depends on none of this.
    """
    remaining = iter(items)
    ahead: list[Item] = []
    while True:
        _fill(ahead, remaining, pace, workers, bytes_of)
        if not ahead:
            return
        size = max(pace.batch, len(ahead) // workers // pace.batch * pace.batch)
        yield ahead[:size]
        del ahead[:size]


def _fill(
    ahead: list[Item], remaining: Iterator[Item], pace: Pace, workers: int, bytes_of: Callable[[Item], int]
) -> None:
    until, held = time.monotonic() + PATIENCE_S, sum(map(bytes_of, ahead))
    for item in itertools.islice(remaining, max(0, workers * pace.images - len(ahead))):
        ahead.append(item)
        held += bytes_of(item)
        if len(ahead) >= pace.batch and (held >= AHEAD_BYTES or time.monotonic() > until):
            return


def mapped(work: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Iterator[Result]:
    """Yield `work(item)` for each item, in order, from `workers` threads; a single item is computed by the caller.

    Items are taken in the caller's thread, at most WINDOW per worker ahead of the next result, and a result that is
    ready does not wait for more of them. An error of `work` is raised in place of its result; no new work is started
    after that, or after the caller stops.
    """
    remaining = iter(items)
    ahead = list(itertools.islice(remaining, 2 if workers > 1 else 0))
    if len(ahead) < 2:
        yield from map(work, itertools.chain(ahead, remaining))
        return
    pool = ThreadPoolExecutor(workers, thread_name_prefix="bulk")
    try:
        waiting: deque[Future[Result]] = deque()
        for item in itertools.chain(ahead, remaining):
            waiting.append(pool.submit(work, item))
            while waiting and (len(waiting) >= WINDOW * workers or waiting[0].done()):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
