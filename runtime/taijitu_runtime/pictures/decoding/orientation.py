"""Read EXIF's orientation from a picture's metadata.

Pillow before 13 copies every tag of an EXIF block, and tags may overlap: a PNG of a few kilobytes would take gigabytes.
"""

from __future__ import annotations

import re
import struct

EXIF_PREFIX = re.compile(rb"(?:Exif\0\0){0,2}")
BYTE_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}
ORIENTATION = 0x0112
# The format of a tag's first value, by the tag's type: BYTE, SHORT, LONG.
VALUE_FORMATS = {1: "B", 3: "H", 4: "L"}
ORIENTATION_OF_XMP = re.compile(rb'tiff:Orientation(?:="|>)([0-9])')


def orientation_from_metadata(exif: bytes, xmp: bytes) -> int:
    """Return the orientation, 1 to 8, that EXIF states, or else XMP; 1 where it says none or cannot be read.

    Args:
        exif: An EXIF block, with or without "Exif" before it, or empty.
        xmp: An XMP packet, or empty.
    """
    stated = _from_exif(exif)
    if stated is None:
        found = ORIENTATION_OF_XMP.search(xmp)
        stated = int(found[1]) if found else 1
    return stated if stated in range(1, 9) else 1


def _from_exif(exif: bytes) -> int | None:
    prefix = EXIF_PREFIX.match(exif)
    start = prefix.end() if prefix else 0
    order = BYTE_ORDERS.get(exif[start : start + 4])
    if order is None or len(exif) < start + 8:
        return None
    place = start + int(struct.unpack_from(f"{order}L", exif, start + 4)[0])
    if len(exif) < place + 2:
        return None
    (tags,) = struct.unpack_from(f"{order}H", exif, place)
    whole_tags = min(tags, (len(exif) - place - 2) // 12)
    for at in range(place + 2, place + 2 + 12 * whole_tags, 12):
        tag, kind, count = struct.unpack_from(f"{order}HHL", exif, at)
        if tag == ORIENTATION and kind in VALUE_FORMATS and count == 1:
            return int(struct.unpack_from(order + VALUE_FORMATS[kind], exif, at + 8)[0])
    return None
