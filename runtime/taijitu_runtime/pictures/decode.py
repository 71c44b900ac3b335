"""Decode pictures: JPEGs by simplejpeg, nearly everything else by Pillow; the pixels are Pillow's, but faster."""

from __future__ import annotations

import functools
import io
import math
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from taijitu_runtime.errors import TaijituError, UnknownFormatError, require
from taijitu_runtime.pictures.bmp_runs import is_run_length, pixels_from_runs
from taijitu_runtime.pictures.headers import LIMITS, Header, Limits, check_pixels, damaged, inspect, unread
from taijitu_runtime.pictures.jpeg import orientation_of_jpeg, pixels_from_jpeg, without_remarks
from taijitu_runtime.pictures.orientation import orientation_from_metadata
from taijitu_runtime.pictures.png import checked_png
from taijitu_runtime.pictures.pnm import pixels_from_pnm
from taijitu_runtime.pictures.quiet import quiet, silence_libraries

if TYPE_CHECKING:
    from PIL import Image

INSTALL = "taijitu[ort]"
PLUGINS = {
    "JPEG": "JpegImagePlugin",
    "PNG": "PngImagePlugin",
    "WEBP": "WebPImagePlugin",
    "BMP": "BmpImagePlugin",
    "GIF": "GifImagePlugin",
    "TIFF": "TiffImagePlugin",
}
# Messages of Pillow about an intact picture of an unsupported variant.
UNREAD = re.compile(r"unknown pixel mode|unknown data organization|[Uu]nsupported|not (?:available|supported)")
COMPRESSION_NUMBER = re.compile(r"\d+")
ALPHA_MODES = ("LA", "La", "PA", "RGBA", "RGBa")
STRIP_PIXELS = 1 << 20
UNUSED_ALPHA = ("BMP", "TIFF")
TWELVE_BITS, WHITE_OF_16_BITS = "I;12", 65535
PHOTOMETRIC, WHITE_IS_ZERO = 262, 0
SAMPLE_FORMAT, SIGNED = 339, 2
# A transparent colour without a palette: the key has the file's depth, and Pillow's pixels have 8 bits of fewer.
KEYED_GREY = ("1", "L", "I", "I;16", "I;16B", "I;16L", "I;16N")
LARGEST_GREY = {"L;2": 3, "L;4": 15}
WIDE_RGB, LOW_BYTES_OF_WIDE_RGB = "RGB;16B", "RGB;16L"
# EXIF's orientations by the operations that make the stored picture upright: transpose first, then flip.
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
        raise damaged(" ".join(str(error).split()) or type(error).__name__) from error


def decode_image(image: Image.Image, limits: Limits = LIMITS) -> Decoded:
    """Decode a Pillow image, which may have read its header only. Raises TooManyPixelsError or UnknownFormatError."""
    with quiet():
        return _from_image(image, limits)


def open_image(data: bytes, format: str) -> Image.Image:
    """Open a Pillow image of `format`, with its header read.

    Image.open warns on stderr about large pictures, or raises, depending on settings of the whole process. The
    factories that it calls do not check sizes; our own check needs no global state.

    Raises:
        UnknownFormatError: Pillow does not support the variant.
        Exception: Any exception of Pillow for a damaged header.
    """
    factory, accept = _plugin(format)
    if accept is not None and isinstance(accept(data[:16]), str):  # the reason why this Pillow lacks the format
        raise UnknownFormatError(f"got a {format}, which this Pillow was built without; install another Pillow")
    try:
        return factory(io.BytesIO(data), "")
    except (OSError, SyntaxError) as error:
        if UNREAD.search(str(error)):
            raise unread(f"a {format} of a variant that Pillow does not know ({error})") from error
        if format == "TIFF" and COMPRESSION_NUMBER.fullmatch(str(error)):
            raise unread(f"a TIFF of compression {error}") from error
        raise


def orientation_of(image: Image.Image) -> int:
    """EXIF's orientation, 1 to 8; 1 where it says none or cannot be read."""
    from PIL import ExifTags

    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # as many kinds as there are damaged EXIF blocks; the picture itself may be fine
        return 1
    return orientation if orientation in range(1, 9) else 1


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
    raw_mode = _raw_mode(image)
    low_bytes = _low_bytes(image, raw_mode)
    image.load()
    if image.format == "TIFF":
        image = _sixteen_bits_of_tiff(image, raw_mode)
    orientation = orientation or orientation_of(image)
    rgb = _rgb_from_image(_without_key(image, raw_mode, low_bytes))
    return _decoded(_turned_image(rgb, orientation), orientation, 1, *image.size)


@functools.cache
def _plugin(format: str) -> tuple[Callable[..., Image.Image], Callable[[bytes], bool | str] | None]:
    require("PIL", INSTALL)
    from PIL import Image

    require(f"PIL.{PLUGINS[format]}", INSTALL)
    silence_libraries()
    return Image.OPEN[format]


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


