"""From a picture to what the network sees: the one definition of decoding, resizing and normalising.

The training package evaluates with these very pixels; a resize that differs costs accuracy silently. Pictures are
hostile input: size, format and scans are checked before anything is decoded.
"""

from __future__ import annotations

import functools
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from taijitu_runtime.card import InputSpec
from taijitu_runtime.errors import InputError, PictureError, TaijituError, require

if TYPE_CHECKING:
    from PIL import Image, ImageFile

    Source: TypeAlias = str | Path | bytes | bytearray | memoryview
    Picture: TypeAlias = Source | NDArray[np.uint8] | Image.Image
    Opener: TypeAlias = tuple[Callable[[IO[bytes], str], ImageFile.ImageFile], Callable[[bytes], bool | str]]

MAX_PIXELS = 64_000_000
MAX_FILE_BYTES = 512 * 1024 * 1024
MAX_JPEG_SCANS = 100
MAX_EXACT_ASPECT = 32
PLUGINS = {
    "JPEG": "JpegImagePlugin",
    "PNG": "PngImagePlugin",
    "WEBP": "WebPImagePlugin",
    "BMP": "BmpImagePlugin",
    "GIF": "GifImagePlugin",
    "TIFF": "TiffImagePlugin",
    "PPM": "PpmImagePlugin",
}
FORMATS = ", ".join(PLUGINS)
# Pillow's filter, and how far it reaches, in pixels of the result.
FILTERS = {"bilinear_antialias": ("BILINEAR", 1), "bicubic_antialias": ("BICUBIC", 2)}
ALPHA_MODES = ("LA", "La", "PA", "RGBA", "RGBa")


