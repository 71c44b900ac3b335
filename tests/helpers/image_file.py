"""Image files in memory."""

from __future__ import annotations

import io
from typing import Any

from PIL import Image


def image_file(image: Image.Image, format: str = "PNG", **options: Any) -> bytes:
    """Return the bytes of a file of the image; `options`: those of Pillow's encoder."""
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()
