"""Test thousands of damaged pictures.

python -m tools.fuzz_pictures FOLDER [--inputs 20000] [--seed 1] [--only INDEX]

Photographs of FOLDER in every format, each changed at random: bits, bytes, numbers, pieces cut out, repeated or taken
from another file. Each must give uint8 pixels or a specific class of PictureError, within a second of
processor time. Exit code 1 and the inputs' numbers if one does not. An input depends only on the seed and its
number: after a crash of the process, continue with `--only` and the last printed number plus one.
"""

from __future__ import annotations

import argparse
import io
import random
import time
import traceback
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from taijitu_runtime.card import InputSpec
from taijitu_runtime.errors import PictureError
from taijitu_runtime.pictures.formats import FORMATS
from taijitu_runtime.pictures.limits import Limits
from taijitu_runtime.pictures.preprocess import preprocess

SPEC = InputSpec(
    height=32, width=32, resize="shorter_side", resize_size=36, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)
)
LIMIT_S = 1.0
PROGRESS = 1000
PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def main() -> int:
    """Print one line for each class of outcome; 1 if an input crashed or hung."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder of photographs (*.jpg, *.JPEG, *.png)")
    parser.add_argument("--inputs", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int, help="run this input only, and show its traceback")
    options = parser.parse_args()
    seeds = seeds_from(options.folder)
    outcomes: Counter[str] = Counter()
    failed: list[str] = []
    slowest_s, slowest = 0.0, 0
    for index in range(options.inputs) if options.only is None else [options.only]:
        data = damaged(seeds, random.Random(f"{options.seed} {index}"))
        began = time.process_time()
        outcome = outcome_of(data, show=options.only is not None)
        seconds = time.process_time() - began
        outcomes[outcome] += 1
        slowest_s, slowest = max((slowest_s, slowest), (seconds, index))
        if outcome.startswith("!") or seconds > LIMIT_S:
            failed.append(f"input {index}: {outcome}, {seconds:.2f} s")
        if index % PROGRESS == PROGRESS - 1:
            print(f"{index + 1} inputs, {len(failed)} failed", flush=True)
    for outcome, count in outcomes.most_common():
        print(f"{count:7}  {outcome}")
    print(f"slowest: input {slowest}, {1e3 * slowest_s:.0f} ms; failed: {len(failed)}")
    print("\n".join(failed[:20]))
    return 1 if failed else 0


def seeds_from(folder: Path) -> list[bytes]:
    """Return a few unchanged photographs, and small ones in every format and in JPEG's and PNG's variants."""
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".jpeg", ".png"))[:12]
    if not paths:
        raise SystemExit(f"{folder}: got no photographs, expected *.jpg, *.JPEG or *.png")
    seeds = [path.read_bytes() for path in paths]
    exif = Image.Exif()
    exif[0x0112] = 6
    for path in paths:
        image = Image.open(path).convert("RGB")
        image.thumbnail((120, 120))
        layer = image.copy()
        layer.putalpha(200)
        seeds += [saved(image, format) for format in FORMATS]
        seeds += [
            saved(image, "JPEG", progressive=True, exif=exif),
            saved(image.convert("CMYK"), "JPEG"),
            saved(image.convert("L"), "JPEG", quality=30),
            saved(image, "JPEG", restart_marker_rows=1),
            saved(layer, "PNG", exif=exif),
            saved(image.quantize(16), "PNG", transparency=3),
            saved(Image.fromarray(np.asarray(image)[..., 0].astype(np.uint16) * 257), "PNG"),
            saved(image, "WEBP", lossless=True, exif=exif),
            saved(image, "GIF", save_all=True, append_images=[image.rotate(90)]),
            saved(image, "TIFF", compression="tiff_lzw"),
        ]
    return seeds


def saved(image: Image.Image, format: str, **options: object) -> bytes:
    """Save the image as `format`; return the file's bytes."""
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def damaged(seeds: list[bytes], draw: random.Random) -> bytes:
    """Return one of `seeds`, changed 1 to 8 times; half of the changes are near its beginning, where headers are."""
    data = bytearray(draw.choice(seeds))
    for _ in range(draw.choice((1, 1, 2, 4, 8))):
        if not data:
            break
        place = draw.randrange(min(len(data), 600) if draw.random() < 0.5 else len(data))
        length = min(1 << draw.randrange(12), len(data) - place)
        change = draw.randrange(7)
        if change == 0:
            data[place] ^= 1 << draw.randrange(8)
        elif change == 1:
            data[place] = draw.randrange(256)
        elif change == 2:
            width = draw.choice((1, 2, 4))
            number = draw.choice(NUMBERS) & ((1 << 8 * width) - 1)
            data[place : place + width] = number.to_bytes(width, draw.choice(("big", "little")))
        elif change == 3:
            del data[place : place + length]
        elif change == 4:
            data[place:place] = data[place : place + length] * draw.choice((1, 2, 50))
        elif change == 5:
            other = draw.choice(seeds)
            start = draw.randrange(len(other))
            data[place : place + length] = other[start : start + length]
        else:
            del data[place + 1 :]
    return with_checksums(data) if data.startswith(PNG_MAGIC) and draw.random() < 0.8 else bytes(data)


def with_checksums(data: bytearray) -> bytes:
    """Correct the checksums of a PNG's chunks; otherwise only the check of these would be tested."""
    place = len(PNG_MAGIC)
    while place + 12 <= len(data):
        end = place + 8 + int.from_bytes(data[place : place + 4], "big")
        if end + 4 > len(data):
            break
        data[end : end + 4] = zlib.crc32(data[place + 4 : end]).to_bytes(4, "big")
        place = end + 4
    return bytes(data)


def outcome_of(data: bytes, show: bool) -> str:
    """Return "pixels", the name of a PictureError's class, or "!" and the unexpected exception."""
    try:
        pixels = preprocess(data, SPEC, Limits())
    except PictureError as error:
        if show:
            traceback.print_exc()
        return type(error).__name__ if "fault" in vars(type(error)) else f"!{type(error).__name__} without a fault"
    except Exception as error:
        if show:
            traceback.print_exc()
        return f"!{type(error).__name__}: {error}"
    return "pixels" if pixels.shape == (32, 32, 3) and pixels.dtype == np.uint8 else f"!{pixels.dtype}{pixels.shape}"


if __name__ == "__main__":
    raise SystemExit(main())
