"""Bars on stderr for what takes longer than a moment, where stderr is a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")

DELAY_S = 3.0


def tracked(what: str, items: Iterable[T], total: int | None = None) -> Iterator[T]:
    """The items, with a bar that says `what` is going on once they take more than three seconds.

    `total`: their number, where `items` cannot tell it.
    """
    bar = tqdm(items, desc=what, total=total, delay=DELAY_S, file=sys.stderr, disable=None, leave=False)
    with bar:
        yield from bar
