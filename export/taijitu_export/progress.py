"""Show bars on stderr for work that takes longer than a moment, where stderr is a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

from taijitu_runtime.console import DELAY_S, Progress

T = TypeVar("T")


def tracked(what: str, items: Iterable[T], total: int | None = None, unit: str = "steps") -> Iterator[T]:
    """Yield the items, with a bar that says `what` is being done once they take more than three seconds.

    `total`: their number, where `items` has no length.
    """
    count = len(items) if total is None and isinstance(items, Sized) else total
    with Progress(count, unit, what=what, delay_s=DELAY_S) as bar:
        for item in items:
            yield item
            bar.advance()
