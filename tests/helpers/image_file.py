"""Image files in memory."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

from PIL import Image


def image_file(image: Image.Image, format: str = "PNG", **options: Any) -> bytes:
    """Return the bytes of a file of the image; `options`: those of Pillow's encoder."""
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def with_scans(progressive: bytes, count: int) -> bytes:
    """Return a progressive JPEG with its last scan repeated `count` times more."""
    last = progressive.rindex(b"\xff\xda")
    return progressive[:-2] + progressive[last:-2] * count + progressive[-2:]


def png_chunk(kind: bytes, content: bytes, checksum: int | None = None) -> bytes:
    """Return one chunk of a PNG; `checksum`: another one than its own."""
    checksum = zlib.crc32(kind + content) if checksum is None else checksum
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def png_declaring(width: int, height: int, pixels: bytes = b"") -> bytes:
    """Return a PNG of 8-bit RGB with this size in its header, and only these bytes of pixels, to be compressed."""
    head = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + png_chunk(b"IDAT", zlib.compress(pixels)) + png_chunk(b"IEND", b"")
