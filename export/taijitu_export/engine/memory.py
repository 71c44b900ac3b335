"""Memory pools of a build: trtexec's text for them, and a workspace that fits the board."""

from __future__ import annotations

import re
from typing import Any

from taijitu_export.engine.gpu import Gpu

POOLS = {
    "workspace": "WORKSPACE",
    "dlaSRAM": "DLA_MANAGED_SRAM",
    "dlaLocalDRAM": "DLA_LOCAL_DRAM",
    "dlaGlobalDRAM": "DLA_GLOBAL_DRAM",
    "tacticSharedMem": "TACTIC_SHARED_MEMORY",
}
UNITS = {"B": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}

MOST_BYTES = 2**48
"""More than processors address; the library's numbers have 64 bits."""

WORKSPACE_SHARE = 0.5
"""Share of the free memory; the rest is for weights, kernels that are tried, and other programs on the board."""


def pools_from_text(text: str) -> dict[str, int]:
    """Parse trtexec's "workspace:256M,dlaSRAM:1M" into bytes; without a unit, MiB. ValueError for anything else."""
    pools: dict[str, int] = {}
    for part in text.split(","):
        found = re.fullmatch(r"(\w+):(\d+(?:\.\d+)?)([BKMG]?)i?B?", part)
        size_bytes = 0 if found is None else float(found[2]) * UNITS[found[3] or "M"]
        if found is None or found[1] not in POOLS or not 1 <= size_bytes <= MOST_BYTES:
            raise ValueError(f"got {part!r}, expected POOL:SIZE such as workspace:256M with {', '.join(POOLS)}")
        if found[1] in pools:
            raise ValueError(f"got {found[1]} twice, expected each pool once")
        pools[found[1]] = int(size_bytes)
    return pools


def limit_pools(trt: Any, config: Any, asked: dict[str, int], gpu: Gpu | None) -> int:
    """Set the limits of an IBuilderConfig; return the workspace's in bytes.

    Without a request for a workspace, it is at most half of the GPU's free memory. Without a GPU nothing is tried
    while building, and the library's own limit stays.
    """
    for pool, size_bytes in asked.items():
        config.set_memory_pool_limit(getattr(trt.MemoryPoolType, POOLS[pool]), size_bytes)
    workspace = trt.MemoryPoolType.WORKSPACE
    if "workspace" not in asked and gpu is not None:
        share = int(gpu.free_bytes * WORKSPACE_SHARE)
        config.set_memory_pool_limit(workspace, min(config.get_memory_pool_limit(workspace), share))
    return int(config.get_memory_pool_limit(workspace))
