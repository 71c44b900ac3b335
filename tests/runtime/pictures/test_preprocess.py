"""Decoding and resizing: against torchvision on photographs, by hand on the modes and formats, and hostile files."""

from __future__ import annotations

import io
import struct
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from taijitu_runtime.card import InputSpec
from taijitu_runtime.errors import InputError, PictureError, UnknownFormatError
from taijitu_runtime.pictures.limits import Limits
from taijitu_runtime.pictures.preprocess import decode_picture, normalise, preprocess
from taijitu_runtime.pictures.resizing.resize import resize_picture
from tests.helpers.image_file import image_file, png_declaring, with_scans

NORMAL: dict[str, Any] = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
SPECS = {
    "32": InputSpec(height=32, width=32, resize="shorter_side", resize_size=32, **NORMAL),
    "224 of 256": InputSpec(height=224, width=224, resize="shorter_side", resize_size=256, **NORMAL),
    "224 of 224": InputSpec(height=224, width=224, resize="shorter_side", resize_size=224, **NORMAL),
    "96 x 160 of 181": InputSpec(height=96, width=160, resize="shorter_side", resize_size=181, **NORMAL),
    "224 stretched": InputSpec(height=224, width=224, resize="stretch", resize_size=224, **NORMAL),
    "48 x 30 stretched": InputSpec(height=48, width=30, resize="stretch", resize_size=30, **NORMAL),
    "184 of 210, bicubic": InputSpec(
        height=184, width=184, resize="shorter_side", resize_size=210, interpolation="bicubic_antialias", **NORMAL
    ),
    "32 of 40, nearest": InputSpec(
        height=32, width=32, resize="shorter_side", resize_size=40, interpolation="nearest", **NORMAL
    ),
}
SAVED: dict[str, dict[str, Any]] = {
    "PNG": {},
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"lossless": True},
    "BMP": {},
    "GIF": {},
    "TIFF": {},
    "PPM": {},
}


