"""What viewers of a camera get to see: JPEGs, one part of a multipart stream each."""

from __future__ import annotations

import io

from PIL import Image, ImageDraw, ImageFont

BOUNDARY = b"--frame\r\n"
QUALITY = 80
NOTHING_YET = (640, 360)
ROWS, SHARE = 18, 0.9  # of text in a picture's height; of its width that text may take
SHADE, WHITE = 0.35, (255, 255, 255)


def part_from_picture(picture: Image.Image, width: int) -> bytes:
    """A picture, no wider than `width` pixels, with the boundary after it: browsers show a part once they see that."""
    if picture.width > width:
        size = (width, max(1, round(picture.height * width / picture.width)))
        picture = picture.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=QUALITY)
    head = b"Content-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % file.tell()
    return head + file.getvalue() + b"\r\n" + BOUNDARY


def banner(last: Image.Image | None, text: str) -> Image.Image:
    """The last picture, darkened, or a black one, with lines of text: what is shown while no frames come."""
    dark = Image.new("RGB", NOTHING_YET) if last is None else last.point(lambda value: value * SHADE)
    size = max(12, dark.height // ROWS)
    longest = max(map(ImageFont.load_default(size).getlength, text.split("\n")))
    font = ImageFont.load_default(min(size, size * SHARE * dark.width / longest))
    ImageDraw.Draw(dark).text(
        (dark.width // 2, dark.height // 2), text, fill=WHITE, font=font, anchor="mm", align="center"
    )
    return dark
