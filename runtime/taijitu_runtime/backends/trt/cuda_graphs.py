"""CUDA graphs of an engine: one for each usual size of a batch, captured before the first request comes."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from taijitu_runtime.errors import ArtefactError, DeviceError

_log = logging.getLogger(__name__)

MOST_BYTES = 64 << 20
"""The GPU memory that the graphs of one engine may take: further sizes run without a graph."""


@dataclasses.dataclass(frozen=True)
class Captured:
    """A network as one launch for `batch` pictures. `graph`: None where the library launches its own."""

    batch: int
    graph: Any
    context: Any


class CudaGraphs:
    """The graphs of one engine, on the thread that owns it.

    Args:
        capture: Makes the graph for so many pictures. DeviceError or ArtefactError where that fails.
        free_bytes: How much of the GPU's memory is free.
    """

    def __init__(self, capture: Callable[[int], Captured], free_bytes: Callable[[], int]) -> None:
        self._capture = capture
        self._free_bytes = free_bytes
        self._captured: dict[int, Captured] = {}

    def capture(self, batch: int) -> None:
        """Capture one for exactly so many pictures. DeviceError or ArtefactError where that fails."""
        if batch not in self._captured:
            self._captured[batch] = self._capture(batch)

    def capture_usual(self, smallest: int, largest: int, path: Path) -> None:
        """Capture one for each of `usual_sizes`; where one fails or memory ends, a warning, and the rest have none."""
        before = self._free_bytes()
        for batch in usual_sizes(smallest, largest):
            try:
                self.capture(batch)
            except (DeviceError, ArtefactError) as error:
                _log.warning("%s: runs batches of %d and more without a CUDA graph: %s", path, batch, error)
                return
            if (taken := before - self._free_bytes()) > MOST_BYTES and batch < largest:
                _log.warning(
                    "%s: runs batches beyond %d without a CUDA graph: got %d MiB taken by graphs, expected at most %d",
                    path, batch, taken >> 20, MOST_BYTES >> 20,
                )  # fmt: skip
                return

    def fitting(self, batch: int) -> Captured | None:
        """Return the smallest graph that a batch fits into; None without one."""
        size = min((size for size in self._captured if size >= batch), default=None)
        return None if size is None else self._captured[size]

    @contextmanager
    def set_aside(self) -> Iterator[None]:
        """Have none, as long as the body runs."""
        captured, self._captured = self._captured, {}
        try:
            yield
        finally:
            self._captured = captured


def usual_sizes(smallest: int, largest: int) -> list[int]:
    """Return the sizes that batches are padded to, to less than twice their size: powers of two, and `largest`."""
    powers = (1 << exponent for exponent in range(largest.bit_length()))
    return sorted({size for size in powers if smallest <= size <= largest} | {largest})
