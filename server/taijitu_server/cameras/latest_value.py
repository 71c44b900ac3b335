"""One value that many wait for, each at its own pace: who is slow misses some, and holds up nobody."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Generic, TypeVar

T = TypeVar("T")


class LatestValue(Generic[T]):
    """The newest value and its number, from 1. In the event loop only, but for `watchers`, which others may read."""

    def __init__(self) -> None:
        self.number = 0
        self.watchers = 0
        self._value: T | None = None
        self._changed = asyncio.Event()

    def publish(self, value: T) -> None:
        """Replace the value and wake who waits."""
        self._value = value
        self.number += 1
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def after(self, number: int, timeout_s: float) -> T | None:
        """The newest value once there is one after `number`; None where none came in that time."""
        if self.number == number:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._changed.wait(), timeout_s)
        return None if self.number == number else self._value
