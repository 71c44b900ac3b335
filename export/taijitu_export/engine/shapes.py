"""The shapes that are asked for, and the optimisation profile from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from taijitu_runtime.bench.inputs import Shape
from taijitu_runtime.engine_card import ShapeRange
from taijitu_runtime.errors import ArtefactError, UsageError

MAX_BATCH = 16
"""The largest batch, where no flag limits it: what docs/serving.md recommends for a GPU. The usual one is 1."""

MAX_SIDE = 2**31 - 1
"""The largest number of elements along a dimension that the libraries take."""


@dataclass(frozen=True)
class Shapes:
    """The values of --minShapes, --optShapes and --maxShapes: shapes by the name of the input."""

    min: Mapping[str, Shape]
    opt: Mapping[str, Shape]
    max: Mapping[str, Shape]


def text_from_shapes(shapes: Mapping[str, Shape]) -> str:
    """Return shapes as trtexec writes them, and `shapes_from_text` reads them."""
    return ",".join(f"{name}:{'x'.join(map(str, shape))}" for name, shape in shapes.items())


def profile_for(inputs: Mapping[str, Shape], asked: Shapes) -> dict[str, ShapeRange]:
    """Return the range of each input's shape, for inputs by name with -1 for a dynamic dimension.

    Missing shapes follow from those that are given, as in trtexec: one flag alone fixes the shape. An input that no
    flag names has 1 to MAX_BATCH pictures, and is tuned for one. UsageError for shapes that do not fit the inputs.
    """
    for flag, shapes in (("--minShapes", asked.min), ("--optShapes", asked.opt), ("--maxShapes", asked.max)):
        for name, shape in shapes.items():
            _check(flag, name, shape, inputs)
    return {name: _range(name, shape, asked) for name, shape in inputs.items()}


def _check(flag: str, name: str, shape: Shape, inputs: Mapping[str, Shape]) -> None:
    got = f"got {flag}={name}:{'x'.join(map(str, shape))}"
    if name not in inputs:
        raise UsageError(f"{got}, expected an input of the network: {', '.join(inputs)}")
    if max(shape, default=0) > MAX_SIDE:
        raise UsageError(f"{got}, expected at most {MAX_SIDE} in every dimension")
    expected = inputs[name]
    if len(shape) != len(expected) or any(size < 1 or fixed not in (-1, size) for size, fixed in zip(shape, expected)):
        text = "x".join("N" if size == -1 else str(size) for size in expected)
        raise UsageError(f"{got}, expected {name}:{text}" + (" with N at least 1" if "N" in text else ""))


def _range(name: str, shape: Shape, asked: Shapes) -> ShapeRange:
    given = [shapes.get(name) for shapes in (asked.min, asked.opt, asked.max)]
    if not any(given):
        return ShapeRange(_batch(name, shape, 1), _batch(name, shape, 1), _batch(name, shape, MAX_BATCH))
    low, usual, high = given
    usual = usual or high or low
    assert usual is not None
    try:
        return ShapeRange(low or usual, usual, high or usual)
    except ArtefactError:
        raise UsageError(
            f"got {low or usual}, {usual} and {high or usual} for {name}, expected min <= opt <= max in every dimension"
        ) from None


def _batch(name: str, shape: Shape, batch: int) -> Shape:
    if not shape:
        return shape
    if -1 in shape[1:]:
        raise UsageError(f"got {name} {shape} without a shape for dynamic sizes; give --minShapes and --maxShapes")
    return (batch if shape[0] == -1 else shape[0], *shape[1:])
