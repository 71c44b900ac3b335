"""Recognise files by their first bytes."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from taijitu_runtime.pictures.formats import CAMERA_RAW, MAGIC

FIRST_BYTES = 64  # enough for `picture_format` and `foreign_kind`
# In place of MAGIC's, for files without a picture's suffix: a text may begin with BM, or with P5 and a space.
_SURE = {
    "BMP": re.compile(rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0", re.DOTALL),
    "PPM": re.compile(rb"P[56]\s+[\d#]"),
}
_BRANDS = {
    b"heic": "HEIC", b"heix": "HEIC", b"heim": "HEIC", b"heis": "HEIC", b"hevc": "HEIC", b"mif1": "HEIC",
    b"msf1": "HEIC", b"avif": "AVIF", b"avis": "AVIF", b"qt  ": "MOV",
}  # fmt: skip
_FOREIGN = {
    "camera raw": re.compile(CAMERA_RAW, re.DOTALL),
    "JPEG XL": re.compile(rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n"),
    "JPEG 2000": re.compile(rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51"),
    "SVG": re.compile(rb"\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)?<svg", re.DOTALL),
    "PDF": re.compile(rb"%PDF"),
    "PSD": re.compile(rb"8BPS"),
    "AVI": re.compile(rb"RIFF....AVI ", re.DOTALL),
    "Matroska": re.compile(rb"\x1a\x45\xdf\xa3"),
    "ZIP": re.compile(rb"PK\x03\x04"),
    "7z": re.compile(rb"7z\xbc\xaf\x27\x1c"),
    "RAR": re.compile(rb"Rar!\x1a\x07"),
    "Parquet": re.compile(rb"PAR1"),
}


def picture_format(first: bytes) -> str | None:
    """Return the format of the picture that begins with `first`; None for an unsupported one."""
    for name, magic in MAGIC.items():
        if _SURE.get(name, magic).match(first):
            return name
    return None


def foreign_kind(first: bytes, name: str) -> str:
    """Return the kind of an unsupported file: a format by its first bytes, or its suffix."""
    if first[4:8] == b"ftyp":
        return _BRANDS.get(first[8:12], "MP4")
    for kind, magic in _FOREIGN.items():
        if magic.match(first):
            return kind
    suffix = PurePosixPath(name).suffix.lower()
    return suffix if suffix.isprintable() and suffix else "files without suffix"
