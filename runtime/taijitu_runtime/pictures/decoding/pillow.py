"""Pillow's images: opened without its checks of sizes, and as RGB, with transparency on black and 16 bits as 8."""

from __future__ import annotations

import functools
import io
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from taijitu_runtime.errors import UnknownFormatError, require
from taijitu_runtime.pictures.decoding.quiet import silence_libraries
from taijitu_runtime.pictures.limits import unsupported

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
UNSUPPORTED = re.compile(r"unknown pixel mode|unknown data organization|[Uu]nsupported|not (?:available|supported)")
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
        if UNSUPPORTED.search(str(error)):
            raise unsupported(f"a {format} of a variant that Pillow does not know ({error})") from error
        if format == "TIFF" and COMPRESSION_NUMBER.fullmatch(str(error)):
            raise unsupported(f"a TIFF of compression {error}") from error
        raise


def orientation_of(image: Image.Image) -> int:
    """Return EXIF's orientation, 1 to 8; 1 where it says none or cannot be read."""
    from PIL import ExifTags

    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # as many kinds as there are damaged EXIF blocks; the picture itself may be fine
        return 1
    return orientation if orientation in range(1, 9) else 1


def loaded_rgb(image: Image.Image) -> Image.Image:
    """Decode an opened image, not yet upright, in mode RGB.

    Raises:
        UnknownFormatError: The range of its pixels is not known.
    """
    raw_mode = _raw_mode(image)
    low_bytes = _low_bytes(image, raw_mode)
    image.load()
    if image.format == "TIFF":
        image = _sixteen_bits_of_tiff(image, raw_mode)
    return _rgb_from_image(_without_key(image, raw_mode, low_bytes))


@functools.cache
def _plugin(format: str) -> tuple[Callable[..., Image.Image], Callable[[bytes], bool | str] | None]:
    require("PIL", INSTALL)
    from PIL import Image

    require(f"PIL.{PLUGINS[format]}", INSTALL)
    silence_libraries()
    return Image.OPEN[format]


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


def eight_bits_from_sixteen(values: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Round numbers of any shape in 0 to 65535 to 0 to 255, white to white."""
    return ((values + 128) // 257).astype(np.uint8)


def _eight_from_sixteen_bits(image: Image.Image) -> Image.Image:
    # Pillow's own conversion clips at 255 instead of scaling: nearly every pixel becomes white.
    from PIL import Image as Pil

    values = np.asarray(image)
    if values.min() < 0 or values.max() > WHITE_OF_16_BITS:
        raise UnknownFormatError("got 32-bit pixels, whose range is unknown, expected 8 or 16 bits; convert it")
    return Pil.fromarray(eight_bits_from_sixteen(np.arange(WHITE_OF_16_BITS + 1))[values])


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
