"""Make pictures of none of CIFAR's labels: textures, and mixtures of its training pictures; the data of --other.

python benchmarks/outliers.py --data cifar10-jpeg.tar.xz --out DIR [--pictures FOLDER]

Unpacks the data set into DIR and adds train/none/: 24,000 pictures, as JPEG at the same quality, so that compression
does not tell them apart. They are textures, tiles of pictures in another order, means of two or three pictures,
enlarged details, blurred and inverted pictures. With --pictures, a third of them is kept, and two thirds are parts of
the folder's photographs, most with one of its cut-outs, which are pictures with a transparent background, on them.
"""

from __future__ import annotations

import argparse
import itertools
import tarfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

SIDE = 32
JPEG_QUALITY = 75
SOURCE_SIDE = 256  # of a photograph or cut-out, in pixels, before a part of it is taken
NONE = "none"

Pixels = NDArray[np.uint8]
Values = NDArray[np.float64]


def main() -> int:
    """Write the data set."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="tar of CIFAR-10's pictures, train/ and test/")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--pictures", type=Path, help="folder of photographs and cut-outs of none of CIFAR's labels")
    args = parser.parse_args()
    with tarfile.open(args.data) as tar:
        tar.extractall(args.out, filter="data")
    sources = sorted((args.out / "train").glob("*/*.jpg"))
    folder = args.out / "train" / NONE
    folder.mkdir()
    made: Iterable[Pixels] = outliers(sources)
    if args.pictures:
        kept = list(made)[::3]
        made = itertools.chain(kept, scenes(args.pictures, 2 * len(kept)))
    for number, pixels in enumerate(made):
        Image.fromarray(pixels).save(folder / f"{number:05d}.jpg", quality=JPEG_QUALITY)
    return 0


def outliers(sources: list[Path], seed: int = 7) -> Iterator[Pixels]:
    """Yield 24,000 pictures, uint8 (32, 32, 3)."""
    generator = np.random.default_rng(seed)

    def drawn() -> Pixels:
        return np.asarray(Image.open(sources[generator.integers(len(sources))]).convert("RGB"))

    yield from textures(6000, seed=99)
    kinds: list[tuple[int, Callable[[], Pixels]]] = [
        (3000, lambda: shuffled(generator, drawn, 4, int(generator.integers(1, 9)))),
        (3000, lambda: shuffled(generator, drawn, 2, int(generator.integers(2, 5)))),
        (4000, lambda: mean_of([drawn() for _ in range(int(generator.integers(2, 4)))])),
        (4000, lambda: detail(generator, drawn())),
        (2000, lambda: blurred(drawn(), int(generator.integers(3, 6)))),
        (2000, lambda: 255 - drawn()),
    ]
    for count, make in kinds:
        for _ in range(count):
            yield make()


def shuffled(generator: np.random.Generator, drawn: Callable[[], Pixels], tiles: int, pictures: int) -> Pixels:
    """Return tiles * tiles parts of some pictures, each at the place of another."""
    side, found = SIDE // tiles, np.empty((SIDE, SIDE, 3), np.uint8)
    sources = [drawn() for _ in range(pictures)]
    for place, origin in enumerate(generator.permutation(tiles * tiles).tolist()):
        (row, column), (from_row, from_column) = ((side * i for i in divmod(at, tiles)) for at in (place, origin))
        part = sources[generator.integers(pictures)][from_row : from_row + side, from_column : from_column + side]
        found[row : row + side, column : column + side] = part
    return found


def mean_of(pictures: list[Pixels]) -> Pixels:
    """Return the mean of some pictures."""
    return np.asarray(np.rint(np.mean(pictures, axis=0)), np.uint8)


def detail(generator: np.random.Generator, picture: Pixels) -> Pixels:
    """Return a square of 6 to 12 pixels, enlarged."""
    side = int(generator.integers(6, 13))
    top, left = generator.integers(0, SIDE + 1 - side, 2).tolist()
    return _resized(picture[top : top + side, left : left + side], SIDE)


def blurred(picture: Pixels, side: int) -> Pixels:
    """Return the picture, reduced to `side` pixels and enlarged."""
    return _resized(np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.BOX)), SIDE)


def scenes(folder: Path, count: int, seed: int = 3) -> Iterator[Pixels]:
    """Yield parts of the photographs in a folder, three quarters of them with one of its cut-outs on them."""
    generator = np.random.default_rng(seed)
    photographs: list[Image.Image] = []
    cut_outs: list[Image.Image] = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with Image.open(path) as image:
            image.thumbnail((SOURCE_SIDE, SOURCE_SIDE))
            picture = image.convert("RGBA")
        is_whole = picture.getextrema()[3][0] == 255
        (photographs if is_whole else cut_outs).append(picture)
    for _ in range(count):
        scene = _part(generator, photographs[generator.integers(len(photographs))])
        if generator.random() < 0.75:
            scene.alpha_composite(*_placed(generator, cut_outs[generator.integers(len(cut_outs))]))
        yield np.asarray(scene.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def _part(generator: np.random.Generator, photograph: Image.Image) -> Image.Image:
    """Return a square of a photograph, of its shorter side or a part of it, four times as large as the result."""
    side = int(min(photograph.size) * generator.uniform(0.2, 1))
    left, top = (int(generator.integers(0, length - side + 1)) for length in photograph.size)
    return photograph.crop((left, top, left + side, top + side)).resize((4 * SIDE, 4 * SIDE))


def _placed(generator: np.random.Generator, cut_out: Image.Image) -> tuple[Image.Image, tuple[int, int]]:
    """Return a cut-out that covers a half to all of the scene's side, mirrored at times, and its place."""
    scale = 4 * SIDE * generator.uniform(0.5, 1) / max(cut_out.size)
    wide, high = (max(1, int(scale * length)) for length in cut_out.size)
    found = cut_out.resize((wide, high))
    if generator.random() < 0.5:
        found = found.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return found, (int(generator.integers(0, 4 * SIDE - wide + 1)), int(generator.integers(0, 4 * SIDE - high + 1)))


