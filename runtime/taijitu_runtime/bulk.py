"""Many images at a time: small runs of the network, one worker a core, results in order.

A large batch does not help on a processor: the tensors of 64 images leave its cache, and threads that share one run
wait for one another. Several runs side by side, each as small as the cache wants it, answer two to three times as many.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

CACHE_SHARE = 0.5  # of a core's cache, for the largest tensor: another as large is its input or output
MOST_IMAGES = 16  # beyond this, what a run costs by itself no longer shows
USUAL_BATCH = 8  # where the sizes of the tensors are not known
WINDOW = 2  # chunks in hand for each worker: one that is worked on, one that waits


@dataclasses.dataclass(frozen=True)
class Bulk:
    """How a model answers many images best: `workers` runs at a time, of `batch` images each; both at least 1."""

    batch: int
    workers: int


def batch_for_cache(image_bytes: int | None, cache_bytes: int) -> int:
    """Return how many images one run takes, 1 to 16: from `image_bytes`, the largest tensor of one image, if known."""
    if not image_bytes:
        return USUAL_BATCH
    return max(1, min(MOST_IMAGES, int(CACHE_SHARE * cache_bytes) // image_bytes))


def chunked(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Yield the items in lists of `size`, the last one shorter."""
    remaining = iter(items)
    while chunk := list(itertools.islice(remaining, size)):
        yield chunk


def mapped(work: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Iterator[Result]:
    """Yield `work(item)` for each item, in order, from `workers` threads; a single item is done in the caller's.

    Items are taken in the caller's thread, and at most WINDOW for each worker ahead of the result that it waits for. An
    error of `work` is raised in its place; nothing new is begun then, nor where the caller stops.
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
