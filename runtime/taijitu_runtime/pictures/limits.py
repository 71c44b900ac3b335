"""The limits of a picture, and the errors about one that is beyond them, damaged or of an unsupported variant."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from taijitu_runtime.errors import (
    DamagedPictureError,
    EmptyPictureError,
    TooManyBytesError,
    TooManyPixelsError,
    UnknownFormatError,
    UsageError,
    check_number,
)
from taijitu_runtime.pictures.formats import FORMATS


@dataclass(frozen=True)
class Limits:
    """The limits of a picture. Raises UsageError for a limit below 1, no format or an unknown one.

    A fraction is rounded down; math.inf removes a limit.

    Attributes:
        max_bytes: Bytes of a file.
        max_pixels: Pixels that count (`Header.cost_pixels`): width times height, but an eighth of that for a large JPEG
            that is decoded at a fraction of its size, or half for a progressive one. The default accepts an 8K frame,
            and as JPEGs the photographs of every camera and telephone.
        max_jpeg_scans: Encoders write at most about a dozen; each costs a pass over the whole picture.
        formats: The accepted formats, out of FORMATS.
    """

    max_bytes: int = 256 * 2**20
    max_pixels: int = 40_000_000
    max_jpeg_scans: int = 32
    formats: tuple[str, ...] = FORMATS

    def __post_init__(self) -> None:
        for name in ("max_bytes", "max_pixels", "max_jpeg_scans"):
            limit = getattr(self, name)
            check_number(name, limit, 1, math.inf, "at least 1")
            object.__setattr__(self, name, limit if limit == math.inf else int(limit))
        if isinstance(self.formats, str) or not isinstance(self.formats, Iterable):
            raise UsageError(f"got the picture formats {self.formats!r}, expected several names, such as {FORMATS[:2]}")
        object.__setattr__(self, "formats", tuple(self.formats))
        if not self.formats:
            raise UsageError(f"got no picture format, expected some of {', '.join(FORMATS)}")
        if unknown := [name for name in self.formats if name not in FORMATS]:
            raise UsageError(f"got the picture format {unknown[0]!r}, expected some of {', '.join(FORMATS)}")


LIMITS = Limits()
SCALE_DOWN = "scale the picture down, or allow more where max_pixels can be set"


def check_bytes(count: int, limits: Limits) -> None:
    """Raise EmptyPictureError for 0 bytes, TooManyBytesError beyond the limit."""
    if count == 0:
        raise EmptyPictureError(f"got an empty file, expected {', '.join(limits.formats)}; fetch the file again")
    if count > limits.max_bytes:
        raise TooManyBytesError(f"got more than {limits.max_bytes} bytes, expected a picture; check the path")


def check_pixels(width: int, height: int, limits: Limits) -> None:
    """Raise TooManyPixelsError beyond the limit."""
    if width * height > limits.max_pixels:
        raise TooManyPixelsError(f"got {width} x {height} pixels, expected at most {limits.max_pixels}; {SCALE_DOWN}")


def unsupported(what: str) -> UnknownFormatError:
    """Return the error about an intact picture of an unsupported variant, such as "a 12-bit JPEG"."""
    return UnknownFormatError(f"got {what}, which is not read, expected 8 bits a channel; convert it, as to a PNG")


def damaged(detail: object) -> DamagedPictureError:
    """Return the error about a truncated or damaged picture; `detail` says where."""
    return DamagedPictureError(
        f"got a damaged or truncated picture ({detail}), expected a whole one; fetch the file again"
    )
