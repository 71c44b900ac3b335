"""Failures of torch that its user can cure: one line that names what to change."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from taijitu_training.errors import TrainingError

OUT_OF_MEMORY = re.compile("can't allocate memory|out of memory", re.IGNORECASE)


@contextmanager
def memory_named(batch_size: int, processes: int, accumulate: int) -> Iterator[None]:
    """Turns a failed allocation into a TrainingError that names a batch size to try.

    `batch_size` pictures a step are cut into `accumulate` parts in each of `processes`.
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
        smaller = max(2, at_once // 2) * parts
        raise TrainingError(
            f"out of memory with {at_once} pictures at once; try --set batch_size={smaller} in a new --out, "
            f"or --accumulate {2 * accumulate}, which keeps the batch of {batch_size}"
        ) from None


@contextmanager
def compiler_named() -> Iterator[None]:
    """Turns a torch.compile that cannot compile here into a TrainingError that names what it lacks."""
    try:
        yield
    except RuntimeError as error:
        from torch._dynamo.exc import BackendCompilerFailed  # a second's import, and torch.compile's alone

        if not isinstance(error, BackendCompilerFailed):
            raise
        reason = str(error).partition("\n")[0]
        raise TrainingError(
            f"torch.compile failed ({reason}); it takes a C++ compiler, openssl and Python's headers (on Debian: "
            "apt-get install g++ openssl python3-dev); or leave out --compile"
        ) from None
