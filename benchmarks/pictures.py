"""Measure the time to read pictures, and whether the pixels are training's.

python benchmarks/pictures.py [--data DIR]

DIR holds photos/*.JPEG and cifar10-jpeg.tar.xz. One thread; medians of rounds in which the readers alternate, so that
other work of the machine slows all of them. "Pillow" is Image.open and torchvision's Resize and CenterCrop;
"OpenCV" is imdecode and resize with INTER_AREA, which gives different pixels and is shown for its speed only.
"""

from __future__ import annotations

import argparse
import io
import os
import platform
import statistics
import struct
import tarfile
import tempfile
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

import cv2
import numpy as np
import PIL
import simplejpeg
from numpy.typing import NDArray
from PIL import Image
from torchvision.transforms.v2 import functional as transforms

from taijitu_export.to_onnx.cli import main as export
from taijitu_runtime.card import InputSpec
from taijitu_runtime.classifier import Classifier
from taijitu_runtime.errors import PictureError
from taijitu_runtime.pictures.preprocess import decode_picture, preprocess
from taijitu_runtime.pictures.resizing.resize import resize_picture

ROOT = Path(__file__).parent.parent
CHECKPOINT = ROOT / "checkpoints" / "yynet_small_16_cifar10.pt"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SMALL = InputSpec(height=32, width=32, resize="shorter_side", resize_size=32, mean=MEAN, std=STD)
USUAL = InputSpec(height=224, width=224, resize="shorter_side", resize_size=256, mean=MEAN, std=STD)
WHOLE = InputSpec(height=224, width=224, resize="stretch", resize_size=224, mean=MEAN, std=STD)
WHOLE_SMALL = InputSpec(height=32, width=32, resize="stretch", resize_size=32, mean=MEAN, std=STD)


def main() -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data", help="default: ../shared/data")
    data = parser.parse_args().data
    cv2.setNumThreads(1)
    versions = f"Pillow {PIL.__version__}, simplejpeg {simplejpeg.__version__}, OpenCV {cv2.__version__}"
    print(f"{datetime.now(timezone.utc):%Y-%m-%d}, Python {platform.python_version()}, {versions}")
    print(f"one thread of {os.cpu_count()}, load {os.getloadavg()[0]:.1f}\n")
    photographs = [path.read_bytes() for path in sorted((data / "photos").glob("*.JPEG"))]
    cifar = tar_contents(data / "cifar10-jpeg.tar.xz", "test/")
    large = mosaic(photographs)
    print(f"{'microseconds a picture':<32}{'taijitu':>10}{'Pillow':>10}{'OpenCV':>10}{'Pillow/taijitu':>16}")
    row("32x32 JPEG to 32", cifar[::50], SMALL, rounds=30)
    row("500x375 JPEG to 224 of 256", photographs, USUAL, rounds=5)
    row("500x375 JPEG to 32", photographs, SMALL, rounds=5)
    row("4000x3000 JPEG to 224 of 256", [large], USUAL, rounds=9)
    print("\nlargest difference from training's pixels, of 255")
    print(f"  {len(cifar)} CIFAR-10 test pictures at 32: {max(difference(data, SMALL) for data in cifar)}")
    print(f"  {len(photographs)} photographs at 224 of 256: {max(difference(data, USUAL) for data in photographs)}")
    print("\nshrunk while decoding, compared with the full decode")
    shrunk(large, photographs)
    print("\nhostile input, milliseconds until it is refused")
    for name, content in hostile(photographs[0]).items():
        began = time.perf_counter()
        try:
            preprocess(content, USUAL)
            outcome = "decoded"
        except PictureError as error:
            outcome = type(error).__name__
        print(f"  {name:<44}{1e3 * (time.perf_counter() - began):8.2f}  {outcome}")
    return 0


def row(name: str, pictures: list[bytes], spec: InputSpec, rounds: int) -> None:
    """Print the median microseconds a picture of every reader."""
    readers: dict[str, Callable[[bytes], object]] = {
        "taijitu": lambda data: preprocess(data, spec),
        "Pillow": lambda data: by_training(data, spec),
        "OpenCV": lambda data: by_opencv(data, spec),
    }
    times_us: dict[str, list[float]] = {reader: [] for reader in readers}
    for _ in range(rounds):
        for reader, read in readers.items():
            began = time.perf_counter()
            for data in pictures:
                read(data)
            times_us[reader].append((time.perf_counter() - began) / len(pictures) * 1e6)
    median_us = {reader: statistics.median(times) for reader, times in times_us.items()}
    columns = "".join(f"{median_us[reader]:10.0f}" for reader in readers)
    print(f"{name:<32}{columns}{median_us['Pillow'] / median_us['taijitu']:16.1f}", flush=True)


def by_training(data: bytes, spec: InputSpec) -> NDArray[np.uint8]:
    """Read as people's own evaluation does: torchvision on Pillow's images."""
    with Image.open(io.BytesIO(data)) as image:
        resized = transforms.resize(image.convert("RGB"), [spec.resize_size], antialias=True)
        return np.asarray(transforms.center_crop(resized, [spec.height, spec.width]), dtype=np.uint8)


