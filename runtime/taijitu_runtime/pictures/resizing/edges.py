"""Correct the edges of a JPEG that was shrunk while decoding: its last pixels may be partly outside the picture."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def weigh_edges(pixels: NDArray[np.uint8], extent: tuple[float, float, float, float], size: tuple[int, int]) -> None:
    """Change the pixels, uint8 (H, W, 3), in place for a resize from `extent` to `size` (width, height).

    A filter gives full weight to a row or column of which, for instance, only an eighth is within the picture. This
    function replaces its value by one that gives the filter's correct result with full weight. Only the outermost row
    or column of the result depends on it, as long as the picture is scaled down.

    Args:
        pixels: The decoded pixels.
        extent: Left, top, right, bottom of the picture in `pixels`.
        size: Width and height of the result.
    """
    left, top, right, bottom = extent
    _weigh(pixels, top, bottom, size[1])
    _weigh(pixels.transpose(1, 0, 2), left, right, size[0])


def _weigh(lines: NDArray[np.uint8], begin: float, end: float, count: int) -> None:
    if begin == 0 and end == len(lines):
        return
    if begin > 0:  # the picture was rotated, and the partial line is at the other end
        lines, begin, end = lines[::-1], len(lines) - end, len(lines) - begin
    last = len(lines) - 1
    inside = end - last
    step = max(1.0, (end - begin) / count)
    first = max(0, int(end - 1.5 * step))
    distances = np.abs(np.arange(first, last + 1) + 0.5 - (end - step / 2)) / step
    weights = np.maximum(0, 1 - distances)
    weights[-1] *= inside
    if weights.sum() <= 0:
        return
    result = np.tensordot(weights / weights.sum(), lines[first:].astype(np.float64), 1)
    lines[last] = np.rint(inside * lines[last] + (1 - inside) * result)
