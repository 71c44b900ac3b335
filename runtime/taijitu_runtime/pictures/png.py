"""Check the checksums of PNGs, which Pillow ignores, and remove chunks that it does not need."""

from __future__ import annotations

import zlib

from taijitu_runtime.pictures.limits import damaged

FIRST_CHUNK = 8
# Pillow inflates some of the others, a megabyte each: at most this many are passed on.
MAX_EXTRAS = 128
OF_PIXELS = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"})
ORIENTATION_TEXTS = (b"XML:com.adobe.xmp\0", b"Raw profile type exif\0")
TEXTS = frozenset({b"tEXt", b"zTXt", b"iTXt"})


def checked_png(data: bytes) -> bytes:
    """Check a PNG that `inspect` accepted, and return it; if it has very many chunks, only those that are needed.

    Raises:
        DamagedPictureError: The checksum of its pixels is wrong.
    """
    place, extras = FIRST_CHUNK, 0
    kept = [(0, FIRST_CHUNK)]
    orientations: set[bytes] = set()
    view = memoryview(data)
    kind = b""
    while kind != b"IEND":
        length, kind = int.from_bytes(data[place : place + 4], "big"), data[place + 4 : place + 8]
        end = place + 12 + length
        if kind == b"IDAT":
            if zlib.crc32(view[place + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
                raise damaged("the checksum of a PNG's pixels is wrong")
        else:
            extras += 1
        orientation = _orientation_name(data, place, kind)
        if kind in OF_PIXELS or (orientation and orientation not in orientations):
            kept.append((place, end))
            orientations.add(orientation)
        place = end
    return data if extras <= MAX_EXTRAS else b"".join(data[start:end] for start, end in kept)


def _orientation_name(data: bytes, place: int, kind: bytes) -> bytes:
    if kind == b"eXIf":
        return kind
    if kind not in TEXTS:
        return b""
    return next((name for name in ORIENTATION_TEXTS if data.startswith(name, place + 8)), b"")
