"""Recognise files by their first bytes."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from taijitu_runtime.pictures.formats import FOREIGN, MAGIC

# In place of MAGIC's, for files without a picture's suffix: a text may begin with BM, or with P5 and a space.
_SURE = {
    "BMP": re.compile(rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0", re.DOTALL),
    "PPM": re.compile(rb"P[56]\s+[\d#]"),
}


def picture_format(first: bytes) -> str | None:
    """Return the format of the picture that begins with `first`; None for an unsupported one."""
    for name, magic in MAGIC.items():
        if _SURE.get(name, magic).match(first):
            return name
    return None


def foreign_kind(first: bytes, name: str) -> str:
    """Return the kind of an unsupported file: a format by its first bytes, or its suffix."""
    for foreign in FOREIGN:
        if foreign.magic.match(first):
            return foreign.kind
    suffix = PurePosixPath(name).suffix.lower()
    return suffix if suffix.isprintable() and suffix else "files without suffix"
