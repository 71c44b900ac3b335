"""The tensor of an inference request: its shape, and its elements from JSON or from bytes."""

from __future__ import annotations

import math
import struct
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taijitu_server.errors import HttpError, bad_request
from taijitu_server.http.forms import bytes_from_base64
from taijitu_server.kserve.fields import checked_list, value_text
from taijitu_server.models.batcher import Rows

MAX_DIMENSIONS = 8


def shape_from_json(given: object) -> tuple[int, ...]:
    """Return a shape; HttpError 400 unless it is a list of whole numbers from 1."""
    shape = checked_list(given, "shape")
    if not shape or len(shape) > MAX_DIMENSIONS or not all(type(side) is int and 1 <= side < 2**31 for side in shape):
        sides = ", ".join(map(value_text, shape[:MAX_DIMENSIONS]))
        raise bad_request(f"shape: got [{sides}], expected a list of whole numbers from 1")
    return tuple(shape)


def elements_from_texts(data: object, count: int) -> list[bytes]:
    """Return the `count` elements of a BYTES tensor in JSON, each as base64; HttpError 400 for anything else."""
    items = checked_list(data, "data")
    if len(items) != count:
        raise bad_request(f"got {len(items)} elements, expected {count} as the shape says")
    flat = [item[0] if isinstance(item, list) and len(item) == 1 else item for item in items]
    if not all(isinstance(item, str) for item in flat):
        raise bad_request("data: expected base64 text for each picture file")
    return [bytes_from_base64(item) for item in flat]


def elements_from_binary(binary: memoryview, count: int) -> list[bytes]:
    """Return the `count` elements of a BYTES tensor, each preceded by its length in 4 bytes, little-endian.

    Raises:
        HttpError: 400 for data that does not match.
    """
    elements: list[bytes] = []
    at = 0
    while at < len(binary):
        if len(elements) == count:
            raise bad_request(f"got more than {count} elements, expected {count} as the shape says")
        if len(binary) - at < 4:
            raise bad_request("the BYTES tensor is truncated within a length")
        (length,) = struct.unpack_from("<I", binary, at)
        if length > len(binary) - at - 4:
            remaining = len(binary) - at - 4
            raise bad_request(f"got an element of {length} bytes in the BYTES tensor, of which {remaining} remain")
        elements.append(bytes(binary[at + 4 : at + 4 + length]))
        at += 4 + length
    if len(elements) != count:
        raise bad_request(f"got {len(elements)} elements, expected {count} as the shape says")
    return elements


def rows_from_binary(binary: memoryview, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Rows:
    """Return rows of `shape` from little-endian bytes; HttpError 400 for another number of them, NaN or infinity."""
    expected = math.prod(shape) * dtype.itemsize
    if len(binary) != expected:
        raise bad_request(f"got {len(binary)} bytes, expected {expected} for the shape {list(shape)}")
    rows = np.frombuffer(binary, dtype.newbyteorder("<")).astype(dtype, copy=False).reshape(shape)
    return _finite(rows)


def rows_from_numbers(data: object, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Rows:
    """Convert a tensor in JSON, flat or nested as in `shape`, to rows.

    Rows are checked and converted one by one, because NumPy blocks all other threads while it converts a list.

    Raises:
        HttpError: 400 for data that does not match.
    """
    items, of_row = checked_list(data, "data"), math.prod(shape[1:])
    if len(items) == shape[0] and type(items[0]) is list:
        flat_rows = (_flat(item, shape[1:]) for item in items)
    elif len(items) == math.prod(shape):
        flat_rows = (items[start : start + of_row] for start in range(0, len(items), of_row))
    else:
        raise _wrong_numbers(shape)
    return np.stack([_row(flat, shape, dtype) for flat in flat_rows])


def _flat(item: object, sides: tuple[int, ...]) -> list[Any]:
    """Flatten nested lists whose lengths are `sides`; return an empty list where they have other lengths."""
    level = [item]
    for side in sides:
        if not all(type(inner) is list and len(inner) == side for inner in level):
            return []
        level = list(chain.from_iterable(level))  # type: ignore[arg-type]  # they are lists
    return level


def _row(flat: list[Any], shape: tuple[int, ...], dtype: np.dtype[Any]) -> Rows:
    if not flat or not set(map(type, flat)) <= {int, float}:
        raise _wrong_numbers(shape)
    numbers = np.array(flat)
    if dtype.kind == "u" and not (numbers.min() >= 0 and numbers.max() <= 255 and _are_whole(numbers)):
        raise bad_request("data: got other numbers in a tensor of UINT8, expected whole numbers from 0 to 255")
    with np.errstate(over="ignore"):
        return _finite(numbers.astype(dtype).reshape(shape[1:]))


def _are_whole(numbers: NDArray[Any]) -> bool:
    return numbers.dtype.kind != "f" or not (numbers % 1).any()  # some languages write 12 as 12.0


def _wrong_numbers(shape: tuple[int, ...]) -> HttpError:
    return bad_request(f"data: expected {math.prod(shape)} numbers, flat or nested as in the shape {list(shape)}")


def _finite(rows: Rows) -> Rows:
    if rows.dtype.kind == "f" and not np.isfinite(rows).all():
        raise bad_request("data: got NaN or infinite numbers, expected finite ones")
    return rows
