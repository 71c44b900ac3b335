"""What the names of files and folders say: splits, suffixes of pictures, digits, and what is nobody's data."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Literal, TypeAlias

Role: TypeAlias = Literal["train", "val", "test", ""]

# Names of split folders, of shards and of the column "split" in a list, in any case, by what the split is for.
SPLIT_NAMES: dict[Role, tuple[str, ...]] = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
_ROLES = {name: role for role, names in SPLIT_NAMES.items() for name in names}

# A hint that saves opening the file: what it holds is decided by its first bytes when it is decoded.
PICTURE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"}
)
# What systems leave in every folder; nobody misses it.
_LITTER = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", "picasa.ini", "icon\r"})
_TEXTS = frozenset({".txt", ".md", ".csv", ".tsv", ".json", ".xml", ".yaml", ".yml", ".toml", ".html", ".log"})


def role_of(name: str) -> Role:
    """What the split called `name` is for; empty where it is not the name of a split."""
    return _ROLES.get(name.lower(), "")


def has_picture_suffix(name: str) -> bool:
    """Whether the suffix says that a file is a picture."""
    return PurePosixPath(name).suffix.lower() in PICTURE_SUFFIXES


def is_hidden(parts: Sequence[str]) -> bool:
    """Whether a path lies in a hidden folder or is hidden itself; "." is the folder itself."""
    return any((part.startswith(".") and part not in (".", "..")) or part == "__MACOSX" for part in parts)


def is_litter(name: str) -> bool:
    """Whether a file is one that systems leave in every folder, or a text that lies next to pictures."""
    return name.lower() in _LITTER or PurePosixPath(name).suffix.lower() in _TEXTS


def digit_in_name(name: str) -> str | None:
    """The label of 003479-num7.png, as MNIST is published in PNGs: "7"."""
    match = re.fullmatch(r"\d+-num(\d)\.png", name)
    return match and match[1]
