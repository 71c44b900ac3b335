"""How much memory pictures may take: half of what is free, shared between the processes of this host."""

from __future__ import annotations

import os

from taijitu_runtime.machine import available_bytes

SHARE = 0.5  # of the free memory


def local_processes() -> int:
    """Training processes on this host, as torchrun says; 1 without it."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def host_budget() -> int:
    """Bytes that the pictures of this process may take in the host's memory."""
    return int(SHARE * available_bytes() / local_processes())
