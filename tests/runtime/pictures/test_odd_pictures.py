"""Pictures as other programs write them: read as intended, or refused by name, and never slowly."""

from __future__ import annotations

import contextlib
import io
import struct
import subprocess
import sys
import time
import tracemalloc
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from taijitu_runtime.card import InputSpec
from taijitu_runtime.classifier import Classifier
from taijitu_runtime.classify.cli import main as classify
from taijitu_runtime.errors import DamagedPictureError, TooManyPixelsError, UnknownFormatError
from taijitu_runtime.pictures.decoding.quiet import quiet
from taijitu_runtime.pictures.headers import inspect
from taijitu_runtime.pictures.limits import Limits
from taijitu_runtime.pictures.preprocess import decode_picture, preprocess
from taijitu_runtime.pictures.resizing.resize import resize_picture
from tests.helpers.image_file import image_file, png_chunk

NORMAL: dict[str, Any] = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
SPEC = InputSpec(height=32, width=32, resize="stretch", resize_size=32, **NORMAL)
SECONDS = 2.0  # of processor time; what is tested here took up to a minute


def scene(height: int = 60, width: int = 83) -> Image.Image:
    rows, columns = np.mgrid[0:height, 0:width]
    noise = np.random.default_rng(3).integers(0, 40, (height, width))
    return Image.fromarray(np.stack([rows * 2, columns * 2, noise + rows], -1).astype(np.uint8))


def segment(marker: int, content: bytes) -> bytes:
    return bytes((0xFF, marker)) + struct.pack(">H", 2 + len(content)) + content


def profile(number: int, count: int) -> bytes:
    return segment(0xE2, b"ICC_PROFILE\0" + bytes((number, count)) + b"x" * 40)


JPEG = image_file(scene(), "JPEG")
PROGRESSIVE = image_file(scene(), "JPEG", progressive=True)
RESTARTS = image_file(scene(), "JPEG", restart_marker_rows=1)
FRAME, SCAN = JPEG.index(b"\xff\xc0"), JPEG.index(b"\xff\xda")
BEHIND_FRAME = FRAME + 2 + int.from_bytes(JPEG[FRAME + 2 : FRAME + 4], "big")
BEHIND_SCAN_HEADER = SCAN + 2 + int.from_bytes(JPEG[SCAN + 2 : SCAN + 4], "big")


def with_scan_parameters(*parameters: int) -> bytes:
    return JPEG[: BEHIND_SCAN_HEADER - 3] + bytes(parameters) + JPEG[BEHIND_SCAN_HEADER:]


REMARKED = {
    "a profile's chunk is missing": JPEG[:2] + profile(1, 3) + profile(3, 3) + JPEG[2:],
    "a profile's chunk is numbered 0": JPEG[:2] + profile(0, 1) + JPEG[2:],
    "a profile's chunk comes twice": JPEG[:2] + profile(1, 2) * 2 + JPEG[2:],
    "a profile's chunks disagree on their count": JPEG[:2] + profile(1, 2) + profile(2, 3) + JPEG[2:],
    "a bad profile behind the frame": JPEG[:BEHIND_FRAME] + profile(1, 3) + JPEG[BEHIND_FRAME:],
    "a profile's chunk too short": JPEG[:2] + segment(0xE2, b"ICC_PROFILE\0") + JPEG[2:],
    "a JFIF segment too short": segment(0xD8, b"")[:2] + segment(0xE0, b"JFIF\0\1") + JPEG[20:],
    "a scan from 1": with_scan_parameters(1, 63, 0),
    "a scan to 0": with_scan_parameters(0, 0, 0),
    "a scan of a later pass": with_scan_parameters(0, 63, 0x10),
    "a JFIF revision to come": JPEG.replace(b"JFIF\0\1", b"JFIF\0\7"),
    "Adobe's transform 9": JPEG[:2] + segment(0xEE, b"Adobe\0\x64\0\0\0\0\x09") + JPEG[20:],
    "stray bytes before the frame": JPEG[:FRAME] + bytes(3) + JPEG[FRAME:],
}