def scene(height: int = 40, width: int = 60) -> NDArray[np.uint8]:
    """Draw a picture that no rotation, mirroring or exchange of channels maps to itself."""
    rows, columns = np.mgrid[0:height, 0:width]
    picture = np.stack([rows * 255 // height, columns * 255 // width, (rows // 5 + columns // 7) % 2 * 200], axis=-1)
    return picture.astype(np.uint8)


def reference(image: Image.Image, spec: InputSpec) -> NDArray[np.uint8]:
    v2 = pytest.importorskip("torchvision.transforms.v2")
    interpolation = v2.InterpolationMode(spec.interpolation.removesuffix("_antialias"))
    if spec.resize == "stretch":
        steps = [v2.Resize((spec.height, spec.width), interpolation, antialias=True)]
    else:
        steps = [
            v2.Resize(spec.resize_size, interpolation, antialias=True),
            v2.CenterCrop((spec.height, spec.width)),
        ]
    return np.asarray(v2.Compose(steps)(image))


def largest_difference(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> int:
    assert a.shape == b.shape
    return int(np.abs(a.astype(int) - b).max())


@pytest.mark.parametrize("name", SPECS)
def test_photographs_get_the_pixels_of_torchvision(photographs: list[Path], name: str) -> None:
    for path in photographs:
        image = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
        assert largest_difference(preprocess(path, SPECS[name]), reference(image, SPECS[name])) == 0, path.name


def odd_pictures() -> dict[str, bytes]:
    """Return files of every mode that both training and serving accept, as name to bytes."""
    image = Image.fromarray(scene(120, 90))
    layer = image.copy()
    layer.putalpha(Image.fromarray(scene(120, 90)[..., 1]))
    turned = Image.Exif()
    turned[0x0112] = 6
    sixteen = Image.fromarray(scene(120, 90)[..., 0].astype(np.uint16) * 200 + 77)
    few = image.quantize(16)
    return {
        "16-bit PNG": image_file(sixteen, "PNG"),
        "16-bit PGM": image_file(sixteen, "PPM"),
        "16-bit TIFF": image_file(sixteen, "TIFF"),
        "CMYK JPEG": image_file(image.convert("CMYK"), "JPEG"),
        "CMYK TIFF": image_file(image.convert("CMYK"), "TIFF"),
        "EXIF JPEG": image_file(image, "JPEG", exif=turned),
        "EXIF PNG with alpha": image_file(layer, "PNG", exif=turned),
        "GIF": image_file(image, "GIF"),
        "GIF, transparent": image_file(few, "GIF", transparency=3),
        "GIF, animated": image_file(image, "GIF", save_all=True, append_images=[image.rotate(90)]),
        "LA PNG": image_file(layer.convert("LA"), "PNG"),
        "P PNG": image_file(few, "PNG"),
        "P PNG, transparent": image_file(few, "PNG", transparency=3),
        "P PNG, half transparent": image_file(few, "PNG", transparency=bytes(range(0, 256, 16))),
        "RGB PNG, one colour transparent": image_file(image, "PNG", transparency=(0, 0, 0)),
        "RGBA TIFF": image_file(layer, "TIFF"),
        "RGBA WEBP": image_file(layer, "WEBP"),
        "bits PNG": image_file(image.convert("1"), "PNG"),
        "grey JPEG": image_file(image.convert("L"), "JPEG"),
    }


@pytest.mark.parametrize("name", odd_pictures())
def test_training_evaluates_with_the_same_pixels(name: str) -> None:
    pytest.importorskip("torchvision")
    from tests.helpers.torchvision_transform import evaluation_transform

    data = odd_pictures()[name]
    for spec in (SPECS["32"], SPECS["96 x 160 of 181"]):
        with Image.open(io.BytesIO(data)) as image:
            expected = evaluation_transform(image, (spec.height, spec.width), spec.resize_size)
        np.testing.assert_array_equal(preprocess(data, spec), expected)


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("size", [(1, 1), (1, 2), (2, 1), (3, 50), (33, 32), (255, 257), (31, 500), (640, 21)])
def test_odd_sizes_get_the_pixels_of_torchvision(size: tuple[int, int], name: str) -> None:
    picture = np.random.default_rng(1).integers(0, 256, (*size, 3), dtype=np.uint8)
    assert (
        largest_difference(resize_picture(picture, SPECS[name]), reference(Image.fromarray(picture), SPECS[name])) == 0
    )


@pytest.mark.parametrize(("name", "allowed"), [("32", 1), ("184 of 210, bicubic", 2)])
@pytest.mark.parametrize("size", [(1, 5000), (5000, 1), (3, 200), (7, 1000), (2000, 40), (3001, 5)])
def test_beyond_the_widest_exact_aspect_pixels_hardly_differ(size: tuple[int, int], name: str, allowed: int) -> None:
    picture = np.random.default_rng(2).integers(0, 256, (*size, 3), dtype=np.uint8)
    got = resize_picture(picture, SPECS[name])
    assert largest_difference(got, reference(Image.fromarray(picture), SPECS[name])) <= allowed


@pytest.mark.parametrize("size", [(1, 2_000_000), (2_000_000, 1)])
def test_a_picture_one_pixel_wide_does_not_need_gigabytes(size: tuple[int, int]) -> None:
    picture = np.zeros((*size, 3), np.uint8)
    middle = (slice(None), slice(900_000, 1_100_000)) if size[0] == 1 else (slice(900_000, 1_100_000),)
    picture[middle] = (10, 20, 30)
    began = time.process_time()
    got = resize_picture(picture, SPECS["224 of 256"])  # the shorter side at 256 would be 512 million pixels long
    assert time.process_time() - began < 2
    assert (got == (10, 20, 30)).all()


@pytest.mark.parametrize("format", SAVED)
def test_every_format_is_decoded_from_path_text_and_bytes_alike(format: str, tmp_path: Path) -> None:
    data = image_file(Image.fromarray(scene()), format, **SAVED[format])
    path = tmp_path / "picture.any"
    path.write_bytes(data)
    got = decode_picture(data)
    assert (got.dtype, got.shape, got.flags.writeable) == (np.dtype(np.uint8), (40, 60, 3), True)
    # lossless except for JPEG's quantisation and GIF's 256 colours
    assert np.abs(got.astype(int) - scene()).mean() < {"JPEG": 4, "GIF": 8}.get(format, 1e-9)
    for same in (path, str(path), bytearray(data), memoryview(data)):
        np.testing.assert_array_equal(decode_picture(same), got)


@pytest.mark.parametrize("format", ["PNG", "TIFF", "WEBP", "JPEG"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int, format: str) -> None:
    upright = scene()
    # as the EXIF standard lays row 0 and column 0 of the stored image: 6 = right-hand side, top
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(np.ascontiguousarray(stored))
    got = decode_picture(image_file(image, format, exif=exif, **SAVED[format]))
    assert got.shape == upright.shape
    assert np.abs(got.astype(int) - upright).mean() < (4 if format == "JPEG" else 1e-9)


def test_a_pil_image_is_turned_upright_too() -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    image = Image.open(io.BytesIO(image_file(Image.fromarray(scene()), "PNG", exif=exif)))
    np.testing.assert_array_equal(
        preprocess(image, SPECS["32"]), resize_picture(np.ascontiguousarray(scene()[::-1, ::-1]), SPECS["32"])
    )


def test_a_damaged_exif_block_does_not_spoil_the_picture() -> None:
    whole = image_file(Image.fromarray(scene()), "JPEG")
    segment = b"Exif\0\0" + b"nothing that TIFF knows"
    data = whole[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + whole[2:]
    np.testing.assert_array_equal(decode_picture(data), decode_picture(whole))


@pytest.mark.parametrize("format", ["PNG", "JPEG", "GIF", "PPM", "TIFF"])
def test_grey_becomes_three_equal_channels(format: str) -> None:
    grey = np.full((16, 16), 77, np.uint8)
    np.testing.assert_array_equal(decode_picture(image_file(Image.fromarray(grey), format)), np.full((16, 16, 3), 77))


def test_black_and_white_is_0_and_255() -> None:
    bits = Image.fromarray(np.array([[0, 255], [255, 0]], np.uint8)).convert("1")
    assert decode_picture(image_file(bits, "PNG"))[..., 0].tolist() == [[0, 255], [255, 0]]


@pytest.mark.parametrize("format", ["JPEG", "TIFF"])
def test_cmyk_is_not_inverted(format: str) -> None:
    # cyan 255, magenta 0, yellow 255, black 55: a green of 200; Adobe's JPEGs store the complements
    ink = Image.new("CMYK", (16, 16), (255, 0, 255, 55))
    assert np.abs(decode_picture(image_file(ink, format)).astype(int) - (0, 200, 0)).max() <= 2


def test_a_palette_gives_its_colours() -> None:
    image = Image.new("P", (4, 4), 1)
    image.putpalette([9, 8, 7, 10, 200, 30])
    np.testing.assert_array_equal(decode_picture(image_file(image, "PNG")), np.full((4, 4, 3), (10, 200, 30)))


def test_transparency_is_composed_on_black() -> None:
    half = Image.new("RGBA", (4, 4), (200, 100, 50, 128))
    grey = Image.new("LA", (4, 4), (200, 0))
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([9, 8, 7, 10, 200, 30])
    np.testing.assert_array_equal(decode_picture(image_file(half, "PNG")), np.full((4, 4, 3), (100, 50, 25)))
    assert decode_picture(image_file(half, "WEBP", lossless=True))[0, 0].tolist() == [100, 50, 25]
    assert not decode_picture(image_file(grey, "PNG")).any()
    assert not decode_picture(image_file(palette, "PNG", transparency=1)).any()
    assert not decode_picture(image_file(palette, "GIF", transparency=1)).any()
    assert decode_picture(image_file(palette, "PNG", transparency=0))[0, 0].tolist() == [10, 200, 30]


@pytest.mark.parametrize("format", ["PNG", "TIFF", "PPM"])
def test_16_bits_are_scaled_not_cut(format: str) -> None:
    values = np.array([[0, 128, 129, 257, 12850, 32767, 65406, 65407, 65535]], np.uint16)
    expected = [0, 0, 1, 1, 50, 127, 254, 255, 255]
    got = decode_picture(image_file(Image.fromarray(values), format))
    np.testing.assert_array_equal(got, np.repeat(np.array([expected])[..., None], 3, axis=2))


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.full((4, 4), 0.5, np.float32), "float"),
        (np.full((4, 4), 70_000, np.int32), "32-bit"),
        (np.full((4, 4), -1, np.int32), "32-bit"),
    ],
)
def test_pixels_of_unknown_range_are_refused_instead_of_guessed(pixels: NDArray[Any], message: str) -> None:
    with pytest.raises(PictureError, match=message) as caught:
        decode_picture(image_file(Image.fromarray(pixels), "TIFF"))
    assert caught.value.fault == "format"


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG", "TIFF"])
def test_the_first_frame_of_an_animation_is_taken(format: str) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ((250, 0, 0), (0, 250, 0), (0, 0, 250))]
    data = image_file(frames[0], format, save_all=True, append_images=frames[1:])
    assert np.abs(decode_picture(data).astype(int) - (250, 0, 0)).max() <= 3


def test_a_progressive_jpeg_gives_the_pixels_of_a_baseline_one() -> None:
    image = Image.fromarray(scene(123, 77))
    np.testing.assert_array_equal(
        decode_picture(image_file(image, "JPEG", progressive=True)), decode_picture(image_file(image, "JPEG"))
    )


@pytest.mark.parametrize("format", SAVED)
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_truncated_file_is_refused(format: str, share: float) -> None:
    noise = np.random.default_rng(3).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = image_file(Image.fromarray(noise), format, **SAVED[format])
    with pytest.raises(PictureError) as caught:
        decode_picture(data[: int(share * len(data))])
    assert caught.value.fault == "damaged"


@pytest.mark.parametrize("format", SAVED)
def test_damaged_bytes_give_a_picture_or_a_picture_error_and_nothing_else(format: str) -> None:
    generator = np.random.default_rng(4)
    whole = np.frombuffer(image_file(Image.fromarray(scene()), format, **SAVED[format]), np.uint8)
    outcomes = set()
    for _ in range(150):
        data = whole.copy()
        places = generator.integers(0, min(len(data), 400), 3)
        data[places] = generator.integers(0, 256, 3)
        try:
            outcomes.add(decode_picture(data.tobytes(), Limits(max_pixels=1_000_000)).dtype.name)
        except PictureError as error:
            outcomes.add(error.fault)
    assert outcomes <= {"uint8", "damaged", "format", "pixels", "scans"}
    assert len(outcomes) > 1


@pytest.mark.parametrize(
    ("content", "fault", "message"),
    [
        (b"", "empty", "got an empty file, expected JPEG, PNG, WEBP, BMP, GIF, TIFF, PPM; fetch the file again"),
        (b"\xff", "format", "got no picture, or one of an unknown format, expected JPEG, PNG, "),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "format", "got no picture that is read, but an SVG"),
        (b"PK\x03\x04" + bytes(100), "format", "got no picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "format", "got no picture"),
        (b"\xff\xd8\xff\xe0" + bytes(50), "damaged", "got a damaged or truncated picture"),
    ],
)
def test_files_that_are_not_pictures_are_named(tmp_path: Path, content: bytes, fault: str, message: str) -> None:
    path = tmp_path / "picture.jpg"
    path.write_bytes(content)
    with pytest.raises(PictureError) as caught:
        decode_picture(path)
    assert caught.value.fault == fault
    assert caught.value.reason.startswith(message)
    assert str(caught.value) == f"{path}: {caught.value.reason}"
    assert caught.value.name == str(path)


@pytest.mark.parametrize("format", ["ICO", "PCX", "TGA", "SGI", "JPEG2000"])
def test_parsers_of_other_formats_are_never_reached(format: str) -> None:
    with pytest.raises(UnknownFormatError):
        decode_picture(image_file(Image.fromarray(scene(32, 32)), format))


@pytest.mark.parametrize("name", ["missing.jpg", "", "a\0b.jpg"])
def test_a_path_that_cannot_be_read_is_a_picture_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(PictureError, match=r"\(.+\)") as caught:
        decode_picture(tmp_path / name)
    assert caught.value.fault == "unreadable"


BOMBS = {
    "65 Mpx": png_declaring(6500, 10_000, bytes(9)),
    "within Pillow's warning": png_declaring(10_000, 10_000, bytes(9)),
    "beyond Pillow's error": png_declaring(2**31 - 1, 2**31 - 1, bytes(9)),
    "GIF": b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0, 0, 0) + b",\0\0\0\0\1\0\1\0\0\2\2D\1\0;",
    "BMP": b"BM"
    + struct.pack("<IHHIIiiHHIIiiII", 58, 0, 0, 54, 40, 60_000, 60_000, 1, 24, 0, 4, 1, 1, 0, 0)
    + bytes(4),
    "PPM": b"P6 60000 60000 255\n" + bytes(30),
    "WEBP": b"RIFF\x1e\0\0\0WEBPVP8L\x11\0\0\0\x2f\xff\xff\xff\x0f" + bytes(13),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_header_that_declares_too_many_pixels_is_refused_before_decoding(name: str) -> None:
    began = time.process_time()
    with pytest.raises(PictureError, match=r"\d+ x \d+") as caught:
        decode_picture(BOMBS[name])
    assert caught.value.fault == "pixels"
    assert time.process_time() - began < 0.5


def test_the_pixel_cap_is_the_callers() -> None:
    data = image_file(Image.fromarray(scene(40, 60)), "PNG")
    assert decode_picture(data, Limits(max_pixels=2400)).shape == (40, 60, 3)
    with pytest.raises(PictureError, match=r"60 x 40.*2399"):
        decode_picture(data, Limits(max_pixels=2399))
    with pytest.raises(PictureError, match="60 x 40"):
        preprocess(Image.fromarray(scene(40, 60)), SPECS["32"], Limits(max_pixels=2399))


def test_a_jpeg_of_very_many_scans_is_refused_at_once() -> None:
    whole = image_file(Image.fromarray(scene(600, 800)), "JPEG", progressive=True)
    bomb = with_scans(whole, 200)
    began = time.process_time()
    with pytest.raises(PictureError, match="32") as caught:
        decode_picture(bomb)
    assert caught.value.fault == "scans"
    assert time.process_time() - began < 0.2


def test_an_array_is_resized_as_it_is_and_not_changed() -> None:
    picture = scene()
    before = picture.copy()
    got = preprocess(picture, SPECS["32"])
    np.testing.assert_array_equal(got, resize_picture(picture, SPECS["32"]))
    got[:] = 0
    np.testing.assert_array_equal(picture, before)
    np.testing.assert_array_equal(  # a view with its channels reversed, as BGR code makes them
        preprocess(picture[..., ::-1], SPECS["32"]), preprocess(picture[..., ::-1].copy(), SPECS["32"])
    )


def test_an_array_of_the_final_size_is_handed_back_unchanged_in_fresh_memory() -> None:
    picture = scene(32, 32)
    got = resize_picture(picture, SPECS["32"])
    np.testing.assert_array_equal(got, picture)
    assert not np.shares_memory(got, picture)
    assert got.flags.writeable


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.zeros((4, 4, 3), np.float32), r"float32.*\(4, 4, 3\).*uint8 RGB \(H, W, 3\)"),
        (np.zeros((4, 4), np.uint8), r"uint8.*\(4, 4\).*uint8 RGB \(H, W, 3\)"),
        (np.zeros((4, 4, 4), np.uint8), r"\(4, 4, 4\).*uint8 RGB"),
        (np.zeros((2, 4, 4, 3), np.uint8), r"\(2, 4, 4, 3\).*uint8 RGB"),
        (np.zeros((0, 4, 3), np.uint8), r"\(0, 4, 3\)"),
        (Image.new("RGB", (4, 0)), "4 x 0 pixels"),
        (17, r" int,.*uint8 RGB \(H, W, 3\)"),
        (None, "NoneType"),
    ],
)
def test_anything_else_is_an_input_error(value: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        preprocess(value, SPECS["32"])


def test_normalise_agrees_with_double_precision_and_lays_channels_first() -> None:
    batch = np.random.default_rng(5).integers(0, 256, (3, 6, 4, 3), dtype=np.uint8)
    expected = (batch / 255.0 - NORMAL["mean"]) / NORMAL["std"]
    got = normalise(batch, SPECS["32"])
    assert (got.dtype, got.shape, got.flags.c_contiguous) == (np.dtype(np.float32), (3, 3, 6, 4), True)
    np.testing.assert_allclose(got, expected.transpose(0, 3, 1, 2), atol=1e-6)


@pytest.mark.parametrize("shape", [(4, 4, 3), (1, 3, 4, 4)])
def test_normalise_refuses_other_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"uint8 RGB \(N, H, W, 3\)"):
        normalise(np.zeros(shape, np.uint8), SPECS["32"])
