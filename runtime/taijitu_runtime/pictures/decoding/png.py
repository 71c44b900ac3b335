"""Check the checksums of PNGs, which Pillow ignores, and remove the chunks that affect no pixel.

Pillow inflates some of these, a megabyte each, and refuses the file if there is more.
"""

from __future__ import annotations

import zlib

from taijitu_runtime.pictures.decoding.orientation import orientation_from_metadata
from taijitu_runtime.pictures.limits import damaged

FIRST_CHUNK, COLOUR_TYPE = 8, 25  # places in the file
INDEXED = 3
OF_PIXELS = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"})
TEXTS = frozenset({b"tEXt", b"zTXt", b"iTXt"})
XMP_TEXT, EXIF_TEXT = b"XML:com.adobe.xmp\0", b"Raw profile type exif\0"
MAX_TEXT_BYTES = 1 << 20


def checked_png(data: bytes) -> tuple[bytes, int]:
    """Check a PNG that `inspect` accepted; return it with the chunks of its pixels only, and its orientation.

    Raises:
        DamagedPictureError: A checksum is wrong, or the palette is missing.
    """
    view = memoryview(data)
    place, kept_from = FIRST_CHUNK, 0
    kept = []
    exif = exif_text = xmp = b""
    has_palette = has_pixels = False
    kind = b""
    while kind != b"IEND":
        length, kind = int.from_bytes(data[place : place + 4], "big"), data[place + 4 : place + 8]
        start, end = place + 8, place + 12 + length
        has_pixels = has_pixels or kind == b"IDAT"
        if (kind == b"IDAT" or not has_pixels) and not _is_whole(view, place, end):  # later chunks cost no pixel
            raise damaged("a checksum of a PNG is wrong")
        has_palette = has_palette or kind == b"PLTE"
        if kind not in OF_PIXELS:
            kept.append(view[kept_from:place])
            kept_from = end
            if kind == b"eXIf":
                exif = exif or data[start : end - 4]
            elif kind in TEXTS and data.startswith(EXIF_TEXT, start):
                exif_text = exif_text or _text(kind, data[start + len(EXIF_TEXT) : end - 4])
            elif kind in TEXTS and data.startswith(XMP_TEXT, start):
                xmp = xmp or _text(kind, data[start + len(XMP_TEXT) : end - 4])
        place = end
    kept.append(view[kept_from:place])
    if data[COLOUR_TYPE] == INDEXED and not has_palette:
        raise damaged("a PNG without its palette")
    return b"".join(kept), orientation_from_metadata(exif or _exif_from_text(exif_text), xmp)


def _is_whole(view: memoryview, start: int, end: int) -> bool:
    return zlib.crc32(view[start + 4 : end - 4]) == int.from_bytes(view[end - 4 : end], "big")


def _text(kind: bytes, content: bytes) -> bytes:
    """Return the text of a chunk, without its keyword; empty where it cannot be read or is longer than needed."""
    if kind == b"tEXt":
        return content
    is_packed = kind == b"zTXt" or content[:1] == b"\1"
    # before the text: the method, in iTXt a flag, language and translated keyword too
    content = content[1:] if kind == b"zTXt" else content[2:].split(b"\0", 2)[-1]
    if not is_packed:
        return content
    try:
        return zlib.decompressobj().decompress(content, MAX_TEXT_BYTES)
    except zlib.error:
        return b""


def _exif_from_text(text: bytes) -> bytes:
    try:  # a line end, "exif", its length, and the bytes in hexadecimal
        return bytes.fromhex(b"".join(text.split(b"\n")[3:]).decode("ascii"))
    except ValueError:
        return b""