@pytest.mark.parametrize("name", REMARKED)
def test_faults_that_change_no_pixel_of_a_jpeg_are_not_damage(name: str) -> None:
    np.testing.assert_array_equal(decode_picture(REMARKED[name]), decode_picture(JPEG))


@pytest.mark.parametrize("name", [name for name in REMARKED if not name.startswith("a scan")])
def test_damage_after_a_harmless_warning_is_found(name: str) -> None:
    data = REMARKED[name]
    for cut in (len(data) - 1500, len(data) - 100):
        with pytest.raises(DamagedPictureError):
            decode_picture(data[:cut] + b"\xff\xd9")


def test_stray_zeros_within_a_jpeg_change_no_pixel_and_hide_no_damage() -> None:
    second = PROGRESSIVE.index(b"\xff\xc4", PROGRESSIVE.index(b"\xff\xda"))
    restart = RESTARTS.index(b"\xff\xd1")
    for whole, place in ((PROGRESSIVE, second), (RESTARTS, restart)):
        stray = whole[:place] + bytes(3) + whole[place:]
        np.testing.assert_array_equal(decode_picture(stray), decode_picture(whole))
        with pytest.raises(DamagedPictureError):
            decode_picture(stray[:-40] + b"\xff\xd9")
    with pytest.raises(DamagedPictureError):  # a restart interval that ended too early
        decode_picture(RESTARTS[:restart] + b"\x5a\x12\x77\x31" + RESTARTS[restart:])


def test_an_orientation_is_found_next_to_a_profile_that_pillow_cannot_read() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = image_file(scene(), "JPEG", exif=exif)
    odd = turned[:2] + segment(0xE2, b"ICC_PROFILE\0") + turned[2:]
    np.testing.assert_array_equal(decode_picture(odd), decode_picture(turned))
    assert decode_picture(odd).shape == (83, 60, 3)


def jpeg_frame(marker: int, bits: int = 8, height: int = 60, components: int = 3) -> bytes:
    content = struct.pack(">BHHB", bits, height, 83, components) + b"\1\x11\0" * components
    return b"\xff\xd8" + segment(marker, content) + JPEG[SCAN:]


def png(width: int, bits: int, colour: int, *rows: bytes, before: bytes = b"", packed: bytes | None = None) -> bytes:
    head = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, len(rows), bits, colour, 0, 0, 0))
    packed = zlib.compress(b"".join(b"\0" + row for row in rows)) if packed is None else packed
    return b"\x89PNG\r\n\x1a\n" + head + before + png_chunk(b"IDAT", packed) + png_chunk(b"IEND", b"")


def bmp(width: int, height: int, bits: int, content: bytes, compression: int = 0, size: int = 40) -> bytes:
    palette = bytes(value for index in range(1 << bits) for value in (index, 255 - index, 7, 0)) if bits <= 8 else b""
    head = struct.pack("<IiiHHIIiiII", size, width, height, 1, bits, compression, len(content), 0, 0, 0, 0)
    head += bytes(max(0, size - 40))
    start = 14 + len(head) + len(palette)
    return b"BM" + struct.pack("<IHHI", start + len(content), 0, 0, start) + head + palette + content


TIFF_TAGS = {
    "width": 256, "height": 257, "bits": 258, "compression": 259, "photometric": 262, "strips": 273, "samples": 277,
    "format": 339,
}  # fmt: skip


def tiff(pixels: bytes = bytes(100), **tags: int) -> bytes:
    plain = {"bits": 8, "compression": 1, "photometric": 1, "samples": 1, "format": 1}
    values = plain | {"width": 4, "height": 4, "strips": 14 + 12 * len(TIFF_TAGS)} | tags
    entries = b"".join(struct.pack("<HHII", number, 4, 1, values[name]) for name, number in TIFF_TAGS.items())
    return b"II*\0" + struct.pack("<IH", 8, len(TIFF_TAGS)) + entries + bytes(4) + pixels


