"""A value that several tasks wait for, each at its own pace: a slow one misses values and delays no other."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Generic, TypeVar

T = TypeVar("T")


class LatestValue(Generic[T]):
    """The newest value and its number, from 1.

    Use it in the event loop only, except `watchers`, the number of tasks that wait, which any thread may read.
    """

    def __init__(self) -> None:
        self.number = 0
        self.watchers = 0
        self._value: T | None = None
        self._changed = asyncio.Event()

    def publish(self, value: T) -> None:
        """Replace the value and wake all tasks that wait."""
        self._value = value
        self.number += 1
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def after(self, number: int, timeout_s: float) -> T | None:
        """Wait for a value newer than `number` and return the newest; None if none came in time."""
        if self.number == number:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._changed.wait(), timeout_s)
        return None if self.number == number else self._value
