"""What is refused before it is decoded, with which class, and how large JPEGs are shrunk while they are decoded."""

from __future__ import annotations

import io
import math
import random
import struct
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import taijitu
from taijitu_runtime.card import InputSpec
from taijitu_runtime.errors import (
    DamagedPictureError,
    EmptyPictureError,
    PictureError,
    PictureTooLargeError,
    TooManyBytesError,
    TooManyPixelsError,
    TooManyScansError,
    UnknownFormatError,
    UnreadablePictureError,
    UsageError,
)
from taijitu_runtime.pictures.formats import FORMATS
from taijitu_runtime.pictures.headers import inspect
from taijitu_runtime.pictures.limits import Limits
from taijitu_runtime.pictures.preprocess import decode_picture, preprocess
from taijitu_runtime.pictures.resizing.resize import resize_picture
from tests.helpers.image_file import image_file, png_chunk, with_scans

NORMAL: dict[str, Any] = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
SPEC = InputSpec(height=48, width=64, resize="shorter_side", resize_size=72, **NORMAL)
STRETCHED = InputSpec(height=48, width=64, resize="stretch", resize_size=48, **NORMAL)
HANGING_S = 1.0


def photograph_like(height: int, width: int) -> NDArray[np.uint8]:
    """Draw smooth shapes with some fine detail; no mirroring maps them to themselves."""
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    ramp = columns / width - rows / height
    waves = [np.sin(rows / 37) * np.cos(columns / 53), np.sin((rows + 2 * columns) / 91), ramp]
    noise = np.random.default_rng(6).normal(0, 6, (height, width, 1))
    return np.clip(np.stack(waves, -1) * 90 + 128 + noise, 0, 255).astype(np.uint8)


IMAGE = Image.fromarray(photograph_like(120, 160))
JPEG = image_file(IMAGE, "JPEG")
PROGRESSIVE = image_file(IMAGE, "JPEG", progressive=True)
CMYK = image_file(IMAGE.convert("CMYK"), "JPEG")
PNG = image_file(IMAGE, "PNG")
GIF = image_file(IMAGE, "GIF")


def jpeg_of_size(width: int, height: int) -> bytes:
    frame = JPEG.index(b"\xff\xc0")
    return JPEG[: frame + 5] + struct.pack(">HH", height, width) + JPEG[frame + 9 :]


def png_of_size(width: int, height: int) -> bytes:
    return PNG[:8] + png_chunk(b"IHDR", struct.pack(">II", width, height) + PNG[24:29]) + PNG[33:]


def tiff_of_strips(count: int, side: int = 32) -> bytes:
    tags = [(256, 1, side), (257, 1, side), (258, 1, 8), (259, 1, 1), (262, 1, 1), (273, count, 200), (279, count, 200)]
    directory = b"".join(struct.pack("<HHII", tag, 4, values, value) for tag, values, value in tags)
    head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + directory + bytes(4)
    return head + bytes(200 - len(head)) + struct.pack("<I", 4) * count