UNREAD: dict[str, tuple[bytes, str]] = {
    "12 bits": (jpeg_frame(0xC1, bits=12), "12-bit JPEG"),
    "lossless": (jpeg_frame(0xC3), "lossless JPEG"),
    "hierarchical": (jpeg_frame(0xC5), "hierarchical JPEG"),
    "two components": (jpeg_frame(0xC0, components=2), "2 components"),
    "DNL": (jpeg_frame(0xC0, height=0), "DNL"),
    "JPEG-LS": (b"\xff\xd8" + segment(0xF7, b"\x08\0\x08\0\x08\1\1\x11\0") + JPEG[SCAN:], "JPEG-LS"),
    "2-bit BMP": (bmp(4, 4, 2, bytes(16)), "BMP of 2 bits"),
    "64-bit BMP": (bmp(4, 4, 64, bytes(128)), "BMP of 64 bits"),
    "JPEG in a BMP": (bmp(4, 4, 24, JPEG, compression=4), "BMP of compression 4"),
    "BMP of OS/2 2": (bmp(4, 4, 24, bytes(48), size=16), "header of 16 bytes"),
    "TIFF of 3 bits": (tiff(bits=3), "TIFF"),
    "TIFF of signed numbers": (tiff(bits=16, format=2), "signed"),
    "TIFF of 32 bits": (tiff(bits=32), "32-bit"),
    "TIFF of a compression": (tiff(compression=34661), "TIFF"),
    "CgBI": (b"\x89PNG\r\n\x1a\n" + png_chunk(b"CgBI", bytes(4)) + png(1, 8, 0, b"\0")[8:], "CgBI"),
    "plain PGM": (b"P2\n1 1\n255\n7\n", "PGM"),
    "plain PPM": (b"P3\n1 1\n255\n7 7 7\n", "PPM"),
    "PBM": (b"P4\n8 1\n\xff", "PBM"),
    "plain PBM": (b"P1\n1 1\n1\n", "PBM"),
    "PAM": (b"P7\nWIDTH 1\n", "PAM"),
    "PFM": (b"PF\n1 1\n-1\n" + bytes(12), "PFM"),
    "BigTIFF": (b"II\x2b\0\x08\0\0\0" + bytes(40), "BigTIFF"),
    "CR2": (b"II*\0\x10\0\0\0CR\x02\0" + bytes(40), "camera"),
    "DNG": (b"II*\0\x08\0\0\0\x02\0\xfe\0\x04\0\x01\0\0\0\x01" + bytes(40), "camera"),
    "NEF": (b"MM\0*\0\0\0\x08\0\x02\0\xfe\0\x04\0\0\0\x01\0\0\0\x01" + bytes(40), "camera"),
    "HEIC": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
    "AVIF": (b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf", "AVIF"),
    "a saved error page": (b"<!DOCTYPE html><html><body>404</body></html>", "HTML"),
}


@pytest.mark.parametrize("name", UNREAD)
def test_a_whole_picture_of_a_variant_that_is_not_read_is_named(name: str) -> None:
    data, expected = UNREAD[name]
    with pytest.raises(UnknownFormatError) as caught:
        decode_picture(data)
    assert expected in caught.value.reason
    assert "fetch" not in caught.value.reason


PNG = image_file(scene(), "PNG")


@pytest.mark.parametrize("tail", [b"\n", b"\r\n", bytes(100), PNG, PNG[40:], b"\0\0\0\xffIDAT" + bytes(9)])
def test_bytes_after_the_end_of_a_png_are_ignored(tail: bytes) -> None:
    np.testing.assert_array_equal(decode_picture(PNG + tail), np.asarray(scene()))


def test_a_png_without_its_end_is_refused_wherever_it_is_cut() -> None:
    for length in [*range(len(PNG) - 16, len(PNG)), *range(8, len(PNG), 997)]:
        with pytest.raises(DamagedPictureError):
            decode_picture(PNG[:length])


def test_every_flipped_bit_of_a_pngs_pixels_is_noticed() -> None:
    start = PNG.index(b"IDAT") + 4
    for place in np.random.default_rng(1).integers(start, len(PNG) - 12, 200):
        data = bytearray(PNG)
        data[place] ^= 1 << int(place) % 8
        with pytest.raises(DamagedPictureError):
            decode_picture(bytes(data))
    late_note = PNG[:-12] + png_chunk(b"tEXt", b"x", checksum=1) + PNG[-12:]
    np.testing.assert_array_equal(decode_picture(late_note), decode_picture(PNG))
    rows = [bytes(9)] * 9
    for odd in (png_chunk(b"pLTE", bytes(6)), png_chunk(b"tRNS", bytes(2), checksum=1)):  # the first is not a palette
        with pytest.raises(DamagedPictureError):
            decode_picture(png(1, 8, 3, bytes(1), before=odd))
    with pytest.raises(DamagedPictureError):  # zlib's own checksum, where the chunk's is right
        decode_picture(png(9, 8, 0, *rows, packed=zlib.compress(bytes(90))[:-4] + b"\1\2\3\4"))


@pytest.mark.parametrize("kind", [b"tEXt", b"zTXt", b"iTXt", b"iCCP", b"abCd"])
@pytest.mark.parametrize(("count", "size"), [(2000, 1 << 20), (1, 1 << 22)])
def test_a_png_of_notes_of_any_number_and_size_is_read_and_keeps_its_orientation(
    kind: bytes, count: int, size: int
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = image_file(scene(), "PNG", exif=exif)
    notes = png_chunk(kind, b"x\0\0" + zlib.compress(bytes(size))) * count
    began = time.process_time()
    np.testing.assert_array_equal(decode_picture(turned[:33] + notes + turned[33:]), decode_picture(turned))
    assert time.process_time() - began < SECONDS


def orientation_exif(orientation: int, overlapping: int = 0) -> bytes:
    """Return an EXIF block; each of the `overlapping` tags before the orientation is as large as the block."""
    size = 100_000 if overlapping else 0
    tags = [struct.pack("<HHLL", 1 + tag, 7, size, 8) for tag in range(overlapping)]
    tags.append(struct.pack("<HHLHxx", 0x0112, 3, 1, orientation))
    return (
        b"II*\0" + struct.pack("<L", 8 + size) + bytes(size) + struct.pack("<H", len(tags)) + b"".join(tags) + bytes(4)
    )


XMP = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
XMP_NAME = b"http://ns.adobe.com/xap/1.0/\0"
PROFILE = b"\nexif\n%8d\n%s\n" % (26, orientation_exif(6).hex().encode())
START = PNG[:33]
TURNED = {
    "PNG, EXIF": START + png_chunk(b"eXIf", orientation_exif(6)) + PNG[33:],
    "PNG, XMP": START + png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP) + PNG[33:],
    "PNG, XMP deflated": START + png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0e\0e\0" + zlib.compress(XMP)) + PNG[33:],
    "PNG, profile": START + png_chunk(b"tEXt", b"Raw profile type exif\0" + PROFILE) + PNG[33:],
    "PNG, profile deflated": START
    + png_chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(PROFILE))
    + PNG[33:],
    "JPEG, XMP": JPEG[:2] + segment(0xE1, XMP_NAME + XMP) + JPEG[2:],
    "JPEG, EXIF without it, XMP": JPEG[:2]
    + segment(0xE1, b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0")
    + segment(0xE1, XMP_NAME + XMP)
    + JPEG[2:],
    "JPEG, EXIF of big end": JPEG[:2]
    + segment(0xE1, b"Exif\0\0MM\0*" + struct.pack(">LHHHLHxxL", 8, 1, 0x0112, 3, 1, 6, 0))
    + JPEG[2:],
    "WebP, EXIF": image_file(scene(), "WEBP", lossless=True, exif=b"Exif\0\0" + orientation_exif(6)),
    "WebP, XMP": image_file(scene(), "WEBP", lossless=True, xmp=XMP),
}


@pytest.mark.parametrize("kind", TURNED)
def test_the_orientation_is_the_one_that_pillow_finds(kind: str) -> None:
    turned = ImageOps.exif_transpose(Image.open(io.BytesIO(TURNED[kind]))).convert("RGB")
    assert turned.height == scene().width
    assert np.abs(decode_picture(TURNED[kind]).astype(int) - np.asarray(turned)).max() <= 2


def test_overlapping_tags_of_metadata_take_no_memory() -> None:
    exif = orientation_exif(6, overlapping=2000)
    parts = [exif[start : start + 60_000] for start in range(0, len(exif), 60_000)]
    pictures = [
        START + png_chunk(b"eXIf", exif) + PNG[33:],
        image_file(scene(), "WEBP", lossless=True, exif=exif),
        JPEG[:2] + b"".join(segment(0xE1, b"Exif\0\0" + part) for part in parts) + JPEG[2:],
    ]
    tracemalloc.start()
    assert [decode_picture(picture).shape[:2] for picture in pictures] == [(83, 60)] * 3
    with pytest.raises(DamagedPictureError):  # a TIFF is such a block itself
        decode_picture(exif)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6


GREY_KEYS = [(1, 1, 255), (2, 2, 170), (4, 7, 119), (8, 200, 200)]


@pytest.mark.parametrize(("bits", "key", "value"), GREY_KEYS)
def test_a_transparent_grey_is_composed_on_black(bits: int, key: int, value: int) -> None:
    other = 0 if bits == 1 else key - 1
    row = int(f"{key:0{bits}b}{other:0{bits}b}".ljust(16, "0"), 2).to_bytes(2, "big")
    transparent = decode_picture(png(2, bits, 0, row, before=png_chunk(b"tRNS", struct.pack(">H", key))))
    opaque = decode_picture(png(2, bits, 0, row))
    assert opaque[0, 0].tolist() == [value] * 3
    assert not transparent[0, 0].any()
    np.testing.assert_array_equal(transparent[0, 1], opaque[0, 1])


def test_a_transparent_colour_of_16_bits_is_that_colour_and_not_a_neighbour() -> None:
    grey = struct.pack(">3H", 30000, 30001, 65535)
    got = decode_picture(png(3, 16, 0, grey, before=png_chunk(b"tRNS", struct.pack(">H", 30000))))
    assert got[0, :, 0].tolist() == [0, 117, 255]
    colours = struct.pack(">6H", 25600, 5120, 7701, 25600, 5120, 7702)
    got = decode_picture(png(2, 16, 2, colours, before=png_chunk(b"tRNS", colours[:6])))
    assert got[0].tolist() == [[0, 0, 0], [100, 20, 30]]
    with Image.open(io.BytesIO(png(2, 16, 2, colours, before=png_chunk(b"tRNS", colours[:6])))) as image:
        np.testing.assert_array_equal(preprocess(image, SPEC), resize_picture(got, SPEC))


def test_a_transparent_colour_of_8_bits_is_composed_on_black() -> None:
    row = bytes((9, 8, 7, 9, 8, 8))
    got = decode_picture(png(2, 8, 2, row, before=png_chunk(b"tRNS", struct.pack(">3H", 9, 8, 7))))
    assert got[0].tolist() == [[0, 0, 0], [9, 8, 8]]
    grey_gif = Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16))
    assert decode_picture(image_file(grey_gif, "GIF", transparency=200))[12, 8].tolist() == [0, 0, 0]


