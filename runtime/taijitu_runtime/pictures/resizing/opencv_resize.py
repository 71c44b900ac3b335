"""Bilinear and bicubic resizing as OpenCV does it, without antialiasing: for networks that were trained behind it.

In NumPy, because the boards that answer have no OpenCV. Within 1 level of cv2.resize of 8-bit pictures, whose weights
are rounded to 11 bits and differ by processor.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

CUBIC = -0.75
"""The cubic kernel's parameter in OpenCV (and in torch without antialiasing); Pillow's is -0.5."""


def resize_as_opencv(
    picture: NDArray[np.uint8], size: tuple[int, int], crop: tuple[int, int, int, int], interpolation: str
) -> NDArray[np.uint8]:
    """Resize uint8 (H, W, C) as cv2.INTER_LINEAR or cv2.INTER_CUBIC and crop the result; a fresh array.

    Args:
        picture: Pixels in [0, 255].
        size: Width and height of the whole result.
        crop: Left, top, right and bottom of the part that is wanted; no other pixel is computed.
        interpolation: "bilinear" or "bicubic".
    """
    left, top, right, bottom = crop
    rows, row_weights = _taps(picture.shape[0], size[1], np.arange(top, bottom), interpolation)
    columns, column_weights = _taps(picture.shape[1], size[0], np.arange(left, right), interpolation)
    # Only the columns that are used, and rows before columns: for a photograph that becomes small most are not.
    first, last = int(np.min(columns)), int(np.max(columns)) + 1
    by_rows = np.zeros((bottom - top, last - first, picture.shape[2]), np.float32)
    for tap, weights in zip(rows, row_weights):
        by_rows += picture[tap, first:last] * weights[:, None, None]
    result = np.zeros((bottom - top, right - left, picture.shape[2]), np.float32)
    for tap, weights in zip(columns - first, column_weights):
        result += by_rows[:, tap] * weights[:, None]
    pixels: NDArray[np.uint8] = np.floor(result + 0.5).clip(0, 255).astype(np.uint8)
    return pixels


def _taps(
    source: int, target: int, wanted: NDArray[np.intp], interpolation: str
) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Return the `source` pixels of each `wanted` pixel of `target`, and their weights: both (taps, wanted).

    Beyond the edge the edge repeats.
    """
    at = (wanted + 0.5) * (source / target) - 0.5
    first = np.floor(at)
    share = at - first
    if interpolation == "bilinear":
        weights = np.stack([1 - share, share])
        offsets = np.arange(2)
    else:
        weights = np.stack([_cubic_far(1 + share), _cubic_near(share), _cubic_near(1 - share), _cubic_far(2 - share)])
        offsets = np.arange(-1, 3)
    taps = (first[None, :] + offsets[:, None]).clip(0, source - 1)
    return taps.astype(np.intp), weights.astype(np.float32)


def _cubic_near(distance: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    return ((CUBIC + 2) * distance - (CUBIC + 3)) * distance**2 + 1


def _cubic_far(distance: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    return ((CUBIC * distance - 5 * CUBIC) * distance + 8 * CUBIC) * distance - 4 * CUBIC
