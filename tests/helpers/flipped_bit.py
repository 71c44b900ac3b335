"""Damage a file of torch.save as a bad disk might."""

from __future__ import annotations

import zipfile
from pathlib import Path


def flip_a_bit_of_the_weights(path: Path) -> None:
    """Change one bit of the largest tensor, of a mantissa: the number stays finite, and near."""
    whole = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        largest = max(archive.infolist(), key=lambda record: record.file_size)
        at = whole.index(archive.read(largest)) + largest.file_size // 2
    whole[at] ^= 1
    path.write_bytes(whole)