HOSTILE: dict[str, tuple[bytes, type[PictureError]]] = {
    "empty": (b"", EmptyPictureError),
    "random": (random.Random(1).randbytes(1 << 20), UnknownFormatError),
    "SVG": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", UnknownFormatError),
    "ZIP": (b"PK\x03\x04" + bytes(1000), UnknownFormatError),
    "JPEG's magic and zeros": (b"\xff\xd8\xff" + bytes(1 << 20), DamagedPictureError),
    "JPEG's magic and fill bytes": (b"\xff" * 2 + b"\xd8" + b"\xff" * (1 << 20), UnknownFormatError),
    "JPEG's magic and its end": (b"\xff\xd8\xff\xd9", DamagedPictureError),
    "JPEG of millions of segments": (b"\xff\xd8" + b"\xff\xe0\0\2" * (1 << 21), DamagedPictureError),
    "JPEG of a forged huge size": (jpeg_of_size(65000, 65000), TooManyPixelsError),
    "JPEG of a forged large size": (jpeg_of_size(6000, 6000), DamagedPictureError),
    "JPEG of no size": (jpeg_of_size(0, 0), DamagedPictureError),
    "JPEG of two frames, the last one small": (
        jpeg_of_size(6000, 6000)[:-2] + b"\xff\xc0\0\x0b\x08\0\x08\0\x08\1\1\x11\0" + b"\xff\xd9",
        DamagedPictureError,
    ),
    "JPEG with 300 scans behind a reserved marker": (
        PROGRESSIVE[:-2] + b"\xff\x02" + struct.pack(">H", 300 * 14 + 4) + b"\xff\xd0" + bytes(300 * 14) + b"\xff\xd9",
        DamagedPictureError,
    ),
    "JPEG of 33 scans": (with_scans(PROGRESSIVE, 23), TooManyScansError),
    "JPEG of 400 scans": (with_scans(PROGRESSIVE, 390), TooManyScansError),
    "JPEG of 80,000 scans": (b"\xff\xd8" + b"\xff\xda\0\2\0" * 80_000, TooManyScansError),
    "PNG of a forged huge size": (png_of_size(2**31 - 1, 2**31 - 1), TooManyPixelsError),
    "PNG of a forged large size": (png_of_size(6000, 6000), DamagedPictureError),
    "PNG of 40 million pixels and no data": (
        png_of_size(8000, 5000)[:-16] + png_chunk(b"IEND", b""),
        DamagedPictureError,
    ),
    "PNG of 49 million black pixels": (image_file(Image.new("L", (7000, 7000)), "PNG"), TooManyPixelsError),
    "PNG of a million chunks": (PNG[:33] + png_chunk(b"abCd", b"") * 1_000_000 + PNG[33:], DamagedPictureError),
    "GIF of a huge size": (GIF[:6] + b"\xff\xff\xff\xff" + GIF[10:], TooManyPixelsError),
    "GIF of a million comments": (
        GIF[: 13 + 768] + b"\x21\xfe" + b"\x01x" * 1_000_000 + b"\0" + GIF[13 + 768 :],
        DamagedPictureError,
    ),
    "GIF whose frame is larger than its screen": (
        b"GIF89a" + struct.pack("<HHBBB", 16, 16, 0, 0, 0) + b",\0\0\0\0" + b"\xff\xff\xff\xff" + b"\0\2\2D\1\0;",
        TooManyPixelsError,
    ),
    "BMP of a negative width": (
        b"BM" + bytes(12) + struct.pack("<Iii", 40, -5, 60_000) + bytes(40),
        TooManyPixelsError,
    ),
    "PPM of a long comment": (b"P6 #" + b"x" * (8 << 20) + b"\n9 9 255\n" + bytes(243), DamagedPictureError),
    "TIFF of two million strips": (tiff_of_strips(2_000_000), DamagedPictureError),
    "TIFF of a huge size": (tiff_of_strips(1, side=60_000), TooManyPixelsError),
    "TIFF without a directory": (b"II*\0" + bytes(100), DamagedPictureError),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_bytes_are_refused_at_once_by_a_class_of_their_own(name: str) -> None:
    data, expected = HOSTILE[name]
    began = time.process_time()
    with pytest.raises(PictureError) as caught:
        preprocess(data, SPEC)
    assert time.process_time() - began < HANGING_S
    assert type(caught.value) is expected


@pytest.mark.parametrize("data", [JPEG, PROGRESSIVE, CMYK], ids=["baseline", "progressive", "CMYK"])
@pytest.mark.parametrize("end", [b"", b"\xff\xd9"], ids=["cut", "end mended"])
def test_a_truncated_jpeg_is_refused_wherever_it_is_cut(data: bytes, end: bytes) -> None:
    for length in np.linspace(3, len(data) - 3, 40).astype(int):
        with pytest.raises(DamagedPictureError):
            decode_picture(data[:length] + end)
    with pytest.raises(DamagedPictureError):
        decode_picture(data[:-1])


def test_photographs_that_are_cut_are_refused(photographs: list[Path]) -> None:
    for path in photographs[:5]:
        whole = path.read_bytes()
        middle = len(whole) // 2
        for end in (b"", b"\xff\xd9"):
            with pytest.raises(DamagedPictureError):
                decode_picture(whole[:middle] + end)


def test_bytes_that_change_no_pixel_are_not_damage() -> None:
    expected = decode_picture(JPEG)
    table = JPEG.index(b"\xff\xdb")
    segment = b"\xff\xe5" + struct.pack(">H", 2 + 400) + b"\xff\xda" * 200
    for data in (
        JPEG + b"\xff\xda" * 200,  # what follows the end, as the film in a phone's motion photograph
        JPEG[:2] + segment + JPEG[2:],  # what looks like scans within a segment, as thumbnails do
        JPEG[:table] + bytes(3) + JPEG[table:],
        JPEG.replace(b"JFIF\0\1", b"JFIF\0\7"),
    ):
        np.testing.assert_array_equal(decode_picture(data), expected)


def test_a_sampling_that_simplejpeg_does_not_know_is_still_decoded() -> None:
    data = bytearray(image_file(Image.new("RGB", (16, 16), (9, 90, 200)), "JPEG", subsampling=0))
    frame = data.index(b"\xff\xc0")
    data[frame + 11], data[frame + 14], data[frame + 17] = 0x31, 0x11, 0x11
    with Image.open(io.BytesIO(data)) as image:
        np.testing.assert_array_equal(decode_picture(data), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("format", FORMATS)
def test_the_header_is_read_without_decoding(format: str) -> None:
    header = inspect(image_file(IMAGE, format))
    assert header.format == format
    assert (header.width, header.height) == (160, 120)


@pytest.mark.parametrize("options", [{"lossless": True}, {"exif": b"Exif\0\0II*\0\x08\0\0\0\0\0"}, {}])
def test_each_kind_of_webp_declares_its_size(options: dict[str, Any]) -> None:
    header = inspect(image_file(IMAGE, "WEBP", **options))
    assert (header.width, header.height) == (160, 120)


def test_a_bmp_of_os2_and_one_from_the_top_declare_their_size() -> None:
    old = b"BM" + bytes(12) + struct.pack("<IHHHH", 12, 160, 120, 1, 24)
    from_top = b"BM" + bytes(12) + struct.pack("<IiiHHI", 40, 160, -120, 1, 24, 0)
    assert [inspect(data)[1:3] for data in (old, from_top)] == [(160, 120), (160, 120)]


def test_every_limit_is_the_callers(tmp_path: Path) -> None:
    path = tmp_path / "picture.jpg"
    path.write_bytes(PROGRESSIVE)
    for source in (PROGRESSIVE, path, str(path), bytearray(PROGRESSIVE)):
        assert decode_picture(source, Limits(len(PROGRESSIVE), 120 * 160, 10, ("JPEG",))).shape == (120, 160, 3)
        for limits, expected in (
            (Limits(max_bytes=len(PROGRESSIVE) - 1), TooManyBytesError),
            (Limits(max_pixels=120 * 160 - 1), TooManyPixelsError),
            (Limits(max_jpeg_scans=9), TooManyScansError),
            (Limits(formats=("PNG", "GIF")), UnknownFormatError),
        ):
            with pytest.raises(expected):
                decode_picture(source, limits)
    with pytest.raises(UnknownFormatError, match="expected PNG, GIF; convert it"):
        decode_picture(PROGRESSIVE, Limits(formats=("PNG", "GIF")))


def test_a_limit_may_be_a_number_such_as_1e6_or_infinite(tmp_path: Path) -> None:
    path = tmp_path / "picture.jpg"
    path.write_bytes(PROGRESSIVE)
    for limits in (Limits(float(len(PROGRESSIVE)), 120 * 160.5, 10.0), Limits(math.inf, math.inf, math.inf)):  # type: ignore[arg-type]
        assert decode_picture(path, limits).shape == (120, 160, 3)
    with pytest.raises(TooManyBytesError):
        decode_picture(path, Limits(max_bytes=1e2))  # type: ignore[arg-type]


@pytest.mark.parametrize("limits", [None, {"max_pixels": 100}, 100])
def test_other_limits_than_limits_are_a_usage_error(limits: Any) -> None:
    with pytest.raises(UsageError, match=r"as limits, expected Limits"):
        decode_picture(PROGRESSIVE, limits)


def test_formats_may_be_given_by_any_iterable() -> None:
    limits = Limits(formats=(name for name in ("PNG", "JPEG")))  # type: ignore[arg-type]
    assert limits == Limits(formats=("PNG", "JPEG"))
    assert hash(Limits(formats=["PNG"])) == hash(Limits(formats=("PNG",)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "options",
    [
        {"max_bytes": 0},
        {"max_pixels": -1},
        {"max_pixels": float("nan")},
        {"max_jpeg_scans": 0},
        {"formats": ("SVG",)},
        {"formats": ()},
        {"formats": "PNG"},
        {"formats": None},
    ],
)
def test_a_limit_that_makes_no_sense_is_a_usage_error(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"^got .*, expected "):
        Limits(**options)


def test_every_class_has_a_fault_of_its_own_and_keeps_it_when_named() -> None:
    classes = [
        UnreadablePictureError,
        EmptyPictureError,
        UnknownFormatError,
        DamagedPictureError,
        TooManyBytesError,
        TooManyPixelsError,
        TooManyScansError,
    ]
    assert len({each.fault for each in classes}) == len(classes)
    assert all(each.__name__ in taijitu.__all__ for each in classes)
    assert {each for each in classes if issubclass(each, PictureTooLargeError)} == set(classes[-3:])
    error = TooManyScansError("got many").named("a.jpg")
    assert (type(error), str(error), error.reason) == (TooManyScansError, "a.jpg: got many", "got many")


@pytest.mark.parametrize("spec", [SPEC, STRETCHED], ids=["shorter side", "stretched"])
@pytest.mark.parametrize("size", [(1500, 2000), (2003, 1501)])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_large_jpeg_is_shrunk_and_hardly_differs(size: tuple[int, int], orientation: int, spec: InputSpec) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = image_file(Image.fromarray(photograph_like(*size)), "JPEG", quality=90, exif=exif)
    exact = resize_picture(decode_picture(data), spec).astype(int)
    got = preprocess(data, spec)
    assert 10 * np.log10(255**2 / np.square(got - exact).mean()) > 45
    assert np.abs(got - exact).max() <= 4


def test_many_threads_get_the_same_pixels() -> None:
    pictures = [JPEG, PROGRESSIVE, PNG, GIF, image_file(IMAGE.rotate(90), "JPEG"), CMYK]
    expected = [preprocess(data, SPEC) for data in pictures]
    with ThreadPoolExecutor(8) as pool:
        for got in pool.map(lambda _: [preprocess(data, SPEC) for data in pictures], range(40)):
            np.testing.assert_array_equal(got, expected)


def test_a_png_of_one_colour_is_read_at_any_compression() -> None:
    for mode, bits in (("1", 1), ("L", 8), ("RGB", 24), ("RGBA", 32)):
        picture = image_file(Image.new(mode, (3000, 3000)), "PNG", compress_level=9)
        assert decode_picture(picture).shape == (3000, 3000, 3), f"{bits} bits a pixel, {len(picture)} bytes"


def test_a_png_without_data_for_its_pixels_says_so() -> None:
    with pytest.raises(DamagedPictureError, match=r"bytes for 6000 x 6000 pixels"):
        inspect(png_of_size(6000, 6000))


@pytest.mark.skipif(sys.platform != "linux", reason="limits memory as Linux does")
def test_a_lack_of_memory_is_not_a_fault_of_the_picture() -> None:
    code = """
import io, resource, sys
from PIL import Image
from taijitu_runtime.pictures.preprocess import decode_picture
file = io.BytesIO()
Image.new("RGB", (5000, 5000)).save(file, "PNG")
decode_picture(file.getvalue())
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (16 << 20),) * 2)
try:
    decode_picture(file.getvalue())
except MemoryError:
    print("no memory")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "no memory\n", done.stderr
