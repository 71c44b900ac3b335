"""Decoding: simplejpeg for JPEGs, Pillow for everything else; the same pixels as from Pillow alone, sooner."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from taijitu_runtime.errors import TaijituError, UnknownFormatError, require
from taijitu_runtime.pictures.headers import LIMITS, Header, Limits, check_pixels, damaged, inspect

if TYPE_CHECKING:
    from PIL import Image

INSTALL = "taijitu[ort]"
# A JPEG of more pixels may be decoded at a half, a quarter or an eighth of its size.
LARGE_PIXELS = 2_000_000
# Beyond this ratio of the sides pictures are resized in another way (preprocess.py), and never shrunk.
MAX_EXACT_ASPECT = 32
# What libjpeg remarks on, or simplejpeg does not take, without a pixel being made up: Pillow decodes these.
HARMLESS = re.compile(r"\d+ extraneous bytes|JFIF revision|Adobe|subsampling")
PLUGINS = {
    "JPEG": "JpegImagePlugin",
    "PNG": "PngImagePlugin",
    "WEBP": "WebPImagePlugin",
    "BMP": "BmpImagePlugin",
    "GIF": "GifImagePlugin",
    "TIFF": "TiffImagePlugin",
    "PPM": "PpmImagePlugin",
}
ALPHA_MODES = ("LA", "La", "PA", "RGBA", "RGBa")
# EXIF's orientations by what turns the stored picture upright: first rows become columns, then sides are exchanged.
ROWS_ARE_COLUMNS, LEFT_IS_RIGHT, TOP_IS_BOTTOM = {5, 6, 7, 8}, {2, 3, 6, 7}, {3, 4, 7, 8}


class Decoded(NamedTuple):
    """A decoded picture, upright.

    `pixels`: uint8 RGB (H, W, 3), [0, 255], or a Pillow image in mode RGB, whichever the decoder made: a copy of a
    large one would double the memory. May be a view, and smaller than the picture where it was shrunk.
    `width`, `height`: of the whole picture in pixels.
    `extent`: (left, top, right, bottom) of the whole picture in `pixels`: a shrunk one may end within its last pixel.
    """

    pixels: NDArray[np.uint8] | Image.Image
    width: int
    height: int
    extent: tuple[float, float, float, float]


def decode(
    data: bytes,
    limits: Limits = LIMITS,
    least_side: int = 0,
    shrink_for: Callable[[int, int], int] | None = None,
) -> Decoded:
    """The picture in the bytes of a file, checked by `inspect` first; PictureError as there, or where it is damaged.

    `least_side`: a JPEG of more than LARGE_PIXELS may be shrunk to a half, a quarter or an eighth as long as its
    shorter side keeps that many pixels; 0 forbids it. `shrink_for`, instead: called once before a JPEG is decoded, with
    its upright width and height, returns how far it may be shrunk, however large it is.
    """
    header = inspect(data, limits)
    try:
        if header.format == "JPEG":
            return _from_jpeg(data, header, limits, least_side, shrink_for)
        return decode_image(open_image(data, header.format), limits)
    except (TaijituError, MemoryError):
        raise
    except Exception as error:
        # Damaged files make Pillow raise nearly anything: OSError, SyntaxError, ValueError, struct.error.
        raise damaged(" ".join(str(error).split()) or type(error).__name__) from error


def decode_image(image: Image.Image, limits: Limits = LIMITS) -> Decoded:
    """The same of a Pillow image, of which nothing need be decoded yet; TooManyPixelsError, UnknownFormatError."""
    check_pixels(*image.size, limits)
    image.load()
    orientation = orientation_of(image)
    return _decoded(_turned_image(_rgb_from_image(image), orientation), orientation, 1, *image.size)


def open_image(data: bytes, format: str) -> Image.Image:
    """Pillow's image of `format` with its header read; whatever Pillow raises where that is damaged.

    Image.open warns on stderr about large pictures and can raise instead, by settings that belong to the whole process.
    The factories that it calls check no size; our own check needs no global state.
    """
    require("PIL", INSTALL)
    from PIL import Image

    require(f"PIL.{PLUGINS[format]}", INSTALL)
    factory, accept = Image.OPEN[format]
    if accept is not None and isinstance(accept(data[:16]), str):  # why this Pillow was built without the format
        raise UnknownFormatError(f"got a {format}, which this Pillow was built without; install another Pillow")
    return factory(io.BytesIO(data), "")


def orientation_of(image: Image.Image) -> int:
    """EXIF's orientation, 1 to 8; 1 where it says none or cannot be read."""
    from PIL import ExifTags

    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # as many kinds as there are damaged EXIF blocks; the picture itself may be fine
        return 1
    return orientation if orientation in range(1, 9) else 1


