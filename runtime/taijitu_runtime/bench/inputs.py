"""The input of a measurement: the shapes of --shapes, and random arrays."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taijitu_runtime.errors import UsageError

Shape = tuple[int, ...]


def shapes_from_text(text: str | None) -> dict[str, Shape]:
    """trtexec's "images:8x32x32x3,other:1x4" by name; UsageError for anything else."""
    shapes: dict[str, Shape] = {}
    for part in text.split(",") if text is not None else ():
        match = re.fullmatch(r"'?(.+?)'?:(\d+(?:x\d+)*)", part)
        if match is None:
            raise UsageError(f"got --shapes={text}, expected NAME:SHAPE such as images:8x32x32x3")
        if match[1] in shapes:
            raise UsageError(f"got --shapes={text} with {match[1]} twice, expected each input once; remove one")
        shapes[match[1]] = tuple(int(size) for size in match[2].split("x"))
    return shapes


def random_array(shape: Shape, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Random pictures, uint8 in [0, 255], normal floating-point numbers, or zeros and ones; the same in every run."""
    random = np.random.default_rng(0)
    if dtype == np.uint8:
        return random.integers(0, 256, shape, dtype=np.uint8)
    if np.issubdtype(dtype, np.floating):
        return random.standard_normal(shape, dtype=np.float32).astype(dtype, copy=False)
    return random.integers(0, 2, shape).astype(dtype)  # an index that every table has
