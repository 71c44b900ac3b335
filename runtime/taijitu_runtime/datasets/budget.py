"""How much memory pictures may take: half of what is free, shared between the processes of this host."""

from __future__ import annotations

import os
from pathlib import Path

SHARE = 0.5  # of the free memory


def local_processes() -> int:
    """Training processes on this host, as torchrun says; 1 without it."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def host_budget() -> int:
    """Bytes that the pictures of this process may take in the host's memory."""
    return int(SHARE * _free_host_bytes() / local_processes())


def _free_host_bytes() -> int:
    meminfo = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    free = 1024 * int(meminfo["MemAvailable"].split()[0])
    group = Path("/sys/fs/cgroup")  # a container's own limit, in cgroup v2
    try:
        limit = (group / "memory.max").read_text().strip()
        if limit != "max":
            stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
            used = int((group / "memory.current").read_text()) - int(stat["inactive_file"])
            free = min(free, int(limit) - used)
    except OSError:
        pass  # no such limit here
    return free
