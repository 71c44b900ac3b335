"""What torchrun tells a process in its environment: known before the processes are joined, and without torch."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from taijitu_runtime.datasets.budget import number_in_environment
from taijitu_runtime.errors import TaijituError

FIRST_MAY_TAKE_S = 10.0
"""The time that the first process of a machine has to print an error after another one has found it."""


def process_count() -> int:
    """Return the number of processes of the run, 1 without torchrun. UsageError for an impossible one."""
    return max(1, number_in_environment("WORLD_SIZE", 1))


def local_rank() -> int:
    """Return this process's number on its machine, which is also its GPU's."""
    return number_in_environment("LOCAL_RANK", 0)


@contextmanager
def told_once() -> Iterator[None]:
    """Leave an error that all processes of this machine have to the first of them; the others end with its exit code.

    It is for errors before the processes are joined, in what they all have alike, such as their arguments. Each machine
    has a torchrun of its own, whose arguments may be others, and a terminal of its own.
    """
    try:
        yield
    except TaijituError as error:
        if process_count() == 1 or local_rank() == 0:
            raise
        time.sleep(FIRST_MAY_TAKE_S)  # torchrun ends all processes once one has ended, maybe before the first spoke
        raise SystemExit(error.exit_code) from None
