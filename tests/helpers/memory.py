"""The memory of this process, in bytes, as Linux counts it."""

from __future__ import annotations

from pathlib import Path

import pytest


def status(key: str) -> int:
    """Return an entry of /proc/self/status: VmRSS is what is held now, VmHWM the most since `reset_peak`."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return 1024 * int(lines[key].split()[0])


def reset_peak() -> int:
    """Let the peak start again from what is held now, and return that; skip the test where this is not allowed."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pytest.skip("/proc/self/clear_refs cannot be written here")
    return status("VmRSS")
