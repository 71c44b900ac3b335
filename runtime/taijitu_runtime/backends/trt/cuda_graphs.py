"""CUDA graphs of an engine: one for each usual size of a batch, captured before the first request comes."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Sequence
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


def capture_usual(
    capture: Callable[[int], Captured], free_bytes: Callable[[], int], smallest: int, largest: int, path: Path
) -> list[Captured]:
    """Capture a graph for each of `usual_sizes`; warn where one fails or memory ends, and capture no further ones.

    Args:
        capture: Makes the graph for a batch of that size. DeviceError or ArtefactError where that fails.
        free_bytes: How much of the GPU's memory is free.
        smallest: The smallest batch.
        largest: The largest batch.
        path: The engine, for the warnings.
    """
    captured: list[Captured] = []
    before = free_bytes()
    for batch in usual_sizes(smallest, largest):
        try:
            captured.append(capture(batch))
        except (DeviceError, ArtefactError) as error:
            _log.warning("%s: runs batches of %d and more without a CUDA graph: %s", path, batch, error)
            break
        if (taken := before - free_bytes()) > MOST_BYTES and batch < largest:
            _log.warning(
                "%s: runs batches beyond %d without a CUDA graph: got %d MiB taken by graphs, expected at most %d",
                path, batch, taken >> 20, MOST_BYTES >> 20,
            )  # fmt: skip
            break
    return captured


def fitting(captured: Sequence[Captured], batch: int) -> Captured | None:
    """Return the smallest graph that a batch fits into; None without one. `captured`: the smallest first."""
    return next((each for each in captured if each.batch >= batch), None)


def usual_sizes(smallest: int, largest: int) -> list[int]:
    """Return the sizes that batches are padded to, to less than twice their size: powers of two, and `largest`."""
    powers = (1 << exponent for exponent in range(largest.bit_length()))
    return sorted({size for size in powers if smallest <= size <= largest} | {largest})
