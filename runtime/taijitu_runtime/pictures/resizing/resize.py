"""Resize and crop a picture: by Pillow's filters with antialiasing, or as OpenCV does, as the input of a model says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from taijitu_runtime.card import InputSpec
from taijitu_runtime.errors import InputError, describe, require
from taijitu_runtime.pictures.decoding.decode import Decoded
from taijitu_runtime.pictures.decoding.pillow import INSTALL
from taijitu_runtime.pictures.headers import MAX_EXACT_ASPECT
from taijitu_runtime.pictures.resizing.edges import weigh_edges
from taijitu_runtime.pictures.resizing.geometry import crop_box, resized_size
from taijitu_runtime.pictures.resizing.opencv_resize import resize_as_opencv

if TYPE_CHECKING:
    from PIL import Image

# Pillow's filter, and how far it reaches, in pixels of the result.
FILTERS = {"bilinear_antialias": ("BILINEAR", 1), "bicubic_antialias": ("BICUBIC", 2), "nearest": ("NEAREST", 1)}
OPENCV = {"bilinear_opencv": "bilinear", "bicubic_opencv": "bicubic"}


def resize_picture(picture: NDArray[np.uint8], spec: InputSpec) -> NDArray[np.uint8]:
    """Resize and crop uint8 RGB (H, W, 3) to (spec.height, spec.width, 3); a fresh array.

    "shorter_side": the shorter side becomes spec.resize_size, the longer int(resize_size * longer / shorter), and the
    crop starts at int(round((side - crop) / 2)): the pixels of torchvision's Resize and CenterCrop on PIL images.
    They may differ by 1 (bicubic: 2) for an aspect beyond 32 : 1, and between Pillow 12 and 13, which do the two passes
    in another order. "letterbox": one side fills the result, and the other becomes round(side * filled / larger), at
    least 1; an odd number of border pixels puts the picture half a pixel to the left or top. InputError for any other
    array.
    """
    check_picture(picture)
    height, width = picture.shape[:2]
    return resized(Decoded(picture, width, height, (0, 0, width, height)), spec)


def resize_by_axes(picture: NDArray[np.uint8], spec: InputSpec, first: Literal["width", "height"]) -> NDArray[np.uint8]:
    """Resize a valid array like `resize_picture`, with the order of the two passes given; a fresh array.

    `resize_picture` leaves the order to Pillow, whose releases differ in it; OpenCV's resize has one order.
    """
    if spec.interpolation in OPENCV:
        return resize_picture(picture, spec)
    require("PIL", INSTALL)
    from PIL import Image

    height, width = picture.shape[:2]
    final = resized_size(width, height, spec)
    resample = Image.Resampling[FILTERS[spec.interpolation][0]]
    half = Image.fromarray(picture).resize((final[0], height) if first == "width" else (width, final[1]), resample)
    whole = half.resize(final, resample)
    if spec.resize == "letterbox":
        return _framed(np.asarray(whole), spec)
    return np.array(whole.crop(crop_box(final, spec)))


def resized(picture: Decoded, spec: InputSpec) -> NDArray[np.uint8]:
    """Resize and crop a decoded picture as `resize_picture` does; a fresh array."""
    size = resized_size(picture.width, picture.height, spec)
    if spec.resize == "letterbox":
        return _framed(_scaled(picture, size, (0, 0, *size), spec), spec)
    return _scaled(picture, size, crop_box(size, spec), spec)


def check_picture(picture: NDArray[np.uint8]) -> None:
    """Raise InputError unless an array is a picture: uint8 RGB (H, W, 3), of at least one pixel."""
    check_rgb(picture, 3, "(H, W, 3); convert it, or give a path or bytes")
    if picture.size == 0:
        raise InputError(f"got {describe(picture)}, expected at least one pixel; skip empty pictures")


def check_rgb(pixels: object, dimensions: int, expected: str) -> None:
    """Raise InputError unless they are a uint8 array of RGB with so many dimensions, as `expected` says in words."""
    if (
        not isinstance(pixels, np.ndarray)
        or pixels.dtype != np.uint8
        or pixels.ndim != dimensions
        or pixels.shape[-1] != 3
    ):
        raise InputError(f"got {describe(pixels)}, expected uint8 RGB {expected}")


def _framed(scaled: NDArray[np.uint8], spec: InputSpec) -> NDArray[np.uint8]:
    """Put a scaled picture in the middle of the border of "letterbox"."""
    height, width = scaled.shape[:2]
    result = np.empty((spec.height, spec.width, 3), np.uint8)
    result[...] = spec.fill
    top, left = (spec.height - height) // 2, (spec.width - width) // 2
    result[top : top + height, left : left + width] = scaled
    return result


def _scaled(
    picture: Decoded, size: tuple[int, int], crop: tuple[int, int, int, int], spec: InputSpec
) -> NDArray[np.uint8]:
    """Return the part `crop` (left, top, right, bottom) of the picture at `size` (width, height); a fresh array."""
    pixels = picture.pixels
    if isinstance(pixels, np.ndarray) and size == pixels.shape[1::-1]:
        return np.array(pixels[crop[1] : crop[3], crop[0] : crop[2]], order="C")
    if spec.interpolation in OPENCV:
        return resize_as_opencv(np.asarray(pixels), size, crop, OPENCV[spec.interpolation])
    require("PIL", INSTALL)
    from PIL import Image

    if isinstance(pixels, np.ndarray) and picture.is_shrunk:
        weigh_edges(pixels, picture.extent, size)
    name, filter_reach = FILTERS[spec.interpolation]
    resample = Image.Resampling[name]
    image = Image.fromarray(pixels) if isinstance(pixels, np.ndarray) else pixels
    if max(size) > MAX_EXACT_ASPECT * min(size) and spec.resize == "shorter_side":
        return np.array(_cropped_first(image, size, crop, resample, filter_reach))
    # Resizing the crop alone would be quicker, but Pillow keeps a box in single precision: 2 % of the pixels differ.
    return np.array(image.resize(size, resample, picture.extent).crop(crop))


def _cropped_first(
    image: Image.Image,
    size: tuple[int, int],
    crop: tuple[int, int, int, int],
    resample: Image.Resampling,
    filter_reach: int,
) -> Image.Image:
    # One pixel by 5000 would become 256 by 1,280,000 before the crop.
    scale = (image.width / size[0], image.height / size[1])
    box = [crop[0] * scale[0], crop[1] * scale[1], crop[2] * scale[0], crop[3] * scale[1]]
    reach = [int(filter_reach * max(1.0, factor)) + 2 for factor in scale]
    left, top = max(0, int(box[0]) - reach[0]), max(0, int(box[1]) - reach[1])
    right, bottom = min(image.width, int(box[2]) + reach[0]), min(image.height, int(box[3]) + reach[1])
    window = image.crop((left, top, right, bottom))
    inner = (box[0] - left, box[1] - top, min(box[2] - left, window.width), min(box[3] - top, window.height))
    return window.resize((crop[2] - crop[0], crop[3] - crop[1]), resample, box=inner)
