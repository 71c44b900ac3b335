"""Keep messages of Pillow and libtiff about odd files from affecting the result or reaching a terminal or a log."""

from __future__ import annotations

import ctypes
import functools
import logging
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PILLOW = r"PIL\.(?:)"  # spelt so that only our own filter is removed
MAPPED_FILES = Path("/proc/self/maps")

# As warnings.filterwarnings writes it, in a tenth of its time.
_FILTER = ("ignore", None, Warning, re.compile(PILLOW), 0)
_lock = threading.Lock()
_inside = 0


@contextmanager
def quiet() -> Iterator[None]:
    """Ignore Pillow's warnings, also where the process turns warnings into errors; safe in many threads at once.

    warnings.catch_warnings is not: it restores the filters that it found, which may be another thread's.
    """
    global _inside
    with _lock:
        _inside += 1
        if warnings.filters[:1] != [_FILTER]:
            warnings.filters.insert(0, _FILTER)  # type: ignore[attr-defined]
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            # More than one where another thread put a filter before ours in the meantime.
            while _inside == 0 and _FILTER in warnings.filters:
                warnings.filters.remove(_FILTER)  # type: ignore[attr-defined]


@functools.cache
def silence_libraries() -> None:
    """Keep libtiff's messages, and Pillow's log without a handler, off stderr; once, for the whole process."""
    logging.getLogger("PIL").addHandler(logging.NullHandler())
    for path in _mapped("libtiff"):
        libtiff = ctypes.CDLL(path)
        for name in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
            setter = getattr(libtiff, name)
            setter.restype, setter.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
            setter(None)


def _mapped(name: str) -> set[str]:
    try:
        lines = MAPPED_FILES.read_text(errors="surrogateescape").splitlines()
    except OSError:  # no Linux
        return set()
    return {line.split(maxsplit=5)[5] for line in lines if name in line.rpartition("/")[2]}
