"""Turn a picture into the network's input: the one definition of reading, resizing and normalising.

The training package evaluates with these very pixels; a resize that differs costs accuracy silently. Checks
before decoding are in headers.py, decoding in decoding/, resizing in resizing/.
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from taijitu_runtime.card import InputSpec
from taijitu_runtime.errors import (
    InputError,
    PictureError,
    TaijituError,
    UnreadablePictureError,
    UsageError,
    describe,
    one_line,
    require,
)
from taijitu_runtime.pictures.decoding.decode import Decoded, decode, decode_image
from taijitu_runtime.pictures.decoding.pillow import INSTALL
from taijitu_runtime.pictures.limits import LIMITS, Limits, damaged
from taijitu_runtime.pictures.resizing.geometry import SeenRegion, region
from taijitu_runtime.pictures.resizing.resize import check_rgb, resize_picture, resized

if TYPE_CHECKING:
    from PIL import Image

    Source: TypeAlias = str | Path | bytes | bytearray | memoryview
    Picture: TypeAlias = Source | NDArray[np.uint8] | Image.Image

# Large JPEGs are decoded at a fraction of their size, but at no less than this many times the resized one.
OVERSAMPLING = 2
# Thumbnails are smaller; to make room for the largest picture takes longer than to read and decode one of them.
FIRST_READ = 1 << 16
# Shares of R, G and B in 65536 parts: the luminance of ITU-R 601, as Pillow rounds it.
LUMINANCE = (19595, 38470, 7471)


def preprocess(picture: Picture, spec: InputSpec, limits: Limits = LIMITS) -> NDArray[np.uint8]:
    """Make a picture uint8 RGB (spec.height, spec.width, 3), [0, 255]: the input of a uint8 model; a fresh array.

    `picture`: a path, the bytes of a file, a PIL image, or a uint8 RGB array (H, W, 3). May be called from many
    threads at once: decoding and resizing run in parallel. Within 50 dB of exact for JPEGs beyond
    `headers.LARGE_PIXELS`, exact below. PictureError as for `decode_picture`, InputError for an array or object of
    another kind.
    """
    if isinstance(picture, np.ndarray):
        return resize_picture(picture, spec)
    return resized(_decoded(picture, limits, _least_side_for(spec)), spec)


def bytes_in_memory(picture: Picture) -> int:
    """Return how many bytes a caller holds with a picture, about: 0 for a path."""
    if isinstance(picture, (bytes, bytearray)):
        return len(picture)
    if isinstance(picture, (np.ndarray, memoryview)):
        return picture.nbytes
    return 4 * getattr(picture, "width", 0) * getattr(picture, "height", 0)


def preprocess_and_region(
    picture: Picture, spec: InputSpec, limits: Limits = LIMITS
) -> tuple[NDArray[np.uint8], SeenRegion]:
    """Return what `preprocess` does, and which part of the picture that is."""
    if isinstance(picture, np.ndarray):
        pixels = resize_picture(picture, spec)
        return pixels, region(picture.shape[1], picture.shape[0], spec)
    decoded = _decoded(picture, limits, _least_side_for(spec))
    return resized(decoded, spec), region(decoded.width, decoded.height, spec)


def _least_side_for(spec: InputSpec) -> int:
    """Return the pixels that the shorter side of a large JPEG keeps while it is decoded: `inspect` counts with it.

    0, all of them, where the resize does not antialias: an earlier reduction would show.
    """
    if not spec.interpolation.endswith("_antialias"):
        return 0
    return OVERSAMPLING * max(spec.resize_size, spec.height, spec.width)


def decode_picture(source: Source | Image.Image, limits: Limits = LIMITS, least_side: int = 0) -> NDArray[np.uint8]:
    """Decode the picture in a file or in its bytes to uint8 RGB (H, W, 3), [0, 255], upright; a fresh array.

    A large JPEG may be shrunk as long as its shorter side keeps `least_side` pixels; 0: it may not.

    JPEG, PNG, WEBP, BMP, GIF, TIFF and PPM; EXIF orientation is applied; the first frame of an animation; 16 bits are
    scaled to 8; transparency is on black. PictureError, by its class, where the file is missing, empty, of
    another format, truncated or damaged, or beyond `limits`.
    """
    return np.array(_decoded(source, limits, least_side).pixels, order="C")


def normalise(batch: NDArray[np.uint8], spec: InputSpec) -> NDArray[np.float32]:
    """Compute (pixel * scale - mean) / std: uint8 RGB (N, H, W, 3) to fresh float32 (N, C, H, W), C-contiguous.

    The channels are those of `spec.colour`. For models that take float32; the others do this inside the graph.
    InputError for any other array.
    """
    check_rgb(batch, 4, "(N, H, W, 3); prepare pictures with preprocess()")
    std = np.asarray(spec.std, np.float64)
    scale = (spec.scale / std).astype(np.float32).reshape(-1, 1, 1)
    offset = (np.asarray(spec.mean, np.float64) / std).astype(np.float32).reshape(-1, 1, 1)
    planes = np.empty((batch.shape[0], spec.channels, batch.shape[1], batch.shape[2]), np.float32)
    np.multiply(_channels(batch, spec.colour).transpose(0, 3, 1, 2), scale, out=planes)
    planes -= offset
    return planes


def _channels(batch: NDArray[np.uint8], colour: str) -> NDArray[np.uint8]:
    if colour == "grey":
        parts = batch.astype(np.uint32) @ np.array(LUMINANCE, np.uint32)
        return ((parts + 0x8000) >> 16).astype(np.uint8)[..., None]
    return batch[..., ::-1] if colour == "BGR" else batch


def _decoded(picture: Picture, limits: Limits, least: int) -> Decoded:
    if not isinstance(limits, Limits):
        raise UsageError(f"got {describe(limits)} as limits, expected Limits; do: Limits(max_pixels=200_000_000)")
    name = os.fspath(picture) if isinstance(picture, (str, Path)) else ""
    try:
        if isinstance(picture, bytes):
            return decode(picture, limits, least)
        if isinstance(picture, (str, Path)):
            return decode(_read(picture, limits), limits, least)
        if isinstance(picture, (bytearray, memoryview)):
            return decode(bytes(picture), limits, least)
        return _decoded_image(picture, limits)
    except PictureError as error:
        raise error.named(name) from error.__cause__


def _decoded_image(picture: object, limits: Limits) -> Decoded:
    require("PIL", INSTALL)
    from PIL import Image

    if not isinstance(picture, Image.Image):
        raise InputError(f"got {describe(picture)}, expected a path, bytes, a PIL image or uint8 RGB (H, W, 3)")
    if 0 in picture.size:
        sides = f"{picture.width} x {picture.height} pixels"
        raise InputError(f"got a PIL image of {sides}, expected at least one pixel; skip empty pictures")
    try:
        return decode_image(picture, limits)
    except TaijituError:
        raise
    except Exception as error:  # of nearly any class, as for the bytes of a damaged file
        raise damaged(one_line(error) or type(error).__name__) from error


def _read(path: str | Path, limits: Limits) -> bytes:
    most = limits.max_bytes + 1
    try:
        with io.FileIO(path) as file:  # Path.open takes as long as a thumbnail's decoding
            data = file.read(min(FIRST_READ, most))
            while len(data) < most and (more := file.read(min(max(FIRST_READ, len(data)), most - len(data)))):
                data += more
    except (OSError, ValueError) as error:
        detail = error.strerror if isinstance(error, OSError) else error
        do = "download it first, no URL is fetched" if str(path).startswith(("http:/", "https:/")) else "check the path"
        reason = f"got nothing ({detail}), expected a picture that can be read; {do}"
        raise UnreadablePictureError(reason) from error
    return data
