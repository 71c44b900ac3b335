"""The memory that pictures may take: half of the free memory, divided among the processes of this host."""

from __future__ import annotations

import os

from taijitu_runtime.errors import UsageError
from taijitu_runtime.machine import available_bytes

SHARE = 0.5  # of the free memory
MOST_DIGITS = 9  # of a number in the environment


def number_in_environment(name: str, default: int) -> int:
    """Return the whole number in an environment variable that torchrun sets; `default` where it is not set or empty.

    Raises UsageError for anything else.
    """
    text = os.environ.get(name, "").strip()
    if not text:
        return default
    if not text.isascii() or not text.isdecimal() or len(text) > MOST_DIGITS:
        raise UsageError(f"got {name}={text} in the environment, expected a whole number; correct it, or unset {name}")
    return int(text)


def local_processes() -> int:
    """Return the number of training processes on this host, as torchrun sets it; 1 without torchrun."""
    return max(1, number_in_environment("LOCAL_WORLD_SIZE", 1))


def host_budget() -> int:
    """Return the bytes that the pictures of this process may take in the host's memory."""
    return int(SHARE * available_bytes() / local_processes())
