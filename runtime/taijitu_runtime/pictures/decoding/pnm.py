"""Decode binary PGM and PPM with any maximum value; Pillow's decoder is a loop in Python except for 255 and 65535."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from taijitu_runtime.pictures.decoding.pillow import eight_bits_from_sixteen
from taijitu_runtime.pictures.headers import PPM_HEADER, PPM_HEADER_BYTES
from taijitu_runtime.pictures.limits import damaged

LARGEST, LARGEST_WIDE = 255, 65535


def pixels_from_pnm(data: bytes) -> NDArray[np.uint8]:
    """Decode a PGM or PPM that `inspect` accepted to uint8 RGB (H, W, 3), with the same result as Pillow.

    Raises:
        DamagedPictureError: There are too few pixels, or the maximum value is not in 1 to 65535.
    """
    found = PPM_HEADER.match(data[:PPM_HEADER_BYTES])
    if not found:
        raise damaged("its header is cut off")
    width, height, largest = (int(number) for number in found.groups())
    if not 1 <= largest <= LARGEST_WIDE or not width or not height:
        raise damaged(f"a PPM of {width} x {height} pixels up to {largest}")
    channels = 3 if data[1:2] == b"6" else 1
    count, kind = width * height * channels, np.dtype(np.uint8 if largest <= LARGEST else ">u2")
    if len(data) - found.end() < count * kind.itemsize:
        raise damaged("a PPM of too few pixels")
    values = np.frombuffer(data, kind, count, found.end()).reshape(height, width, channels)
    eight_bits = np.asarray(values, np.uint8) if largest == LARGEST else _table(largest, channels)[values]
    return np.repeat(eight_bits, 3, axis=2) if channels == 1 else eight_bits


def _table(largest: int, channels: int) -> NDArray[np.uint8]:
    values = np.arange((LARGEST if largest <= LARGEST else LARGEST_WIDE) + 1)
    table: NDArray[np.uint8]
    if channels == 1 and largest > LARGEST:  # Pillow's grey of more than 8 bits has 16, which become 8 as everywhere
        sixteen = np.minimum(np.rint(values / largest * LARGEST_WIDE), LARGEST_WIDE).astype(int)
        table = eight_bits_from_sixteen(sixteen)
    else:
        table = np.minimum(np.rint(values / largest * LARGEST), LARGEST).astype(np.uint8)
    return table
