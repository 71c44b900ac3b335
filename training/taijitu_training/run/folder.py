"""The folder that --out names."""

from __future__ import annotations

from pathlib import Path

from taijitu_runtime.errors import TaijituError


def make_out(out: Path) -> None:
    """Make the folder that --out names; TaijituError where it cannot be one."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TaijituError(f"got --out {out}, which cannot be a folder ({error.strerror}); choose another") from None
