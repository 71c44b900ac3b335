"""What is looked at before a picture is decoded, and the limits: pictures are hostile input.

From the cheapest to the dearest: bytes, magic, the header's dimensions, scans. Nothing here decodes a pixel.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

from taijitu_runtime.errors import (
    DamagedPictureError,
    EmptyPictureError,
    TooManyBytesError,
    TooManyPixelsError,
    TooManyScansError,
    UnknownFormatError,
    UsageError,
)

MAGIC = {
    "JPEG": re.compile(rb"\xff\xd8\xff"),
    "PNG": re.compile(rb"\x89PNG\r\n\x1a\n"),
    "WEBP": re.compile(rb"RIFF....WEBP", re.DOTALL),
    "BMP": re.compile(rb"BM"),
    "GIF": re.compile(rb"GIF8[79]a"),
    "TIFF": re.compile(rb"II\*\0|MM\0\*"),
    "PPM": re.compile(rb"P[56]\s"),
}
FORMATS = tuple(MAGIC)

# Within compressed data a marker is 0xff and neither 0 (a stuffed 0xff), 0xd0 to 0xd7 (restart) nor 0xff (fill).
MARKER = re.compile(rb"\xff([\x01-\xcf\xd8-\xfe])", re.DOTALL)
FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
START_OF_SCAN, END_OF_IMAGE, APP1 = 0xDA, 0xD9, 0xE1
WITHOUT_CONTENT = frozenset({0x01, 0xD8})
FIRST_MARKER = 0xC0  # below: reserved
PNG_OF_PIXELS = frozenset({b"IDAT", b"fdAT", b"fcTL"})
PPM_GAP = rb"(?:\s|#[^\n]*\n)+"
PPM_HEADER = re.compile(rb"P[56]%b(\d{1,9})%b(\d{1,9})%b\d{1,5}\s" % (PPM_GAP, PPM_GAP, PPM_GAP))
PPM_HEADER_BYTES = 4096
# Decoders walk through segments, chunks and extensions in Python, and inflate some: millions would take minutes.
MAX_PARTS = 4096
MAX_PNG_EXTRAS = 128
MAX_PNG_CHUNKS = 65536
PNG_CHANNELS = {b"\2": 3, b"\4": 2, b"\6": 4}  # by colour type; the others have one
MAX_DEFLATE_RATIO = 1032  # bytes from one: 258 at most from two bits
GIF_EXTENSION = 0x21
TIFF_WIDTH, TIFF_HEIGHT = 256, 257
TIFF_SHORT, TIFF_BYTES = 3, frozenset({1, 2, 6, 7})
MAX_TIFF_VALUES = 65536

Order: TypeAlias = Literal["big", "little"]


@dataclass(frozen=True)
class Limits:
    """What a picture may cost. UsageError for a limit below 1 or a format that is not read.

    `max_bytes`: of a file. `max_pixels`: width times height, as the header declares them; the default lets an 8K frame
    and most cameras through. `max_jpeg_scans`: encoders write at most about a dozen; each costs a pass over the whole
    picture. `formats`: those that are decoded, out of FORMATS.
    """

    max_bytes: int = 256 * 2**20
    max_pixels: int = 40_000_000
    max_jpeg_scans: int = 32
    formats: tuple[str, ...] = FORMATS

    def __post_init__(self) -> None:
        for name in ("max_bytes", "max_pixels", "max_jpeg_scans"):
            if getattr(self, name) < 1:
                raise UsageError(f"got {name}={getattr(self, name)}, expected at least 1")
        if unknown := [name for name in self.formats if name not in FORMATS]:
            raise UsageError(f"got the picture format {unknown[0]!r}, expected some of {', '.join(FORMATS)}")


LIMITS = Limits()


class Header(NamedTuple):
    """What a picture's header declares.

    `format`: one of FORMATS. `width`, `height`: pixels as stored.
    `components`: of a JPEG: 1, 3, or 4 for CMYK. `has_metadata`: a JPEG may carry an orientation.
    """

    format: str
    width: int
    height: int
    components: int = 0
    has_metadata: bool = False


def inspect(data: bytes, limits: Limits = LIMITS) -> Header:
    """The header of a picture that may be decoded; microseconds, whatever `data` is.

    EmptyPictureError, TooManyBytesError, UnknownFormatError, DamagedPictureError (a header that is cut off, a JPEG
    without its end), TooManyPixelsError or TooManyScansError for one that may not.
    """
    check_bytes(len(data), limits)
    kind = format_of(data, limits)
    header = PARSERS[kind](data, limits)
    check_pixels(header.width, header.height, limits)
    return header


def check_bytes(count: int, limits: Limits) -> None:
    """EmptyPictureError for 0 bytes, TooManyBytesError beyond the limit."""
    if count == 0:
        raise EmptyPictureError(f"got an empty file, expected {', '.join(limits.formats)}; fetch the file again")
    if count > limits.max_bytes:
        raise TooManyBytesError(f"got more than {limits.max_bytes} bytes, expected a picture; check the path")


def check_pixels(width: int, height: int, limits: Limits) -> None:
    """TooManyPixelsError beyond the limit."""
    if width * height > limits.max_pixels:
        raise TooManyPixelsError(
            f"got {width} x {height} pixels, expected at most {limits.max_pixels}; scale the picture down"
        )


def format_of(data: bytes, limits: Limits) -> str:
    """The format that the first bytes belong to; UnknownFormatError for none of `limits.formats`."""
    for name in limits.formats:
        if MAGIC[name].match(data):
            return name
    expected = ", ".join(limits.formats)
    reason = f"got no picture, or one of an unknown format, expected {expected}; convert it to one of these"
    raise UnknownFormatError(reason)


def damaged(detail: object) -> DamagedPictureError:
    """The error about a picture that is cut off or damaged; `detail` says where."""
    return DamagedPictureError(
        f"got a damaged or truncated picture ({detail}), expected a whole one; fetch the file again"
    )


def _jpeg(data: bytes, limits: Limits) -> Header:
    width = height = components = scans = 0
    has_metadata = False
    place = 2
    for _ in range(MAX_PARTS):
        found = MARKER.search(data, place)
        if not found:
            raise damaged("a JPEG without its end")
        marker, place = found[1][0], found.end()
        if marker == END_OF_IMAGE:
            if not scans or not components:
                raise damaged("a JPEG without a scan")
            return Header("JPEG", width, height, components, has_metadata)
        if marker in WITHOUT_CONTENT:
            continue
        if marker < FIRST_MARKER:  # decoders skip these two bytes, and would find what we skip as its content
            raise damaged("a JPEG with an unknown marker")
        if marker in FRAME_MARKERS:
            if components:  # decoders take the first one, or give up
                raise damaged("a JPEG of two frames")
            height, width = _number(data, place + 3, 2), _number(data, place + 5, 2)
            components = _number(data, place + 7, 1)
            check_pixels(width, height, limits)
        elif marker == START_OF_SCAN:
            scans += 1
            if scans > limits.max_jpeg_scans:
                raise TooManyScansError(
                    f"got a JPEG of more than {limits.max_jpeg_scans} scans, expected no more; save it again"
                )
        elif marker == APP1:
            has_metadata = True
        place += max(2, _number(data, place, 2))
    raise damaged(f"a JPEG of more than {MAX_PARTS} segments")


def _png(data: bytes, limits: Limits) -> Header:
    if data[12:16] != b"IHDR":
        raise damaged("a PNG that does not begin with its header")
    header = Header("PNG", _number(data, 16, 4), _number(data, 20, 4))
    check_pixels(header.width, header.height, limits)
    row_bytes = (header.width * PNG_CHANNELS.get(data[25:26], 1) * _number(data, 24, 1) + 7) // 8
    place, extras, chunks, packed_bytes = 8, 0, 0, 0
    while place < len(data):
        kind = data[place + 4 : place + 8]
        extras += kind not in PNG_OF_PIXELS
        packed_bytes += _number(data, place, 4) if kind == b"IDAT" else 0
        chunks += 1
        if extras > MAX_PNG_EXTRAS or chunks > MAX_PNG_CHUNKS:
            raise damaged("a PNG of too many chunks")
        place += 12 + _number(data, place, 4)
    packed_bytes -= max(0, place - len(data))
    if header.height * row_bytes > MAX_DEFLATE_RATIO * packed_bytes:  # its decoder would fill the rest, however large
        raise damaged(f"a PNG with {max(0, packed_bytes)} bytes for {header.width} x {header.height} pixels")
    return header


def _webp(data: bytes, limits: Limits) -> Header:
    kind = data[12:16]
    if kind == b"VP8X":
        return Header("WEBP", 1 + _number(data, 24, 3, "little"), 1 + _number(data, 27, 3, "little"))
    if kind == b"VP8L":
        sides = _number(data, 21, 4, "little")
        return Header("WEBP", 1 + (sides & 0x3FFF), 1 + (sides >> 14 & 0x3FFF))
    if kind == b"VP8 ":
        return Header("WEBP", _number(data, 26, 2, "little") & 0x3FFF, _number(data, 28, 2, "little") & 0x3FFF)
    raise damaged("a WEBP of an unknown kind")


def _bmp(data: bytes, limits: Limits) -> Header:
    if _number(data, 14, 4, "little") == 12:  # OS/2's header has two bytes a side
        return Header("BMP", _number(data, 18, 2, "little"), _number(data, 20, 2, "little"))
    height = _number(data, 22, 4, "little")  # negative where the top row comes first
    return Header("BMP", _number(data, 18, 4, "little"), min(height, 2**32 - height))


def _gif(data: bytes, limits: Limits) -> Header:
    width, height = _number(data, 6, 2, "little"), _number(data, 8, 2, "little")
    flags = _number(data, 10, 1)
    place = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    extension = False
    for _ in range(MAX_PARTS):  # until the first frame: extensions, each of blocks that begin with their length
        first = _number(data, place, 1)
        if not extension and first != GIF_EXTENSION:
            x, y, wide, high = (_number(data, place + 1 + 2 * i, 2, "little") for i in range(4))
            return Header("GIF", max(width, x + wide), max(height, y + high))  # Pillow makes room for the first frame
        place += 1 + first if extension else 2
        extension = not extension or first > 0
    raise damaged(f"a GIF of more than {MAX_PARTS} blocks before its first frame")


def _tiff(data: bytes, limits: Limits) -> Header:
    order: Order = "little" if data[:2] == b"II" else "big"
    place = _number(data, 4, 4, order)
    entries = _number(data, place, 2, order)
    if entries > MAX_PARTS:
        raise damaged(f"a TIFF of more than {MAX_PARTS} tags")
    sides = {TIFF_WIDTH: 0, TIFF_HEIGHT: 0}
    for entry in range(place + 2, place + 2 + 12 * entries, 12):
        tag, kind = _number(data, entry, 2, order), _number(data, entry + 2, 2, order)
        if kind not in TIFF_BYTES and _number(data, entry + 4, 4, order) > MAX_TIFF_VALUES:
            raise damaged(f"a TIFF of more than {MAX_TIFF_VALUES} values in a tag")
        if tag in sides:
            sides[tag] = _number(data, entry + 8, 2 if kind == TIFF_SHORT else 4, order)
    return Header("TIFF", sides[TIFF_WIDTH], sides[TIFF_HEIGHT])


def _ppm(data: bytes, limits: Limits) -> Header:
    found = PPM_HEADER.match(data[:PPM_HEADER_BYTES])
    if not found:
        raise damaged("its header is cut off")
    return Header("PPM", int(found[1]), int(found[2]))


def _number(data: bytes, place: int, length: int, order: Order = "big") -> int:
    part = data[place : place + length]
    if len(part) < length:
        raise damaged("its header is cut off")
    return int.from_bytes(part, order)


PARSERS: dict[str, Callable[[bytes, Limits], Header]] = {
    "JPEG": _jpeg,
    "PNG": _png,
    "WEBP": _webp,
    "BMP": _bmp,
    "GIF": _gif,
    "TIFF": _tiff,
    "PPM": _ppm,
}
