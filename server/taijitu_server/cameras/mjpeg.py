"""The parts of an MJPEG stream: JPEGs for the viewers of a camera."""

from __future__ import annotations

import io

from PIL import Image, ImageDraw, ImageFont

BOUNDARY = b"--frame\r\n"
QUALITY, MAX_JPEG_SIDE = 80, 65_500  # libjpeg's
EMPTY_SIZE = (640, 360)
TEXT_ROWS = 18  # in the height of an image
TEXT_WIDTH = 0.9  # of the width of an image
DARKENING, WHITE = 0.35, (255, 255, 255)


def part_from_image(image: Image.Image, width: int) -> bytes:
    """Encode an image, at most `width` pixels wide, as a part.

    The boundary follows it, because browsers show a part once they have read the boundary after it.
    """
    share = min(width / image.width, MAX_JPEG_SIDE / image.height)
    if share < 1:
        size = (max(1, round(image.width * share)), max(1, round(image.height * share)))
        image = image.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=QUALITY)
    head = b"Content-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % file.tell()
    return head + file.getvalue() + b"\r\n" + BOUNDARY


def banner(last: Image.Image | None, text: str) -> Image.Image:
    """Return the last image, darkened, or a black one, with lines of text, to show while no frames come."""
    dark = Image.new("RGB", EMPTY_SIZE) if last is None else last.point(lambda value: value * DARKENING)
    size = max(12, dark.height // TEXT_ROWS)
    longest = max(map(ImageFont.load_default(size).getlength, text.split("\n")))
    font = ImageFont.load_default(max(1, min(size, size * TEXT_WIDTH * dark.width / longest)))
    ImageDraw.Draw(dark).text(
        (dark.width // 2, dark.height // 2), text, fill=WHITE, font=font, anchor="mm", align="center"
    )
    return dark
