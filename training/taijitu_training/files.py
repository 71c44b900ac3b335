"""Writing a file whole or not at all."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from taijitu_runtime.errors import TaijituError


def make_out(out: Path) -> None:
    """Make the folder that --out names; TaijituError where it cannot be one."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TaijituError(f"got --out {out}, which cannot be a folder ({error.strerror}); choose another") from None


def write_whole(path: Path, content: bytes) -> None:
    """Write to a temporary name beside `path`, then rename: `path` is either the old file or the whole new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise TaijituError(
            f"{path}: could not be written ({error.strerror}); make room or choose another folder"
        ) from None