def _from_jpeg(
    data: bytes, header: Header, limits: Limits, least_side: int, shrink_for: Callable[[int, int], int] | None
) -> Decoded:
    decode_jpeg = require("simplejpeg", INSTALL).decode_jpeg
    orientation = orientation_of(open_image(data, "JPEG")) if header.has_metadata else 1
    if shrink_for is None:
        shrink = _shrink(header, least_side)
    else:
        width, height = header.width, header.height
        if orientation in ROWS_ARE_COLUMNS:
            width, height = height, width
        shrink = _factor(shrink_for(width, height))
    least = {"min_height": -(-header.height // shrink), "min_width": -(-header.width // shrink)} if shrink > 1 else {}
    try:
        pixels = decode_jpeg(data, "CMYK" if header.components == 4 else "RGB", **least)
    except ValueError as error:
        if not HARMLESS.search(str(error)):
            raise
        return decode_image(open_image(data, "JPEG"), limits)
    if header.components == 4:  # whole; which ink is stored how is Pillow's to say
        return decode_image(open_image(data, "JPEG"), limits)
    return _decoded(_turned_array(pixels, orientation), orientation, shrink, header.width, header.height)


def _shrink(header: Header, least_side: int) -> int:
    short, long = sorted((header.width, header.height))
    if not least_side or short * long <= LARGE_PIXELS or long > MAX_EXACT_ASPECT * short:
        return 1
    return _factor(short // least_side)


def _factor(most: int) -> int:
    """The largest factor that libjpeg shrinks by, of those up to `most`."""
    return next((factor for factor in (8, 4, 2) if factor <= most), 1)


def _turned_array(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    if orientation in ROWS_ARE_COLUMNS:
        pixels = pixels.transpose(1, 0, 2)
    if orientation in LEFT_IS_RIGHT:
        pixels = pixels[:, ::-1]
    return pixels[::-1] if orientation in TOP_IS_BOTTOM else pixels


def _turned_image(image: Image.Image, orientation: int) -> Image.Image:
    from PIL.Image import Transpose

    if orientation in ROWS_ARE_COLUMNS:
        image = image.transpose(Transpose.TRANSPOSE)
    if orientation in LEFT_IS_RIGHT:
        image = image.transpose(Transpose.FLIP_LEFT_RIGHT)
    return image.transpose(Transpose.FLIP_TOP_BOTTOM) if orientation in TOP_IS_BOTTOM else image


def _decoded(
    pixels: NDArray[np.uint8] | Image.Image, orientation: int, shrink: int, width: int, height: int
) -> Decoded:
    if orientation in ROWS_ARE_COLUMNS:
        width, height = height, width
    wide, high = width / shrink, height / shrink
    left = math.ceil(wide) - wide if orientation in LEFT_IS_RIGHT else 0.0
    top = math.ceil(high) - high if orientation in TOP_IS_BOTTOM else 0.0
    return Decoded(pixels, width, height, (left, top, left + wide, top + high))


def _rgb_from_image(image: Image.Image) -> Image.Image:
    from PIL import Image as Pil

    if image.mode == "RGB":
        return image
    if image.mode in ALPHA_MODES or (image.mode == "P" and "transparency" in image.info):
        layer = image.convert("RGBA")
        black = Pil.new("RGBA", layer.size, (0, 0, 0, 255))
        return Pil.alpha_composite(black, layer).convert("RGB")
    if image.mode == "I" or image.mode.startswith("I;16"):
        return _eight_from_sixteen_bits(image).convert("RGB")
    if image.mode == "F":
        raise UnknownFormatError("got float pixels, whose range is unknown, expected 8 or 16 bits; convert it")
    return image.convert("RGB")


def _eight_from_sixteen_bits(image: Image.Image) -> Image.Image:
    # Pillow's own conversion clips at 255 instead of scaling: nearly every pixel becomes white.
    from PIL import Image as Pil

    values = np.asarray(image)
    if values.min() < 0 or values.max() > 65535:
        raise UnknownFormatError("got 32-bit pixels, whose range is unknown, expected 8 or 16 bits; convert it")
    rounded = (np.arange(65536) + 128) // 257
    return Pil.fromarray(rounded.astype(np.uint8)[values])
