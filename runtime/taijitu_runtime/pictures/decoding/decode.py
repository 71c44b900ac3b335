"""Decode pictures: JPEGs by simplejpeg, nearly everything else by Pillow; the pixels are Pillow's, but faster."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from taijitu_runtime.errors import TaijituError, one_line
from taijitu_runtime.pictures.decoding.bmp_runs import is_run_length, pixels_from_runs
from taijitu_runtime.pictures.decoding.jpeg import orientation_of_jpeg, pixels_from_jpeg, without_remarks
from taijitu_runtime.pictures.decoding.orientation import orientation_from_metadata
from taijitu_runtime.pictures.decoding.pillow import loaded_rgb, open_image, orientation_of
from taijitu_runtime.pictures.decoding.png import checked_png
from taijitu_runtime.pictures.decoding.pnm import pixels_from_pnm
from taijitu_runtime.pictures.decoding.quiet import quiet
from taijitu_runtime.pictures.headers import Header, inspect
from taijitu_runtime.pictures.limits import LIMITS, Limits, check_pixels, damaged

if TYPE_CHECKING:
    from PIL import Image

# EXIF's orientations by the operations that make the stored picture upright: transpose first, then flip.
ROWS_ARE_COLUMNS, LEFT_IS_RIGHT, TOP_IS_BOTTOM = {5, 6, 7, 8}, {2, 3, 6, 7}, {3, 4, 7, 8}

_LOADING = tuple(threading.Lock() for _ in range(61))  # an image has one of them; a prime, as addresses are even


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

    @property
    def is_shrunk(self) -> bool:
        """Whether `pixels` has fewer pixels than the picture."""
        return self.extent[2] - self.extent[0] < self.width


def decode(
    data: bytes,
    limits: Limits = LIMITS,
    least_side: int = 0,
    shrink_for: Callable[[int, int], int] | None = None,
) -> Decoded:
    """Decode the bytes of a file, after `inspect` has checked them.

    Args:
        data: The bytes.
        limits: The limits of a picture.
        least_side: A JPEG of more than LARGE_PIXELS may be shrunk to a half, a quarter or an eighth as long as its
            shorter side keeps that many pixels; 0 forbids it.
        shrink_for: Replaces `least_side`: called once before a JPEG of any size is decoded, with its upright width and
            height, it returns the factor by which the JPEG may be shrunk.

    Raises:
        PictureError: As for `inspect`, or the picture is damaged.
    """
    header = inspect(data, limits, least_side)
    try:
        if header.format == "JPEG":
            return _from_jpeg(data, header, limits, least_side, shrink_for)
        if header.format == "PPM":
            return _decoded(pixels_from_pnm(data), 1, 1, header.width, header.height)
        if header.format == "BMP" and is_run_length(data):
            pixels = pixels_from_runs(data, header.width, header.height)
            return _decoded(pixels, 1, 1, header.width, header.height)
        with quiet():
            if header.format == "PNG":
                plain, orientation = checked_png(data)
                return _from_image(open_image(plain, "PNG"), limits, orientation)
            image = open_image(data, header.format)
            if header.format == "WEBP":
                return _from_image(image, limits, _orientation_of_webp(image))
            if header.format == "TIFF":
                _forget_folders(image)
            return _from_image(image, limits)
    except (TaijituError, MemoryError):
        raise
    except Exception as error:
        # Damaged files make Pillow raise nearly anything: OSError, SyntaxError, ValueError, struct.error.
        raise damaged(one_line(error) or type(error).__name__) from error


def decode_image(image: Image.Image, limits: Limits) -> Decoded:
    """Decode a Pillow image, which may have read its header only. Raises TooManyPixelsError or UnknownFormatError.

    Several threads may be given the same one, as where it is twice in a list: Pillow lets one thread at a time load it.
    """
    with _LOADING[id(image) % len(_LOADING)], quiet():
        return _from_image(image, limits)


def _orientation_of_webp(image: Image.Image) -> int:
    return orientation_from_metadata(image.info.get("exif", b""), image.info.get("xmp", b""))


def _forget_folders(image: Image.Image) -> None:
    """Keep Pillow from reading a TIFF's folders of tags that affect no pixel, which may be of any size or nonsense."""
    from PIL import ExifTags

    exif = image.getexif()
    for folder in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo, ExifTags.IFD.Interop):
        exif.pop(folder, None)


def _from_image(image: Image.Image, limits: Limits, orientation: int = 0) -> Decoded:
    """Decode; an `orientation` of 0 is the one that Pillow finds."""
    check_pixels(*image.size, limits)
    rgb = loaded_rgb(image)
    orientation = orientation or orientation_of(image)
    return _decoded(_turned_image(rgb, orientation), orientation, 1, *image.size)


def _from_jpeg(
    data: bytes, header: Header, limits: Limits, least_side: int, shrink_for: Callable[[int, int], int] | None
) -> Decoded:
    orientation = orientation_of_jpeg(data) if header.has_metadata else 1
    factor = header.shrink(least_side)
    if shrink_for is not None:
        sides = (header.width, header.height)
        most = shrink_for(*(sides[::-1] if orientation in ROWS_ARE_COLUMNS else sides))
        factor = next((factor for factor in (8, 4, 2) if factor <= most and header.components != 4), 1)
    pixels = pixels_from_jpeg(data, header, factor)
    if pixels is None or header.components == 4:  # in full size; Pillow knows how inks are stored
        with quiet():
            return _from_image(open_image(without_remarks(data, header.components), "JPEG"), limits, orientation)
    return _decoded(_turned_array(pixels, orientation), orientation, factor, header.width, header.height)


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
