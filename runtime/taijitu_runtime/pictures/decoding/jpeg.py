"""Decode JPEGs by simplejpeg, which reports libjpeg's warnings: about invented pixels, and about harmless things.

libjpeg reports only its first warning. A harmless one, such as that a colour profile lacks a part, may hide damage. So
the file is decoded again without the parts that the warning is about, and then every warning is about pixels.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from taijitu_runtime.errors import require
from taijitu_runtime.pictures.decoding.orientation import orientation_from_metadata
from taijitu_runtime.pictures.decoding.pillow import INSTALL
from taijitu_runtime.pictures.headers import (
    APP1,
    END_OF_IMAGE,
    MARKER,
    PROGRESSIVE,
    START_OF_SCAN,
    WITHOUT_CONTENT,
    Header,
)

REMARKS = re.compile(r"extraneous bytes|JFIF revision|Adobe|ICC marker|Invalid SOS parameters")
STRAY_AT_THE_END = re.compile(r"extraneous bytes before marker 0xd9")
UNUSUAL_SAMPLING = "subsampling"
APP0, APP14, COMMENT = 0xE0, 0xEE, 0xFE
EXIF, XMP = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"
# Segments with this beginning and at least this length define the colours; all others can be removed.
COLOUR_SEGMENTS = {APP0: (b"JFIF\0", 16), APP14: (b"Adobe", 14)}
JFIF_VERSION, ADOBE_TRANSFORM = 9, 15  # places in these segments
WHOLE_SPECTRUM = bytes((0, 63, 0))  # the last three bytes of a scan's header in a file that is not progressive
# Zeros at the end of the data of a scan or a restart interval; a zero after 0xff belongs to the data.
PADDING = re.compile(rb"(\xff\0|[^\0\xff])\0+(?=\xff[\x01-\xfe])")


class Segment(NamedTuple):
    """One piece of a JPEG: `data[start:end]` with its marker, or without one (0) the data of a scan."""

    marker: int
    start: int
    end: int


def pixels_from_jpeg(data: bytes, header: Header, factor: int) -> NDArray[np.uint8] | None:
    """Decode a JPEG that `inspect` accepted, at 1/`factor` of its size, without its orientation.

    Returns:
        uint8 (H, W, 3), with 4 components (H, W, 4); None for a sampling that simplejpeg does not support.

    Raises:
        ValueError: libjpeg invented pixels or failed.
    """
    try:
        return _decoded(data, header, factor)
    except ValueError as error:
        if UNUSUAL_SAMPLING in str(error):
            return None
        if not REMARKS.search(str(error)):
            raise
    plain = without_remarks(data, header.components)
    try:
        return _decoded(plain, header, factor)
    except ValueError as error:
        if not STRAY_AT_THE_END.search(str(error)):
            raise
    return _decoded(plain, header, factor, strict=False)  # after the last pixel: it hides no further warning


def without_remarks(data: bytes, components: int) -> bytes:
    """Return the same picture without anything that libjpeg or Pillow warns about and that affects no pixel.

    Segments that affect no pixel are dropped; so are stray bytes between segments and zeros at the end of a scan.
    Parameters of a scan are corrected where only one value is possible.
    """
    parts = [data[:2]]
    is_progressive = False
    for segment in _segments(data):
        content = data[segment.start : segment.end]
        if segment.marker == 0:
            parts.append(PADDING.sub(rb"\1", content + b"\xff\x01")[:-2])
        elif segment.marker == APP0 and _says_colours(content):
            parts.append(content[:JFIF_VERSION] + b"\1" + content[JFIF_VERSION + 1 :])
        elif segment.marker == APP14 and _says_colours(content):
            parts.append(content[:ADOBE_TRANSFORM] + _transform(content, components) + content[ADOBE_TRANSFORM + 1 :])
        elif segment.marker == START_OF_SCAN:
            parts.append(content if is_progressive else content[:-3] + WHOLE_SPECTRUM)
        elif segment.marker not in range(APP0, COMMENT + 1):
            is_progressive = is_progressive or segment.marker in PROGRESSIVE
            parts.append(content)
    return b"".join(parts)


def orientation_of_jpeg(data: bytes) -> int:
    """Return the orientation, 1 to 8, of a JPEG that `inspect` accepted; only segments before the first scan count."""
    exif, xmp = [], b""
    for segment in _segments(data):
        if segment.marker == START_OF_SCAN:
            break
        if segment.marker == APP1:
            content = data[segment.start + 4 : segment.end]
            if content.startswith(EXIF):
                exif.append(content[len(EXIF) :])
            elif content.startswith(XMP):
                xmp = content
    return orientation_from_metadata(b"".join(exif), xmp)


def _decoded(data: bytes, header: Header, factor: int, strict: bool = True) -> NDArray[np.uint8]:
    decode_jpeg = require("simplejpeg", INSTALL).decode_jpeg
    least = {"min_height": -(-header.height // factor), "min_width": -(-header.width // factor)} if factor > 1 else {}
    pixels: NDArray[np.uint8] = decode_jpeg(data, "CMYK" if header.components == 4 else "RGB", strict=strict, **least)
    return pixels


def _segments(data: bytes) -> Iterator[Segment]:
    place, in_scan = 2, False
    while found := MARKER.search(data, place):
        marker, start = found[1][0], found.start()
        if in_scan:
            yield Segment(0, place, start)
        in_scan = marker == START_OF_SCAN
        place = found.end()
        if marker not in WITHOUT_CONTENT and marker != END_OF_IMAGE:
            place += int.from_bytes(data[place : place + 2], "big")
        yield Segment(marker, start, place)
        if marker == END_OF_IMAGE:
            return


def _transform(content: bytes, components: int) -> bytes:
    usual = b"\2" if components == 4 else b"\1"  # libjpeg uses these for any unknown number
    stated = content[ADOBE_TRANSFORM : ADOBE_TRANSFORM + 1]
    return stated if stated == b"\0" else usual


def _says_colours(content: bytes) -> bool:
    begin, length = COLOUR_SEGMENTS.get(content[1], (b"", 0))
    return length > 0 and content[4:].startswith(begin) and len(content) >= length
