"""Check pictures, which are hostile input, against limits before they are decoded.

The checks are in the order of their cost: bytes, magic number, dimensions, scans. None decodes a pixel.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Literal, NamedTuple, TypeAlias

from taijitu_runtime.errors import TooManyPixelsError, TooManyScansError
from taijitu_runtime.pictures.formats import format_of
from taijitu_runtime.pictures.limits import LIMITS, SCALE_DOWN, Limits, check_bytes, check_pixels, damaged, unsupported

# Within compressed data a marker is 0xff and neither 0 (a stuffed 0xff), 0xd0 to 0xd7 (restart) nor 0xff (fill).
MARKER = re.compile(rb"\xff([\x01-\xcf\xd8-\xfe])", re.DOTALL)
FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
START_OF_SCAN, END_OF_IMAGE, APP1 = 0xDA, 0xD9, 0xE1
BASELINE, PROGRESSIVE = 0xC0, frozenset({0xC2, 0xCA})
UNSUPPORTED_FRAMES = {0xC3: "lossless", 0xCB: "lossless", **dict.fromkeys((0xC5, 0xC6, 0xC7), "hierarchical")}
JPEG_LS_FRAME = 0xF7
WITHOUT_CONTENT = frozenset({0x01, 0xD8})
FIRST_MARKER = 0xC0  # below: reserved
JPEG_COMPONENTS = frozenset({1, 3, 4})
# A JPEG of more pixels may be decoded at a half, a quarter or an eighth of its size.
LARGE_PIXELS = 2_000_000
# Beyond this ratio of the sides pictures are resized in another way (resizing/resize.py), and never shrunk.
MAX_EXACT_ASPECT = 32
# Where a JPEG is shrunk, as many pixels count as one: read in one pass, and with all coefficients kept.
STREAMED_PER_PIXEL, BUFFERED_PER_PIXEL = 8, 2
PNG_OF_PIXELS = frozenset({b"IDAT", b"fdAT", b"fcTL"})
PPM_GAP = rb"(?:\s|#[^\n]*\n)+"
PPM_HEADER = re.compile(rb"P[56]%b(\d{1,9})%b(\d{1,9})%b(\d{1,5})\s" % (PPM_GAP, PPM_GAP, PPM_GAP))
PPM_HEADER_BYTES = 4096
# Decoders loop over segments, chunks and extensions in Python, and inflate some: millions would take minutes.
MAX_PARTS = 4096
MAX_PNG_CHUNKS = 65536
PNG_CHANNELS = {b"\2": 3, b"\4": 2, b"\6": 4}  # by colour type; the others have one
MAX_DEFLATE_RATIO = 1032  # bytes from one: 258 at most from two bits
GIF_EXTENSION = 0x21
BMP_OLD_HEADER, BMP_HEADERS = 12, frozenset({12, 40, 52, 56, 64, 108, 124})
BMP_DEPTHS = frozenset({1, 4, 8, 16, 24, 32})
BMP_COMPRESSIONS = {0: "none", 1: "8-bit runs", 2: "4-bit runs", 3: "bit fields"}
TIFF_WIDTH, TIFF_HEIGHT = 256, 257
TIFF_SHORT, TIFF_BYTES = 3, frozenset({1, 2, 6, 7})
TIFF_VALUE_BYTES = {3: 2, 5: 8, 8: 2, 10: 8, 12: 8, 16: 8, **dict.fromkeys(TIFF_BYTES, 1)}  # the others have 4
MAX_TIFF_VALUES = 65536
# How pixels are stored: bits, places and sizes of strips, palette, places and sizes of tiles, further channels, format.
TIFF_OF_PIXELS = frozenset({258, 273, 279, 320, 324, 325, 338, 339})

Order: TypeAlias = Literal["big", "little"]


class Header(NamedTuple):
    """The header of a picture.

    Attributes:
        format: One of FORMATS.
        width: In pixels as stored; so is `height`.
        components: For a JPEG: 1, 3, or 4 for CMYK.
        has_metadata: A JPEG may contain an orientation.
        is_buffered: A JPEG has several scans, so that all coefficients are kept until the last one.
    """

    format: str
    width: int
    height: int
    components: int = 0
    has_metadata: bool = False
    is_buffered: bool = False

    def shrink(self, least_side: int) -> int:
        """Return the divisor of both sides while decoding, 1, 2, 4 or 8; the shorter side keeps `least_side` pixels.

        It is more than 1 only for a JPEG of more than LARGE_PIXELS; a `least_side` of 0 forbids shrinking.
        """
        short, long = sorted((self.width, self.height))
        if not least_side or short * long <= LARGE_PIXELS or long > MAX_EXACT_ASPECT * short:
            return 1
        if self.format != "JPEG" or self.components == 4:
            return 1
        return next((factor for factor in (8, 4, 2) if short >= factor * least_side), 1)

    def cost_pixels(self, least_side: int) -> int:
        """Return the cost of decoding in pixels, the unit of `Limits.max_pixels` and of memory budgets.

        That is width times height. For a JPEG that is shrunk, it is the number of decoded pixels, but at least an
        eighth of the stored ones, or half of them with several scans, whose coefficients need memory.
        """
        whole = self.width * self.height
        factor = self.shrink(least_side)
        if factor == 1:
            return whole
        least = -(-whole // (BUFFERED_PER_PIXEL if self.is_buffered else STREAMED_PER_PIXEL))
        return max(-(-self.width // factor) * -(-self.height // factor), least)


def inspect(data: bytes, limits: Limits = LIMITS, least_side: int = 0) -> Header:
    """Check a picture and return its header; takes microseconds for any `data`.

    Args:
        data: The bytes of a file.
        limits: The limits.
        least_side: As for `decode`; a large JPEG that is shrunk costs less.

    Raises:
        EmptyPictureError: There are no bytes.
        UnknownFormatError: The format or variant is not supported.
        DamagedPictureError: The header is truncated, or a JPEG or PNG lacks its end.
        TooManyBytesError: Beyond `limits`; so are TooManyPixelsError and TooManyScansError.
    """
    check_bytes(len(data), limits)
    kind = format_of(data, limits.formats)
    header = PARSERS[kind](data, limits)
    if header.cost_pixels(least_side) > limits.max_pixels:
        raise _too_many_pixels(header, limits, least_side)
    return header


def _too_many_pixels(header: Header, limits: Limits, least_side: int) -> TooManyPixelsError:
    cost = header.cost_pixels(least_side)
    whole = header.width * header.height
    counted = f", of which {cost} count" if cost < whole else ""
    return TooManyPixelsError(
        f"got {header.width} x {header.height} pixels{counted}, expected at most {limits.max_pixels}; {SCALE_DOWN}"
    )


def _jpeg(data: bytes, limits: Limits) -> Header:
    width = height = components = scans = 0
    has_metadata = is_progressive = False
    place = 2
    for _ in range(MAX_PARTS):
        found = MARKER.search(data, place)
        if not found:
            raise damaged("a JPEG without its end")
        marker, place = found[1][0], found.end()
        if marker == END_OF_IMAGE:
            if not scans or not components:
                raise damaged("a JPEG without a scan")
            return Header("JPEG", width, height, components, has_metadata, is_progressive or scans > 1)
        if marker in WITHOUT_CONTENT:
            continue
        if marker < FIRST_MARKER:  # decoders skip these two bytes only, and would read the content that is skipped here
            raise damaged("a JPEG with an unknown marker")
        if marker in FRAME_MARKERS:
            if components:  # decoders take the first one, or give up
                raise damaged("a JPEG of two frames")
            height, width = _number(data, place + 3, 2), _number(data, place + 5, 2)
            components = _number(data, place + 7, 1)
            is_progressive = marker in PROGRESSIVE
            if marker != BASELINE or components not in JPEG_COMPONENTS or not height or data[place + 2] != 8:
                _check_frame(marker, data[place + 2], height, width, components)
        elif marker == START_OF_SCAN:
            scans += 1
            if scans > limits.max_jpeg_scans:
                raise TooManyScansError(
                    f"got a JPEG of more than {limits.max_jpeg_scans} scans, expected no more; save it again"
                )
        elif marker == APP1:
            has_metadata = True
        elif marker == JPEG_LS_FRAME:
            raise unsupported("a JPEG-LS")
        place += max(2, _number(data, place, 2))
    raise damaged(f"a JPEG of more than {MAX_PARTS} segments")


def _check_frame(marker: int, bits: int, height: int, width: int, components: int) -> None:
    if marker in UNSUPPORTED_FRAMES:
        raise unsupported(f"a {UNSUPPORTED_FRAMES[marker]} JPEG")
    if bits in (12, 16):
        raise unsupported(f"a {bits}-bit JPEG")
    if bits != 8:
        raise damaged(f"a JPEG of {bits} bits")
    if width and not height:
        raise unsupported("a JPEG that states its height behind its pixels (DNL)")
    if components not in JPEG_COMPONENTS:
        raise unsupported(f"a JPEG of {components} components")


def _png(data: bytes, limits: Limits) -> Header:
    if data[12:16] == b"CgBI":
        raise unsupported("a PNG that Apple's tools changed for the iPhone (CgBI)")
    if data[12:16] != b"IHDR":
        raise damaged("a PNG that does not begin with its header")
    header = Header("PNG", _number(data, 16, 4), _number(data, 20, 4))
    check_pixels(header.width, header.height, limits)
    row_bytes = (header.width * PNG_CHANNELS.get(data[25:26], 1) * _number(data, 24, 1) + 7) // 8
    place, extras, chunks, packed_bytes = 8, 0, 0, 0
    kind = b""
    while kind != b"IEND":  # data after it does not belong to the picture
        if place + 12 > len(data):
            raise damaged("a PNG without its end")
        length, kind = _number(data, place, 4), data[place + 4 : place + 8]
        place += 12 + length
        extras += kind not in PNG_OF_PIXELS
        packed_bytes += length if kind == b"IDAT" else 0
        chunks += 1
        if extras > MAX_PARTS or chunks > MAX_PNG_CHUNKS:
            raise damaged("a PNG of too many chunks")
    if header.height * row_bytes > MAX_DEFLATE_RATIO * packed_bytes:  # a decoder would fill the rest, of any size
        raise damaged(f"a PNG with {packed_bytes} bytes for {header.width} x {header.height} pixels")
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
    size = _number(data, 14, 4, "little")
    if size not in BMP_HEADERS:
        raise unsupported(f"a BMP with a header of {size} bytes")
    if size == BMP_OLD_HEADER:  # OS/2's, with two bytes per side
        header = Header("BMP", _number(data, 18, 2, "little"), _number(data, 20, 2, "little"))
        bits, compression = _number(data, 24, 2, "little"), 0
    else:
        height = _number(data, 22, 4, "little")  # negative where the top row comes first
        header = Header("BMP", _number(data, 18, 4, "little"), min(height, 2**32 - height))
        bits, compression = _number(data, 28, 2, "little"), _number(data, 30, 4, "little")
    check_pixels(header.width, header.height, limits)
    if bits not in BMP_DEPTHS:
        raise unsupported(f"a BMP of {bits} bits a pixel")
    if compression not in BMP_COMPRESSIONS:
        raise unsupported(f"a BMP of compression {compression}")
    return header


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
    copied_bytes = 0
    for entry in range(place + 2, place + 2 + 12 * entries, 12):
        tag, kind = _number(data, entry, 2, order), _number(data, entry + 2, 2, order)
        count = _number(data, entry + 4, 4, order)
        if kind not in TIFF_BYTES and count > MAX_TIFF_VALUES:
            raise damaged(f"a TIFF of more than {MAX_TIFF_VALUES} values in a tag")
        size = count * TIFF_VALUE_BYTES.get(kind, 4)
        copied_bytes += size
        if copied_bytes > len(data):  # Pillow before 13 copies each tag, and tags may overlap
            raise damaged("a TIFF whose tags are larger than its file")
        if tag in TIFF_OF_PIXELS and size > 4 and _number(data, entry + 8, 4, order) + size > len(data):
            raise damaged("a TIFF that ends within its tags")
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
