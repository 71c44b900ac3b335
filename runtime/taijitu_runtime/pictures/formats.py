"""The formats of pictures, by their first bytes: those that are read, and others by name."""

from __future__ import annotations

import re
from collections.abc import Sequence

from taijitu_runtime.errors import UnknownFormatError

# A raw file of a camera is a TIFF that says CR, or whose first picture is a thumbnail (NewSubfileType, tag 254, is 1).
CAMERA_RAW = (
    rb"II\*\0....CR|II\*\0\x08\0\0\0..\xfe\0\x04\0\x01\0\0\0\x01|"
    rb"MM\0\*\0\0\0\x08..\0\xfe\0\x04\0\0\0\x01\0\0\0\x01"
)
MAGIC = {
    "JPEG": re.compile(rb"\xff\xd8\xff"),
    "PNG": re.compile(rb"\x89PNG\r\n\x1a\n"),
    "WEBP": re.compile(rb"RIFF....WEBP", re.DOTALL),
    "BMP": re.compile(rb"BM"),
    "GIF": re.compile(rb"GIF8[79]a"),
    "TIFF": re.compile(rb"(?!%b)(?:II\*\0|MM\0\*)" % CAMERA_RAW, re.DOTALL),
    "PPM": re.compile(rb"P[56]\s"),
}
FORMATS = tuple(MAGIC)
# Formats that are not supported, with the names that the error gives, so that a user knows what to convert.
UNSUPPORTED_MAGIC = {
    "a HEIC": re.compile(rb"....ftyp(?:hei[cxms]|hev[cxms]|mif1|msf1)", re.DOTALL),
    "an AVIF": re.compile(rb"....ftyp(?:avif|avis)", re.DOTALL),
    "a JPEG 2000": re.compile(rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51"),
    "a JPEG XL": re.compile(rb"\xff\x0a|\0\0\0\x0cJXL "),
    "a raw file of a camera (DNG, CR2, NEF, ARW)": re.compile(CAMERA_RAW, re.DOTALL),
    "a BigTIFF": re.compile(rb"II\x2b\0|MM\0\x2b"),
    "a PBM (black and white)": re.compile(rb"P[14]\s"),
    "a plain (ASCII) PGM": re.compile(rb"P2\s"),
    "a plain (ASCII) PPM": re.compile(rb"P3\s"),
    "a PAM": re.compile(rb"P7\s"),
    "a PFM": re.compile(rb"P[Ff]\s"),
    "an SVG": re.compile(rb"\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)?(?:<!DOCTYPE svg[^>]*>\s*)?<svg", re.DOTALL),
    "a page of HTML": re.compile(rb"\s*<(?:!doctype html|html)", re.IGNORECASE),
    "a PDF": re.compile(rb"%PDF-"),
    "a PSD": re.compile(rb"8BPS"),
    "an ICO": re.compile(rb"\0\0\x01\0"),
}
UNSUPPORTED_MAGIC_BYTES = 1024


def format_of(data: bytes, accepted: Sequence[str]) -> str:
    """Return the format of the first bytes. Raises UnknownFormatError, with its name, unless it is accepted."""
    for name in accepted:
        if MAGIC[name].match(data):
            return name
    expected = ", ".join(accepted)
    start = data[:UNSUPPORTED_MAGIC_BYTES]
    known = [*UNSUPPORTED_MAGIC.items(), *((f"a {name}", magic) for name, magic in MAGIC.items())]
    names = [f"no picture that is read, but {name}," for name, magic in known if magic.match(start)]
    got = names[0] if names else "no picture, or one of an unknown format,"
    raise UnknownFormatError(f"got {got} expected {expected}; convert it to one of these")