def _rgb_from_image(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    if image.mode in ALPHA_MODES or (image.mode == "P" and "transparency" in image.info):
        if image.format in UNUSED_ALPHA and image.mode == "RGBA" and image.getchannel("A").getextrema() == (0, 0):
            return image.convert("RGB")  # 32 bits per pixel, the last eight of which are unused
        return _on_black(image)
    if image.mode == "I" or image.mode.startswith("I;16"):
        return _eight_from_sixteen_bits(image).convert("RGB")
    if image.mode == "F":
        raise UnknownFormatError("got float pixels, whose range is unknown, expected 8 or 16 bits; convert it")
    return image.convert("RGB")


def _on_black(image: Image.Image) -> Image.Image:
    """Compose an image with alpha on black, in strips: the layers of a large one would take half a gigabyte."""
    from PIL import Image as Pil

    rows = max(1, STRIP_PIXELS // image.width)
    result = Pil.new("RGB", image.size)
    for top in range(0, image.height, rows):
        strip = image.crop((0, top, image.width, min(top + rows, image.height)))
        layer = (strip.convert("LA") if strip.mode == "La" else strip).convert("RGBA")
        black = Pil.new("RGBA", layer.size, (0, 0, 0, 255))
        result.paste(Pil.alpha_composite(black, layer).convert("RGB"), (0, top))
    return result


def _eight_from_sixteen_bits(image: Image.Image) -> Image.Image:
    # Pillow's own conversion clips at 255 instead of scaling: nearly every pixel becomes white.
    from PIL import Image as Pil

    values = np.asarray(image)
    if values.min() < 0 or values.max() > 65535:
        raise UnknownFormatError("got 32-bit pixels, whose range is unknown, expected 8 or 16 bits; convert it")
    rounded = (np.arange(65536) + 128) // 257
    return Pil.fromarray(rounded.astype(np.uint8)[values])


def _sixteen_bits_of_tiff(image: Image.Image, raw_mode: str) -> Image.Image:
    """Return a TIFF's image; if it is of 16-bit grey, with its values in the range of 16 bits and black at 0."""
    from PIL import Image as Pil

    tags: dict[int, Any] = image.tag_v2  # type: ignore[attr-defined]
    if image.mode == "I" or SIGNED in tags.get(SAMPLE_FORMAT, ()):
        raise UnknownFormatError(
            "got signed or 32-bit pixels, whose range is unknown, expected 8 or 16 bits; convert it"
        )
    if not image.mode.startswith("I;16"):
        return image
    values: NDArray[Any] = np.asarray(image).astype(np.uint16)
    if raw_mode == TWELVE_BITS:
        values = values << 4 | values >> 8
    return Pil.fromarray(WHITE_OF_16_BITS - values if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO else values)


def _raw_mode(image: Image.Image) -> str:
    """Return the layout of the file's pixels in Pillow's terms; empty where the image is decoded already."""
    tiles = getattr(image, "tile", None)
    arguments = tiles[0][3] if tiles else ""
    return str(arguments[0] if isinstance(arguments, tuple) and arguments else arguments)


def _low_bytes(image: Image.Image, raw_mode: str) -> NDArray[np.uint8] | None:
    """Return the lower bytes of a PNG's 16-bit RGB, (H, W, 3), if its transparent colour needs them."""
    file = getattr(image, "fp", None)
    if raw_mode != WIDE_RGB or "transparency" not in image.info or file is None:
        return None
    place = file.tell()
    file.seek(0)
    again = open_image(file.read(), "PNG")
    file.seek(place)
    again.tile = [tile._replace(args=LOW_BYTES_OF_WIDE_RGB) for tile in again.tile]  # type: ignore[attr-defined]
    return np.asarray(again)


def _without_key(image: Image.Image, raw_mode: str, low_bytes: NDArray[np.uint8] | None) -> Image.Image:
    """Return the image with its transparent colour on black, if it has such a colour and no palette."""
    key = image.info.get("transparency")
    if key is None:
        return image
    from PIL import Image as Pil

    if image.mode == "RGB" and isinstance(key, tuple):
        values = np.array(image)
        is_key = _is_colour(values, [value >> 8 if low_bytes is not None else value & 255 for value in key])
        if low_bytes is not None:
            is_key &= _is_colour(low_bytes, [value & 255 for value in key])
    elif image.mode in KEYED_GREY and isinstance(key, int):
        values = np.array(image.convert("L") if image.mode == "1" else image)
        largest = LARGEST_GREY.get(raw_mode, 0)
        is_key = values == ((key & largest) * 255 // largest if largest else key)
    else:
        return image
    values[is_key] = 0
    return Pil.fromarray(values)


def _is_colour(values: NDArray[np.uint8], colour: list[int]) -> NDArray[np.bool_]:
    is_it: NDArray[np.bool_] = values[..., 0] == colour[0]
    for channel in (1, 2):
        is_it &= values[..., channel] == colour[channel]
    return is_it
