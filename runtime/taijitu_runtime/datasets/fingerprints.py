"""Identify pictures by their content: the sha256 of each."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from taijitu_runtime.console import Progress
from taijitu_runtime.datasets.found import Content, Found, bytes_of, name_of
from taijitu_runtime.datasets.lists import LIST_SUFFIXES
from taijitu_runtime.datasets.names import Role
from taijitu_runtime.errors import UnreadablePictureError
from taijitu_runtime.files import sha256_of
from taijitu_runtime.machine import usable_cores

CHUNK = 256  # pictures per task
UNREADABLE = hashlib.sha256().hexdigest()
"""The fingerprint of a file that cannot be read, or is empty."""


def fingerprints(contents: Sequence[Content] | NDArray[np.uint8]) -> list[str]:
    """Return the sha256, in hexadecimal, of each picture's file, or of its pixels if it has no file.

    That of a file that cannot be read is UNREADABLE; the error comes when it is decoded.
    """

    def of_chunk(first: int) -> list[str]:
        return [_fingerprint(content) for content in contents[first : first + CHUNK]]

    found: list[str] = []
    with ThreadPoolExecutor(usable_cores()) as pool, Progress(len(contents), what="hashing") as bar:
        for chunk in pool.map(of_chunk, range(0, len(contents), CHUNK)):
            found += chunk
            bar.advance(len(chunk))
    return found


def copies_among(prints: Sequence[str]) -> list[tuple[int, int]]:
    """Return the index of every copy, and that of the first picture of its content, except of unreadable files."""
    first: dict[str, int] = {}
    copies = ((i, first.setdefault(one, i)) for i, one in enumerate(prints) if one != UNREADABLE)
    return [(copy, original) for copy, original in copies if copy != original]


def dataset_sha256(found: Found, prints: Mapping[Role, Sequence[str]]) -> str:
    """Return the sha256 of an archive, or one for all pictures of a folder or list.

    The latter is that of the lines "SHA256  ./PATH" in the order of the paths' bytes. For a folder that holds only its
    pictures, a shell gives the same:
    cd FOLDER && find -L . -type f ! -path '*/.*' -print0 | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum
    A list file has its own line among them. Pixels without files have a number instead of a path.

    Args:
        found: The data set.
        prints: The fingerprints of its pictures, by split.
    """
    is_file = found.source.is_file()
    is_list = is_file and found.source.suffix.lower() in LIST_SUFFIXES
    if is_file and not is_list:
        return sha256_of(found.source)
    lines = {os.fsencode(found.source.name): sha256_of(found.source)} if is_list else {}
    within = f"{found.source.parent if is_list else found.source}{os.sep}"
    for role, split in found.splits.items():
        for number, (content, fingerprint) in enumerate(zip(split.contents, prints[role], strict=True)):
            name = f"{split.name}/{number}" if isinstance(content, np.ndarray) else name_of(content)
            lines[os.fsencode(name.removeprefix(within))] = fingerprint
    total = hashlib.sha256()
    for path in sorted(lines):
        total.update(f"{lines[path]}  ./".encode() + path + b"\n")
    return total.hexdigest()


def _fingerprint(content: Content) -> str:
    if isinstance(content, np.ndarray):
        return hashlib.sha256(content.tobytes()).hexdigest()
    try:
        return hashlib.sha256(bytes_of(content)).hexdigest()
    except UnreadablePictureError:
        return UNREADABLE