def by_opencv(data: bytes, spec: InputSpec) -> NDArray[np.uint8]:
    """Read as a user's own loop does: other pixels, some of them outside training's crop."""
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    resized = cv2.resize(decoded, (spec.width, spec.height), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.cvtColor(resized, cv2.COLOR_BGR2RGB), np.uint8)


def difference(data: bytes, spec: InputSpec) -> int:
    """Return the largest difference of a pixel from training's, of 255."""
    return int(np.abs(preprocess(data, spec).astype(int) - by_training(data, spec)).max())


def shrunk(large: bytes, photographs: list[bytes]) -> None:
    """Print the error of decoding at a fraction of the size, and whether answers change."""
    images = [Image.open(io.BytesIO(data)).convert("RGB") for data in photographs]
    enlarged = [jpeg(image.resize((2000, 1500))) for image in images]
    uneven = [jpeg(image.resize((2001, 1503))) for image in images]
    for name, pictures, spec in (
        ("a 4000x3000 mosaic of photographs at 224 of 256", [large], USUAL),
        ("photographs enlarged to 2000x1500 at 224 of 256", enlarged, USUAL),
        ("photographs enlarged to 2000x1500 at 32", enlarged, SMALL),
        ("photographs enlarged to 2001x1503 at 224 of 256", uneven, USUAL),
        ("photographs enlarged to 2001x1503, whole, at 224", uneven, WHOLE),
        ("photographs enlarged to 2001x1503, whole, at 32", uneven, WHOLE_SMALL),
    ):
        pairs = [(preprocess(data, spec).astype(int), resize_picture(decode_picture(data), spec)) for data in pictures]
        psnr_db = min(10 * np.log10(255**2 / max(np.square(got - exact).mean(), 1e-9)) for got, exact in pairs)
        largest = max(int(np.abs(got - exact).max()) for got, exact in pairs)
        print(f"  {name}: at least {psnr_db:.1f} dB, at most {largest} of 255")
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model.onnx"
        if export([str(CHECKPOINT), "-o", str(model)]) != 0:
            raise SystemExit("the checkpoint could not be exported")
        with Classifier.from_file(model) as classifier:
            got = [classifier.predict(data).best.label for data in enlarged]
            exact = [classifier.predict(decode_picture(data)).best.label for data in enlarged]
    same = sum(a == b for a, b in zip(got, exact))
    print(f"  top-1 of {CHECKPOINT.stem} the same on {same} of {len(enlarged)} enlarged photographs")


def hostile(photograph: bytes) -> dict[str, bytes]:
    """Return pictures, by name, that cost much to decode or cannot be decoded."""
    image = Image.open(io.BytesIO(photograph)).convert("RGB")
    progressive = jpeg(image, progressive=True)
    last = progressive.rindex(b"\xff\xda")
    black = io.BytesIO()
    Image.new("RGB", (7000, 7000)).save(black, "PNG")
    frame = photograph.index(b"\xff\xc0")

    def sized(width: int, height: int) -> bytes:
        return photograph[: frame + 5] + struct.pack(">HH", height, width) + photograph[frame + 9 :]

    bombs = {
        f"{count} more scans, {len(progressive[last:-2]) * count / 1e6:.0f} MB": progressive[:-2]
        + progressive[last:-2] * count
        + progressive[-2:]
        for count in (400, 4000)
    }
    return bombs | {
        "80,000 scans without content": b"\xff\xd8" + b"\xff\xda\0\2\0" * 80_000,
        "a PNG of 49 Mpx in 143 kB": black.getvalue(),
        "a JPEG that declares 65,000 x 65,000": sized(65_000, 65_000),
        "a JPEG that declares 6,000 x 6,000": sized(6000, 6000),
        "a JPEG cut in the middle": photograph[: len(photograph) // 2],
        "16 MB of fill bytes": b"\xff\xd8\xff\xe0" + b"\xff" * (16 << 20),
        "4 million empty segments": b"\xff\xd8" + b"\xff\xe0\0\2" * (4 << 20),
        "16 MB of random bytes": np.random.default_rng(1).bytes(16 << 20),
        "an SVG": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    }


def mosaic(photographs: list[bytes]) -> bytes:
    """Make a JPEG of 4000 x 3000 pixels with as much detail as 64 photographs."""
    tiles = [np.asarray(Image.open(io.BytesIO(data)).convert("RGB").resize((500, 375))) for data in photographs[:64]]
    rows = [np.concatenate(tiles[start : start + 8], axis=1) for start in range(0, 64, 8)]
    return jpeg(Image.fromarray(np.concatenate(rows)))


def jpeg(image: Image.Image, progressive: bool = False) -> bytes:
    """Encode the image as a JPEG of quality 90."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=90, progressive=progressive)
    return file.getvalue()


def tar_contents(path: Path, prefix: str) -> list[bytes]:
    """Return the files of a tar whose names contain `prefix`, in order."""
    with tarfile.open(path) as tar:
        files = (tar.extractfile(member) for member in tar if prefix in member.name and member.isfile())
        return [file.read() for file in files if file is not None]


if __name__ == "__main__":
    raise SystemExit(main())
