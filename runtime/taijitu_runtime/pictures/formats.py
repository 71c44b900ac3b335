"""The formats of pictures, by their first bytes: those that are read, and others by name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

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
FIRST_BYTES = 1024  # of a file: enough for every pattern here; an SVG may begin with comments
_SIZE = rb"\s+(?:#|\d+\s+[\d#])"  # of a Netpbm's header: a text may begin with P1 and a space


class Foreign(NamedTuple):
    """A format that is not read.

    Attributes:
        kind: What a list of the files in a data set calls it.
        phrase: What an error about such a file calls it, so that a user knows what to convert.
        magic: The first bytes of its files.
    """

    kind: str
    phrase: str
    magic: re.Pattern[bytes]


FOREIGN = tuple(
    Foreign(kind, phrase, re.compile(magic, re.DOTALL))
    for kind, phrase, magic in (
        ("HEIC", "a HEIC", rb"....ftyp(?:hei[cxms]|hev[cxms]|mif1|msf1)"),
        ("AVIF", "an AVIF", rb"....ftypavi[fs]"),
        ("camera raw", "a raw file of a camera (DNG, CR2, CR3, NEF, ARW)", CAMERA_RAW + rb"|....ftypcrx "),
        ("MOV", "a video (MOV)", rb"....ftypqt  "),
        ("MP4", "a video (MP4)", rb"....ftyp"),
        ("AVI", "a video (AVI)", rb"RIFF....AVI "),
        ("Matroska", "a video (Matroska)", rb"\x1a\x45\xdf\xa3"),
        ("JPEG 2000", "a JPEG 2000", rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51"),
        ("JPEG XL", "a JPEG XL", rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n"),
        ("BigTIFF", "a BigTIFF", rb"II\x2b\0|MM\0\x2b"),
        ("PBM", "a PBM (black and white)", rb"P[14]" + _SIZE),
        ("plain PGM", "a plain (ASCII) PGM", rb"P2" + _SIZE),
        ("plain PPM", "a plain (ASCII) PPM", rb"P3" + _SIZE),
        ("PAM", "a PAM", rb"P7\n(?:#|WIDTH|HEIGHT|DEPTH|MAXVAL|TUPLTYPE)"),
        ("PFM", "a PFM", rb"P[Ff]" + _SIZE),
        ("SVG", "an SVG", rb"\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)?(?:<!DOCTYPE svg[^>]*>\s*)?<svg"),
        ("HTML", "a page of HTML", rb"\s*<(?i:!doctype html|html)"),
        ("PDF", "a PDF", rb"%PDF-"),
        ("PSD", "a PSD", rb"8BPS"),
        ("ICO", "an ICO", rb"\0\0\x01\0"),
        ("ZIP", "a ZIP archive", rb"PK\x03\x04"),
        ("7z", "a 7z archive", rb"7z\xbc\xaf\x27\x1c"),
        ("RAR", "a RAR archive", rb"Rar!\x1a\x07"),
        ("Parquet", "a Parquet file", rb"PAR1"),
    )
)


def format_of(data: bytes, accepted: Sequence[str]) -> str:
    """Return the format of the first bytes. Raises UnknownFormatError, with its name, unless it is accepted."""
    for name in accepted:
        if MAGIC[name].match(data):
            return name
    expected = ", ".join(accepted)
    start = data[:FIRST_BYTES]
    known = [*((each.phrase, each.magic) for each in FOREIGN), *((f"a {name}", magic) for name, magic in MAGIC.items())]
    names = [f"no picture that is read, but {name}," for name, magic in known if magic.match(start)]
    got = names[0] if names else "no picture, or one of an unknown format,"
    raise UnknownFormatError(f"got {got} expected {expected}; convert it to one of these")
