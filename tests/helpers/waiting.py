"""Waiting for what another process or thread does."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")


def eventually(check: Callable[[], Found], within_s: float = 30, every_s: float = 0.05) -> Found:
    """Return the result of `check` once it is true; AssertionError if it does not become so."""
    deadline = time.monotonic() + within_s
    while not (found := check()):
        assert time.monotonic() < deadline, f"it did not come true within {within_s:g} s"
        time.sleep(every_s)
    return found
