"""Read MNIST and data sets of its form: idx files, compressed or not."""

from __future__ import annotations

import gzip
import math
import struct
import zlib

import numpy as np
from numpy.typing import NDArray

from taijitu_runtime.datasets.found import Files, Found, Split
from taijitu_runtime.datasets.names import Role
from taijitu_runtime.errors import DataError

DIGITS = tuple(str(digit) for digit in range(10))
UINT8 = 0x08  # the third byte of an idx file; the fourth is the number of dimensions


def mnist_idx(files: Files) -> Found:
    """Read train-images-idx3-ubyte, train-labels-idx1-ubyte and t10k-...: grey pictures, labels "0" to "9"."""
    splits: dict[Role, Split] = {"train": _split(files, "train", "train"), "test": _split(files, "t10k", "test")}
    return Found(files.where, "MNIST idx files", DIGITS, splits)


def _split(files: Files, prefix: str, name: str) -> Split:
    images = _idx(files, f"{prefix}-images", 3)
    targets = _idx(files, f"{prefix}-labels", 1)
    if len(images) != len(targets):
        raise DataError(
            f"{files.where}: {prefix}: got {len(images)} pictures and {len(targets)} labels; fetch both files again"
        )
    if len(targets) and np.max(targets) >= len(DIGITS):
        raise DataError(f"{files.where}: {prefix}-labels: got label {np.max(targets)}, expected 0 to 9; fetch it again")
    return Split(name, images, targets.astype(np.int64))


def _idx(files: Files, stem: str, dimensions: int) -> NDArray[np.uint8]:
    spellings = [f"{stem}{mark}idx{dimensions}-ubyte{packed}" for packed in ("", ".gz") for mark in "-."]
    name = next((spelling for spelling in spellings if spelling in files), spellings[0])
    content, where = files.read(name), f"{files.where}: {name}"
    if name.endswith(".gz"):
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"{where}: not a readable gzip file ({error}); fetch it again") from None
    header = 4 + 4 * dimensions
    expected = struct.pack(">BBBB", 0, 0, UINT8, dimensions)
    if content[:4] != expected or len(content) < header:
        raise DataError(
            f"{where}: got {content[:4].hex() or 'nothing'} at its beginning, expected {expected.hex()}, "
            f"an idx file of bytes with {dimensions} dimensions; fetch it again"
        )
    shape = struct.unpack(f">{dimensions}I", content[4:header])
    if len(content) - header != math.prod(shape):
        counts = " x ".join(map(str, shape))
        raise DataError(f"{where}: got {len(content) - header} bytes, expected {counts}; fetch it again")
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)
