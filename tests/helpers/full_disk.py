"""A disk on which nothing more can be written."""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock


@contextmanager
def full_disk(room_bytes: int) -> Iterator[None]:
    """Limit each file of this process and of its children: writing more fails as on a full disk (EFBIG for ENOSPC).

    Python writes no bytecode meanwhile: it would keep that of a module truncated, and every later import would fail.
    """
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    no_bytecode = mock.patch.object(sys, "dont_write_bytecode", True)
    with no_bytecode, mock.patch.dict(os.environ, PYTHONDONTWRITEBYTECODE="1"):
        resource.setrlimit(resource.RLIMIT_FSIZE, (room_bytes, limits[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
