"""Turn failures of torch that the user can cure into one line that names the change."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from taijitu_runtime.errors import OUT_OF_MEMORY, WriteError, first_line
from taijitu_training.errors import TrainingError

LEAST_AT_ONCE = 2
"""Pictures of one part of a batch, which batch norm needs."""


@contextmanager
def explain_out_of_memory(batch_size: int, processes: int, accumulate: int) -> Iterator[None]:
    """Turn a failed allocation into a TrainingError that names a batch size to try.

    `batch_size` pictures per step are divided into `accumulate` parts in each of `processes`.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        # On a CPU torch raises a bare RuntimeError; lost peers and failed kernels are other kinds of it.
        is_known = isinstance(error, (torch.OutOfMemoryError, MemoryError))
        if not is_known and not OUT_OF_MEMORY.search(str(error)):
            raise
        parts = processes * accumulate
        at_once = batch_size // parts
        smaller = max(LEAST_AT_ONCE, at_once // 2) * parts
        most = batch_size // (LEAST_AT_ONCE * processes)  # parts are equal
        finer = [count for count in range(2 * accumulate, most + 1) if batch_size % (processes * count) == 0]
        or_parts = f", or --accumulate {finer[0]}, which keeps the batch of {batch_size}" if finer else ""
        cure = f"try --set batch_size={smaller} in a new --out{or_parts}"
        if at_once <= LEAST_AT_ONCE:
            cure = "train a smaller network, or end other programs"
        raise TrainingError(f"out of memory with {at_once} pictures at once; {cure}") from None


@contextmanager
def explain_full_disk(out: Path) -> Iterator[None]:
    """Turn a file that cannot be written into a TrainingError that says how to continue the run in the folder `out`."""
    try:
        yield
    except WriteError as error:
        has_begun = (out / "last.pt").exists()
        then = "--resume" if has_begun else f"remove {out}, which has nothing to continue from, and start again"
        raise TrainingError(f"{error}, then {then}") from None


@contextmanager
def explain_missing_compiler() -> Iterator[None]:
    """Turn a torch.compile that cannot compile into a TrainingError that names what it lacks."""
    try:
        yield
    except RuntimeError as error:
        from torch._dynamo.exc import BackendCompilerFailed  # takes a second to import, needed for torch.compile only

        if not isinstance(error, BackendCompilerFailed):
            raise
        raise TrainingError(
            f"torch.compile failed ({first_line(error)}); it needs a C++ compiler, openssl and Python's headers (on "
            "Debian: apt-get install g++ openssl python3-dev); or leave out --compile"
        ) from None
