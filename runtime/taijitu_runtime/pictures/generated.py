"""Generate pictures that are the same, bit for bit, on every machine: integer arithmetic only, version and seed given.

They look like photographs as far as a network cares: large soft shapes, hard edges, texture and grain in all colours.
The pictures of a version never change, because artefacts carry answers to them; better pictures are a new version.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from taijitu_runtime.card import InputSpec
from taijitu_runtime.pictures.resizing.geometry import unresized_size

VERSION = 1

OCTAVES = ((1, 5), (3, 4), (8, 2), (21, 1))
"""Cells along each side of the grids of random colours, and the weight of each grid."""

MOST_SHAPES = 6
GRAIN = 12
LEAST_SIDE = 8
LARGE_SIDE = 256

# The finaliser of splitmix64 (Steele, Lea and Flood, 2014).
_STEP = 0x9E3779B97F4A7C15
_FACTORS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
_WORD = 2**64


def is_exact(seed: int) -> bool:
    """Return whether the picture of a seed has the size to which pictures are resized, so that no resize is needed."""
    return seed % 4 == 3


def proof_picture(seed: int, spec: InputSpec) -> NDArray[np.uint8]:
    """Return the picture of a seed for a network's input: uint8 RGB (H, W, 3).

    Every fourth seed's picture is as large as `spec` resizes to; the others have odd sides from 3/5 to 5/2 of that (for
    large inputs 6/5), of any aspect.
    """
    width, height = unresized_size(spec)
    if not is_exact(seed):
        height, width = (_odd_side(side, number) for side, number in zip((height, width), _numbers(seed, 0, 2)))
    return _drawn(seed, height, width)


def _odd_side(side: int, number: int) -> int:
    most = 250 if side <= LARGE_SIDE else 120
    return max(LEAST_SIDE, side * (60 + int(number) % (most - 60)) // 100) | 1


def _drawn(seed: int, height: int, width: int) -> NDArray[np.uint8]:
    pixels = np.zeros((height, width, 3), np.int64)
    for stream, (cells, weight) in enumerate(OCTAVES, start=1):
        pixels += weight * _soft_colours(seed, stream, cells, height, width)
    # Twice the contrast around the middle: a mean of several grids is greyer than photographs.
    pixels = 2 * pixels // sum(weight for _, weight in OCTAVES) - 128
    for shape in range(int(_numbers(seed, 10, 1)[0]) % (MOST_SHAPES + 1)):
        _add_shape(pixels, _numbers(seed, 11 + shape, 9))
    grain = _numbers(seed, 30, height * width * 3).reshape(height, width, 3) % (2 * GRAIN + 1) - GRAIN
    drawn: NDArray[np.uint8] = np.clip(pixels + grain, 0, 255).astype(np.uint8)
    return drawn


def _soft_colours(seed: int, stream: int, cells: int, height: int, width: int) -> NDArray[np.int64]:
    """Interpolate a grid of random colours, [0, 255], between its points: int64 (height, width, 3)."""
    grid = (_numbers(seed, stream, (cells + 1) ** 2 * 3) % 256).reshape(cells + 1, cells + 1, 3)
    row, down = _places(height, cells)
    column, right = _places(width, cells)
    rows: NDArray[np.int64] = grid[row] * (256 - down[:, None, None]) + grid[row + 1] * down[:, None, None]
    colours: NDArray[np.int64] = rows[:, column] * (256 - right[:, None]) + rows[:, column + 1] * right[:, None]
    return colours >> 16


def _places(side: int, cells: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the cell of each pixel along a side, and how far into it the pixel's centre is, in 256ths."""
    place = (2 * np.arange(side, dtype=np.int64) + 1) * (128 * cells) // side
    return place >> 8, place & 255


def _add_shape(pixels: NDArray[np.int64], numbers: NDArray[np.int64]) -> None:
    """Draw a filled ellipse or rectangle that lets a quarter of the colours below through."""
    height, width = pixels.shape[:2]
    y, x = int(numbers[0]) % height, int(numbers[1]) % width
    half_height = 1 + int(numbers[2]) % max(1, height // 2)
    half_width = 1 + int(numbers[3]) % max(1, width // 2)
    down = np.abs(np.arange(height, dtype=np.int64) - y)[:, None]
    right = np.abs(np.arange(width, dtype=np.int64) - x)[None, :]
    if int(numbers[4]) % 2:
        inside = (down * half_width) ** 2 + (right * half_height) ** 2 <= (half_height * half_width) ** 2
    else:
        inside = (down <= half_height) & (right <= half_width)
    pixels[inside] = (pixels[inside] + 3 * (numbers[5:8] % 256)) // 4


def _numbers(seed: int, stream: int, count: int) -> NDArray[np.int64]:
    """Return `count` random numbers from 0 to 2**31 - 1: splitmix64's upper bits, int64 (count,)."""
    start = ((seed << 8) + stream) * _FACTORS[0] % _WORD
    # Arrays throughout: arithmetic of uint64 arrays wraps around silently in every release of NumPy.
    word = (np.arange(1, count + 1, dtype=np.uint64) * _array(_STEP)) + _array(start)
    word = (word ^ (word >> _array(30))) * _array(_FACTORS[0])
    word = (word ^ (word >> _array(27))) * _array(_FACTORS[1])
    return ((word ^ (word >> _array(31))) >> _array(33)).astype(np.int64)


def _array(value: int) -> NDArray[np.uint64]:
    return np.array([value], np.uint64)