def textures(count: int, seed: int = 0) -> Pixels:
    """Return noise of any colour, gratings, tiles, clouds, polygons and gradients, in turn: uint8 (N, 32, 32, 3)."""
    generator = np.random.default_rng(seed)
    kinds = (_noise, _grating, _tiles, _clouds, _polygons, _gradient)
    found = np.empty((count, SIDE, SIDE, 3), np.uint8)
    for number in range(count):
        values = kinds[number % len(kinds)](generator)
        values = values + generator.choice([0, 0.03, 0.1]) * generator.standard_normal(values.shape)
        found[number] = np.rint(255 * values).clip(0, 255)
    return found


def _noise(generator: np.random.Generator) -> Values:
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(SIDE), np.fft.fftfreq(SIDE)))
    frequency[0, 0] = 1 / SIDE
    spectrum = np.fft.fft2(generator.standard_normal((3, SIDE, SIDE))) * frequency ** -generator.uniform(0, 2)
    planes = np.fft.ifft2(spectrum).real
    planes -= planes.min((1, 2), keepdims=True)
    return np.asarray((planes / planes.max((1, 2), keepdims=True)).transpose(1, 2, 0))


def _grating(generator: np.random.Generator) -> Values:
    wave = 0.5 + 0.5 * np.sin(2 * np.pi * generator.uniform(1, 12) * _along(generator) + generator.uniform(0, 6))
    return _between(generator, np.rint(wave) if generator.random() < 0.5 else wave)


def _gradient(generator: np.random.Generator) -> Values:
    along = _along(generator)
    return _between(generator, (along - np.min(along)) / np.ptp(along))


def _tiles(generator: np.random.Generator) -> Values:
    return _enlarged(generator, Image.Resampling.NEAREST)


def _clouds(generator: np.random.Generator) -> Values:
    return _enlarged(generator, Image.Resampling.BICUBIC)


def _polygons(generator: np.random.Generator) -> Values:
    def colour() -> tuple[int, ...]:
        return tuple(generator.integers(0, 256, 3).tolist())

    image = Image.new("RGB", (4 * SIDE, 4 * SIDE), colour())
    for _ in range(generator.integers(1, 7)):
        corners = generator.uniform(0, 4 * SIDE, (int(generator.integers(3, 6)), 2)).tolist()
        ImageDraw.Draw(image).polygon([tuple(corner) for corner in corners], fill=colour())
    return np.asarray(image.resize((SIDE, SIDE))) / 255


def _along(generator: np.random.Generator) -> Values:
    """Return each pixel's place along a line of any direction."""
    rows, columns = np.mgrid[:SIDE, :SIDE] / SIDE
    angle = generator.uniform(0, 2 * np.pi)
    return np.asarray(columns * np.cos(angle) + rows * np.sin(angle))


def _between(generator: np.random.Generator, shares: Values) -> Values:
    first, second = generator.random((2, 3))
    return np.asarray(shares[..., None] * first + (1 - shares[..., None]) * second)


def _enlarged(generator: np.random.Generator, kind: Image.Resampling) -> Values:
    side = int(generator.integers(2, 9))
    planes = generator.random((3, side, side)).astype(np.float32)
    return np.stack([np.asarray(Image.fromarray(plane).resize((SIDE, SIDE), kind)) for plane in planes], axis=-1)


def _resized(pixels: Pixels, side: int) -> Pixels:
    return np.asarray(Image.fromarray(np.ascontiguousarray(pixels)).resize((side, side), Image.Resampling.BICUBIC))


if __name__ == "__main__":
    raise SystemExit(main())
