"""Run the network on many images: small batches, one worker per core, results in order.

A large batch does not help on a CPU: the tensors of 64 images exceed its cache, and threads that share one run wait for
one another. Several runs in parallel, each small enough for the cache, answer two to three times as many images.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

CACHE_SHARE = 0.5  # of a core's cache, for the largest tensor; its input or output takes as much again
MOST_IMAGES = 16  # beyond this, the fixed cost of a run is negligible
USUAL_BATCH = 8  # where the sizes of the tensors are not known
RUNS = 4  # in one task of a thread, of many pictures: handing a task over costs a tenth of a small network's run
WINDOW = 2  # chunks per worker: one in progress, one waiting


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


def chunked(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Yield the items in lists of `size`, the last one shorter."""
    remaining = iter(items)
    while chunk := list(itertools.islice(remaining, size)):
        yield chunk


def mapped(work: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Iterator[Result]:
    """Yield `work(item)` for each item, in order, from `workers` threads; a single item is computed by the caller.

    Items are taken in the caller's thread, at most WINDOW per worker ahead of the next result. An error of `work` is
    raised in place of its result; no new work is started after that, or after the caller stops.
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
            if len(waiting) >= WINDOW * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