def preprocess(picture: Picture, spec: InputSpec, *, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Any picture as uint8 RGB (spec.height, spec.width, 3), [0, 255]: the input of a uint8 model; a fresh array.

    `picture`: a path, the bytes of a file, a PIL image, or a uint8 RGB array (H, W, 3). PictureError as for
    `decode_picture`, InputError for an array or object of another kind.
    """
    if isinstance(picture, np.ndarray):
        return resize_picture(picture, spec)
    return np.array(_resized(_rgb_from_picture(picture, max_pixels), spec))


def decode_picture(source: Source, *, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """The picture in a file or in its bytes as uint8 RGB (H, W, 3), [0, 255], upright; a fresh array.

    JPEG, PNG, WEBP, BMP, GIF, TIFF and PPM; EXIF orientation is applied; of an animation the first frame; 16 bits are
    scaled to 8; transparency lies on black. PictureError where there is no such file, it is empty, of another format,
    truncated or damaged, or declares more than `max_pixels` pixels (that is read from the header, before decoding).
    """
    return np.array(_rgb_from_picture(source, max_pixels))


def resize_picture(picture: NDArray[np.uint8], spec: InputSpec) -> NDArray[np.uint8]:
    """Resize and crop uint8 RGB (H, W, 3) to (spec.height, spec.width, 3), antialiased; a fresh array.

    "shorter_side": the shorter side becomes spec.resize_size, the longer int(resize_size * longer / shorter), and the
    crop starts at int(round((side - crop) / 2)): the pixels of torchvision's Resize and CenterCrop on PIL images.
    They may differ by 1 (bicubic: 2) for an aspect beyond 32 : 1, and between Pillow 12 and 13, which changed the order
    of the two passes. InputError for any other array.
    """
    require("PIL", "taijitu[ort]")
    from PIL import Image

    if not isinstance(picture, np.ndarray) or picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        raise InputError(f"got {describe(picture)}, expected uint8 RGB (H, W, 3); convert it, or give a path or bytes")
    if picture.size == 0:
        raise InputError(f"got {describe(picture)}, expected at least one pixel; skip empty pictures")
    return np.array(_resized(Image.fromarray(picture), spec))


def normalise(batch: NDArray[np.uint8], spec: InputSpec) -> NDArray[np.float32]:
    """(pixel / 255 - mean) / std: uint8 RGB (N, H, W, 3) to float32 (N, 3, H, W), C-contiguous; a fresh array.

    For models exported with `--input float32`; the others do this inside the graph. InputError for any other array.
    """
    if not isinstance(batch, np.ndarray) or batch.dtype != np.uint8 or batch.ndim != 4 or batch.shape[3] != 3:
        raise InputError(f"got {describe(batch)}, expected uint8 RGB (N, H, W, 3); prepare pictures with preprocess()")
    std = np.asarray(spec.std, np.float64)
    scale = (1 / (255 * std)).astype(np.float32).reshape(3, 1, 1)
    offset = (np.asarray(spec.mean, np.float64) / std).astype(np.float32).reshape(3, 1, 1)
    planes = np.empty((batch.shape[0], 3, batch.shape[1], batch.shape[2]), np.float32)
    np.multiply(batch.transpose(0, 3, 1, 2), scale, out=planes)
    planes -= offset
    return planes


def describe(value: object) -> str:
    """What a value is, for the 'got' of an error: dtype and shape of an array, the type of anything else."""
    if isinstance(value, np.ndarray):
        return f"a {value.dtype} array of shape {value.shape}"
    return f"a {type(value).__name__}"


def _rgb_from_picture(picture: Source | Image.Image, max_pixels: int) -> Image.Image:
    require("PIL", "taijitu[ort]")
    from PIL import Image as Pil

    name = os.fspath(picture) if isinstance(picture, (str, Path)) else ""
    try:
        image = _opened(picture)
        width, height = image.size
        if width * height > max_pixels:
            reason = f"got {width} x {height} pixels, expected at most {max_pixels}; scale the picture down"
            raise PictureError("size", reason)
        image.load()
        return _upright(_rgb_from_image(image), image)
    except PictureError as error:
        raise PictureError(error.fault, error.reason, name) from error.__cause__
    except TaijituError:
        raise
    except Exception as error:
        # Damaged files make Pillow raise nearly anything: OSError, SyntaxError, ValueError, struct.error, MemoryError.
        detail = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, (Pil.DecompressionBombError, Pil.DecompressionBombWarning)):
            raise PictureError("size", f"got too many pixels ({detail}); scale the picture down", name) from error
        reason = f"got a damaged or truncated picture ({detail}), expected a whole one; fetch the file again"
        raise PictureError("damaged", reason, name) from error


@functools.cache
def _openers() -> tuple[Opener, ...]:
    # Image.open warns on stderr about large pictures and can raise instead, by settings that belong to the whole
    # process. The factories that it calls check no size; our own check needs no global state.
    from PIL import Image

    openers = []
    for name, plugin in PLUGINS.items():
        require(f"PIL.{plugin}", "taijitu[ort]")
        factory, accept = Image.OPEN[name]
        assert accept is not None
        openers.append((factory, accept))
    return tuple(openers)


def _opened(picture: Source | Image.Image) -> Image.Image:
    if isinstance(picture, (str, Path, bytes, bytearray, memoryview)):
        return _identified(_read(picture))
    if hasattr(picture, "getexif") and hasattr(picture, "convert"):
        return picture
    raise InputError(f"got {describe(picture)}, expected a path, bytes, a PIL image or uint8 RGB (H, W, 3)")


def _read(source: Source) -> bytes:
    if not isinstance(source, (str, Path)):
        data = bytes(source)
    else:
        try:
            with Path(source).open("rb") as file:
                data = file.read(MAX_FILE_BYTES + 1)
        except (OSError, ValueError) as error:
            detail = error.strerror if isinstance(error, OSError) else error
            reason = f"got nothing ({detail}), expected a picture that can be read; check the path"
            raise PictureError("unreadable", reason) from error
    if not data:
        raise PictureError("empty", f"got an empty file, expected {FORMATS}; fetch the file again")
    if len(data) > MAX_FILE_BYTES:
        raise PictureError("size", f"got more than {MAX_FILE_BYTES} bytes, expected a picture; check the path")
    return data


def _identified(data: bytes) -> Image.Image:
    # Scans are cheap to write and dear to decode; within the compressed data this byte pair cannot occur by chance.
    if data.startswith(b"\xff\xd8") and (scans := data.count(b"\xff\xda")) > MAX_JPEG_SCANS:
        raise PictureError("size", f"got a JPEG of {scans} scans, expected at most {MAX_JPEG_SCANS}; save it again")
    for factory, accept in _openers():
        # A text instead of a truth value says that this Pillow was built without the format.
        if (accepted := accept(data[:16])) and not isinstance(accepted, str):
            return factory(io.BytesIO(data), "")
    reason = f"got no picture, or one of an unknown format, expected {FORMATS}; convert it to one of these"
    raise PictureError("format", reason)


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
        raise PictureError("format", "got float pixels, whose range is unknown, expected 8 or 16 bits; convert it")
    return image.convert("RGB")


def _eight_from_sixteen_bits(image: Image.Image) -> Image.Image:
    # Pillow's own conversion clips at 255 instead of scaling: nearly every pixel becomes white.
    from PIL import Image as Pil

    values = np.asarray(image)
    if values.min() < 0 or values.max() > 65535:
        raise PictureError("format", "got 32-bit pixels, whose range is unknown, expected 8 or 16 bits; convert it")
    rounded = (np.arange(65536) + 128) // 257
    return Pil.fromarray(rounded.astype(np.uint8)[values])


def _upright(rgb: Image.Image, image: Image.Image) -> Image.Image:
    # By hand, because ImageOps.exif_transpose also rewrites the EXIF block and fails where that is damaged; a picture
    # whose EXIF cannot be read is taken to be upright.
    from PIL import ExifTags
    from PIL import Image as Pil

    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:
        return rgb
    turn = {
        2: Pil.Transpose.FLIP_LEFT_RIGHT,
        3: Pil.Transpose.ROTATE_180,
        4: Pil.Transpose.FLIP_TOP_BOTTOM,
        5: Pil.Transpose.TRANSPOSE,
        6: Pil.Transpose.ROTATE_270,
        7: Pil.Transpose.TRANSVERSE,
        8: Pil.Transpose.ROTATE_90,
    }.get(orientation)
    return rgb if turn is None else rgb.transpose(turn)


def _resized(image: Image.Image, spec: InputSpec) -> Image.Image:
    from PIL import Image as Pil

    name, filter_reach = FILTERS[spec.interpolation]
    resample = Pil.Resampling[name]
    if spec.resize == "stretch":
        return image.resize((spec.width, spec.height), resample)
    short, long = sorted(image.size)
    new_long = int(spec.resize_size * long / short)
    width, height = (spec.resize_size, new_long) if image.width <= image.height else (new_long, spec.resize_size)
    left = round((width - spec.width) / 2.0)
    top = round((height - spec.height) / 2.0)
    crop = (left, top, left + spec.width, top + spec.height)
    if long > MAX_EXACT_ASPECT * short:
        return _cropped_first(image, (width, height), crop, resample, filter_reach)
    # Resizing the crop alone would be quicker, but Pillow keeps a box in single precision: 2 % of the pixels differ.
    return image.resize((width, height), resample).crop(crop)


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
