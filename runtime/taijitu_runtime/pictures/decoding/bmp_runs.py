"""Decode run-length BMPs, for which Pillow's decoder needs seconds per kilobyte."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from taijitu_runtime.errors import UnknownFormatError
from taijitu_runtime.pictures.limits import damaged

EIGHT_BITS, FOUR_BITS = 1, 2
END_OF_LINE, END_OF_BITMAP, DELTA = 0, 1, 2
# Each is a step of a loop in Python; a picture of a million pixels without two equal neighbours takes 4,000.
MAX_RUNS = 500_000
NUMBER_OF_DIGIT = bytes.maketrans(b"0123456789abcdef", bytes(range(16)))


def is_run_length(data: bytes) -> bool:
    """Return whether a BMP that `inspect` accepted is run-length encoded."""
    return data[14:18] != b"\x0c\0\0\0" and _number(data, 30, 4) in (EIGHT_BITS, FOUR_BITS)


def pixels_from_runs(data: bytes, width: int, height: int) -> NDArray[np.uint8]:
    """Decode a run-length BMP to uint8 RGB (H, W, 3); skipped pixels get the palette's first colour.

    Raises:
        DamagedPictureError: The file ends before its pixels.
        UnknownFormatError: It has more than MAX_RUNS runs.
    """
    bits = 8 if _number(data, 30, 4) == EIGHT_BITS else 4
    if _number(data, 28, 2) != bits:
        raise damaged(f"a BMP of {_number(data, 28, 2)} bits a pixel in runs of {bits}")
    indices = np.frombuffer(_indices(data, width, height, bits), np.uint8).reshape(height, width)
    return _palette(data, bits)[indices if _is_from_top(data) else indices[::-1]]


def _indices(data: bytes, width: int, height: int, bits: int) -> bytearray:
    indices = bytearray(width * height)
    place, x, y = _number(data, 10, 4), 0, 0
    for _ in range(MAX_RUNS):
        if y >= height or (y == height - 1 and x >= width):
            return indices
        if place + 2 > len(data):
            raise damaged("a BMP without its end")
        count, value = data[place], data[place + 1]
        place += 2
        if count:
            run = _pair(value, bits) * count
        elif value == END_OF_LINE:
            x, y = 0, y + 1
            continue
        elif value == END_OF_BITMAP:
            return indices
        elif value == DELTA:
            if place + 2 > len(data):
                raise damaged("a BMP without its end")
            x, y = x + data[place], y + data[place + 1]
            place += 2
            continue
        else:
            count = value
            length = (count * bits + 7) // 8
            run = data[place : place + length]
            if len(run) < length:
                raise damaged("a BMP without its end")
            run = run if bits == 8 else run.hex().encode().translate(NUMBER_OF_DIGIT)
            place += length + length % 2
        shown = max(0, min(count, width - x))  # pixels beyond the edge are not shown
        start = y * width + x
        indices[start : start + shown] = run[:shown]
        x += count
    raise UnknownFormatError(f"got a BMP of more than {MAX_RUNS} runs, expected no more; convert it, as to a PNG")


def _pair(value: int, bits: int) -> bytes:
    return bytes((value,)) if bits == 8 else bytes((value >> 4, value & 15))


def _palette(data: bytes, bits: int) -> NDArray[np.uint8]:
    start = 14 + _number(data, 14, 4)
    count = min(_number(data, 46, 4) or 1 << bits, 1 << bits)
    stored = np.frombuffer(data[start : start + 4 * count], np.uint8)
    colours = np.zeros((256, 3), np.uint8)
    whole = stored[: len(stored) // 4 * 4].reshape(-1, 4)
    colours[: len(whole)] = whole[:, 2::-1]
    return colours


def _is_from_top(data: bytes) -> bool:
    return data[25] == 0xFF


def _number(data: bytes, place: int, length: int) -> int:
    return int.from_bytes(data[place : place + length], "little")