@pytest.mark.parametrize("mode", ["La", "LA", "RGBa", "RGBA", "PA"])
def test_every_mode_with_alpha_is_composed_on_black(mode: str) -> None:
    layer = Image.new("RGBA", (4, 4), (200, 200, 200, 0))
    image = {"La": layer.convert("LA").convert("La"), "RGBa": layer.convert("RGBa")}.get(mode) or layer.convert(mode)
    assert not preprocess(image, InputSpec(height=4, width=4, resize="stretch", resize_size=4, **NORMAL)).any()


@pytest.mark.parametrize(
    ("pixels", "tags"),
    [
        (struct.pack("<H", 200 * 257), {"bits": 16}),
        (struct.pack("<H", 55 * 257), {"bits": 16, "photometric": 0}),
        (b"\xc8\xcc\x8c", {"bits": 12}),
        (bytes((200, 200, 200, 0)), {"samples": 4, "photometric": 2}),
    ],
)
def test_a_tiff_is_as_bright_as_its_tags_say(pixels: bytes, tags: dict[str, int]) -> None:
    assert (decode_picture(tiff(pixels * 16, **tags)) == 200).all()


def test_a_tiff_that_ends_within_its_tags_is_damaged() -> None:
    with pytest.raises(DamagedPictureError):
        decode_picture(image_file(scene(), "TIFF", compression="tiff_lzw")[:-1])


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_strips_of_a_large_picture_have_no_seams(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = scene().convert("RGBA")
    layer.putalpha(scene().convert("L"))
    image = layer.quantize(64) if mode == "P" else layer.convert(mode)
    data = image_file(image, "PNG")
    whole = decode_picture(data)
    monkeypatch.setattr("taijitu_runtime.pictures.decoding.pillow.STRIP_PIXELS", 7 * image.width)
    np.testing.assert_array_equal(decode_picture(data), whole)


def bmp_with_alpha(alpha: int) -> bytes:
    pixels = bytes((30, 20, 10, alpha)) * 16
    data = bytearray(bmp(4, 4, 32, pixels, compression=3, size=108))
    data[54:70] = struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    return bytes(data)


def test_an_unfilled_alpha_is_ignored() -> None:
    assert decode_picture(bmp_with_alpha(0))[0, 0].tolist() == [10, 20, 30]
    assert decode_picture(bmp_with_alpha(255))[0, 0].tolist() == [10, 20, 30]
    assert decode_picture(bmp_with_alpha(128))[0, 0].tolist() == [5, 10, 15]


def test_run_length_bmps_are_decoded_by_the_specification() -> None:
    colours = lambda *indices: [[7, 255 - index, index] for index in indices]  # noqa: E731
    runs = b"\3\5" + b"\0\0" + b"\0\3\1\2\3\0" + b"\0\0" + b"\0\2\1\0" + b"\2\4" + b"\0\1"
    got = decode_picture(bmp(3, 4, 8, runs, compression=1))
    expected = [colours(0, 0, 0), colours(0, 4, 4), colours(1, 2, 3), colours(5, 5, 5)]
    assert got.tolist() == expected
    runs = b"\3\x12" + b"\0\0" + b"\0\3\x45\x60" + b"\0\1"
    got = decode_picture(bmp(3, 2, 4, runs, compression=2))
    assert got.tolist() == [colours(4, 5, 6), colours(1, 2, 1)]


def test_a_run_length_bmp_without_its_end_is_refused() -> None:
    for runs in (b"\3\5", b"\3\5\0\0\0\3\1", b"\0\2\1"):
        with pytest.raises(DamagedPictureError):
            decode_picture(bmp(3, 4, 8, runs, compression=1))


@pytest.mark.parametrize("largest", [1, 15, 100, 254, 255, 256, 4095, 65534, 65535])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_pnm_of_any_largest_value_has_pillows_pixels(largest: int, channels: int) -> None:
    values = np.random.default_rng(5).integers(0, largest + 1, (6, 7, channels))
    values[0, :2] = [[0], [largest]]
    raw = values.astype(np.uint8 if largest < 256 else ">u2").tobytes()
    data = b"P%d\n# a note\n7 6\n%d\n" % (5 if channels == 1 else 6, largest) + raw
    with Image.open(io.BytesIO(data)) as image:
        expected = np.asarray(image)
    got = decode_picture(data)
    if image.mode == "I":
        expected = (expected + 128) // 257
    np.testing.assert_array_equal(got, expected[..., None].repeat(3, 2) if channels == 1 else expected)
    with pytest.raises(DamagedPictureError):
        decode_picture(data[:-1])


SLOW = {
    "a line of 40,000,000 pixels in two bytes": bmp(40_000_000, 1, 8, b"\0\1", compression=1),
    "runs past the edge": bmp(10, 4_000_000, 8, b"\xff\1" * 4_000_000, compression=1),
    "4-bit pixels one by one": bmp(20_000, 2000, 4, (b"\0\xff" + bytes(128)) * 480_000 + b"\0\1", compression=2),
    "PGM of 12 bits": b"P5 6000 6000 4095\n" + bytes(72_000_000),
    "PPM up to 254": b"P6 6000 6000 254\n" + bytes(108_000_000),
}


@pytest.fixture(scope="module")
def ordinary_s() -> float:
    """Return the processor time that an ordinary picture of 36 million pixels takes on this machine."""
    return processor_s(b"P6 6000 6000 255\n" + bytes(108_000_000))


def processor_s(picture: bytes) -> float:
    began = time.process_time()
    with contextlib.suppress(UnknownFormatError):
        preprocess(picture, SPEC)
    return time.process_time() - began


@pytest.mark.parametrize("name", SLOW)
def test_nothing_within_the_limits_takes_far_longer_than_an_ordinary_picture(name: str, ordinary_s: float) -> None:
    assert processor_s(SLOW[name]) < 30 * ordinary_s  # up to 300 times where Pillow decodes them


def large_jpeg(width: int, height: int, **options: Any) -> bytes:
    return image_file(Image.new("RGB", (width, height), (200, 30, 90)), "JPEG", quality=70, **options)


MEMORY = """
import sys
from taijitu_runtime.card import InputSpec
from taijitu_runtime.pictures.preprocess import preprocess
spec = InputSpec(
    height=224, width=224, resize="shorter_side", resize_size=256, mean=(0.5,) * 3, std=(0.5,) * 3
)
preprocess(sys.argv[2], spec)
data = open(sys.argv[1], "rb").read()
open("/proc/self/clear_refs", "w").write("5")
peak = lambda: int(open("/proc/self/status").read().partition("VmHWM:")[2].split()[0])
before = peak()
assert (preprocess(data, spec)[100, 100] > [190, 20, 80]).all()
print((peak() - before) // 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the memory's peak as Linux tells it")
@pytest.mark.parametrize("size", [(8000, 6000), (8160, 6120), (12000, 9000), (16320, 12240), (30000, 3000)])
def test_the_photographs_of_large_cameras_are_read_in_little_memory(size: tuple[int, int], tmp_path: Path) -> None:
    (tmp_path / "large.jpg").write_bytes(large_jpeg(*size))
    (tmp_path / "small.jpg").write_bytes(JPEG)
    command = [sys.executable, "-c", MEMORY, str(tmp_path / "large.jpg"), str(tmp_path / "small.jpg")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 150, "megabytes"


def test_what_is_counted_is_what_is_decoded() -> None:
    data = large_jpeg(8000, 6000)
    assert inspect(data, least_side=512).cost_pixels(512) == 6_000_000
    with pytest.raises(TooManyPixelsError, match="8000 x 6000"):
        decode_picture(data)  # whole
    with pytest.raises(TooManyPixelsError, match="6000000"):
        preprocess(data, SPEC, Limits(max_pixels=5_999_999))
    progressive = inspect(large_jpeg(8000, 4000, progressive=True), least_side=64)
    assert progressive.cost_pixels(64) == 16_000_000
    assert inspect(JPEG).cost_pixels(64) == 60 * 83


def test_max_pixels_is_the_callers(tiny_onnx: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(PNG)
    assert classify([str(tiny_onnx), str(path), "--max-pixels", "4979"]) == 1
    assert classify([str(tiny_onnx), str(path), "--max-pixels", "4980"]) == 0
    assert classify([str(tiny_onnx), str(path), "--max-pixels", "0"]) == 2
    assert "4979" in capsys.readouterr().err
    with Classifier.from_file(tiny_onnx) as classifier:
        assert classifier.predict([PNG], limits=Limits(max_pixels=4980))
        for pictures in (PNG, [PNG]):
            with pytest.raises(TooManyPixelsError):
                classifier.predict(pictures, limits=Limits(max_pixels=4979))


@pytest.mark.parametrize("size", [(2001, 1505), (2007, 1503), (4003, 3003)])
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_the_edge_of_a_shrunk_jpeg_contains_nothing_from_outside(size: tuple[int, int], orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    rows, columns = np.mgrid[0 : size[1], 0 : size[0]]
    smooth = 128 + 60 * np.sin(rows / 171) * np.cos(columns / 133)
    smooth[:, -3:], smooth[-3:] = 250, 5  # a frame, as scans and posters have
    image = Image.fromarray(np.repeat(smooth[..., None], 3, 2).astype(np.uint8))
    data = image_file(image, "JPEG", quality=92, exif=exif)
    for side in (32, 224):
        spec = InputSpec(height=side, width=side, resize="stretch", resize_size=side, **NORMAL)
        exact: NDArray[Any] = resize_picture(decode_picture(data), spec).astype(int)
        assert np.abs(preprocess(data, spec) - exact).max() <= 6


REMARKING = """
import io, struct, zlib
import numpy as np
from PIL import Image
from taijitu_runtime.errors import PictureError
from taijitu_runtime.pictures.preprocess import decode_picture
def encoded(image, format, **options):
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()
image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
lzw = bytearray(encoded(image, "TIFF", compression="tiff_lzw"))
lzw[40:400] = bytes(360)
tags = [(256, 1, 4), (257, 1, 4), (258, 1, 8), (259, 1, 1), (262, 1, 1), (273, 1, 8), (305, 9, 1 << 30)]
entries = b"".join(struct.pack("<HHII", tag, 4, count, value) for tag, count, value in tags)
tiff = b"II*\\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(100)
png = encoded(image, "PNG")
no_frames = b"acTL" + bytes(8)
apng = png[:33] + struct.pack(">I", 8) + no_frames + struct.pack(">I", zlib.crc32(no_frames)) + png[33:]
for data, expected in ((bytes(lzw), "damaged"), (tiff, "read"), (apng, "read")):
    try:
        decode_picture(data)
        got = "read"
    except PictureError as error:
        got = error.fault
    assert got == expected, (got, expected)
"""


@pytest.mark.parametrize("flags", [[], ["-W", "error"], ["-W", "always"]], ids=" ".join)
def test_warnings_of_pillow_and_libtiff_neither_decide_nor_appear(flags: list[str]) -> None:
    done = subprocess.run([sys.executable, *flags, "-c", REMARKING], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_callers_own_warnings_stay_as_they_were() -> None:
    before = list(warnings.filters)
    decode_picture(PNG)
    assert list(warnings.filters) == before


def test_a_filter_that_another_thread_puts_first_meanwhile_leaves_none_of_ours() -> None:
    with warnings.catch_warnings():
        before = list(warnings.filters)
        with quiet():  # of one thread
            warnings.filterwarnings("error", message="anything")
            with quiet():  # of another
                pass
        assert list(warnings.filters)[1:] == before
