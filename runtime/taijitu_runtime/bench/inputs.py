"""The input of a measurement: the shapes of --shapes, and random arrays."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taijitu_runtime.errors import UsageError

Shape = tuple[int, ...]


def shapes_from_text(text: str) -> dict[str, Shape]:
    """Parse trtexec's "images:8x32x32x3,other:1x4". ValueError, saying what was expected, for anything else."""
    shapes: dict[str, Shape] = {}
    for part in text.split(","):
        name, _, sizes = part.rpartition(":")
        if not name or not re.fullmatch(r"\d+(x\d+)*", sizes):
            raise ValueError(f"got {part!r}, expected NAME:SHAPE such as images:8x32x32x3")
        name = name.strip("'\"")
        if name in shapes:
            raise ValueError(f"got {name} twice, expected each input once")
        shapes[name] = tuple(map(int, sizes.split("x")))
    return shapes


def requested_shapes(text: str | None) -> dict[str, Shape]:
    """Return the shapes of --shapes by the name of the input; empty for None. UsageError for any other text."""
    try:
        return {} if text is None else shapes_from_text(text)
    except ValueError as error:
        raise UsageError(f"got --shapes={text}: {error}") from None


def random_array(shape: Shape, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return random pictures, uint8 in [0, 255], normal floats, or zeros and ones; the same in every run."""
    random = np.random.default_rng(0)
    if dtype == np.uint8:
        return random.integers(0, 256, shape, dtype=np.uint8)
    if np.issubdtype(dtype, np.floating):
        return random.standard_normal(shape, dtype=np.float32).astype(dtype, copy=False)
    return random.integers(0, 2, shape).astype(dtype)  # an index that every table has
