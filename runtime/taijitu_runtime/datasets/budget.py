"""The memory that pictures may take: half of the free memory, divided among the processes of this host."""

from __future__ import annotations

import os

from taijitu_runtime.machine import available_bytes

SHARE = 0.5  # of the free memory


def local_processes() -> int:
    """Return the number of training processes on this host, as torchrun sets it; 1 without torchrun."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def host_budget() -> int:
    """Return the bytes that the pictures of this process may take in the host's memory."""
    return int(SHARE * available_bytes() / local_processes())
