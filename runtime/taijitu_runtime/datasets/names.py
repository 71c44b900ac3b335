"""Names of files and folders: splits, suffixes of pictures, digits, and files that are not data."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Literal, TypeAlias

Role: TypeAlias = Literal["train", "val", "test", ""]

# Names of split folders, of shards and of the column "split" in a list, in any case, by role.
SPLIT_NAMES: dict[Role, tuple[str, ...]] = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validate", "validation", "dev", "eval", "evaluation"),
    "test": ("test", "testing"),
}
_ROLES = {name: role for role, names in SPLIT_NAMES.items() for name in names}
_BEHIND = re.compile(r"(?<=.)([\s_-]*(set|data|images|pictures|photos|split))+$")  # training_set, test images

# A hint that saves opening the file; when it is decoded, its first bytes decide.
PICTURE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"}
)
# Folders and files that operating systems leave everywhere.
_SYSTEM_FOLDERS = frozenset(
    {"__MACOSX", "@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information", "lost+found"}
)
_LITTER = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", "picasa.ini", "icon\r"})
_TEXTS = frozenset({".txt", ".md", ".csv", ".tsv", ".json", ".xml", ".yaml", ".yml", ".toml", ".html", ".log"})


def role_of(name: str) -> Role:
    """Return the role of the split called `name`; empty where it is not the name of a split."""
    return _ROLES.get(_BEHIND.sub("", name.strip().lower()), "")


def role_in(name: str) -> Role:
    """Return the role that one of the words in a name tells: seg_train, test2017."""
    return next((role for word in re.findall("[a-z]+", name.lower()) if (role := role_of(word))), "")


def has_picture_suffix(name: str) -> bool:
    """Return whether a name has the suffix of a picture."""
    return PurePosixPath(name).suffix.lower() in PICTURE_SUFFIXES


def is_hidden(parts: Sequence[str]) -> bool:
    """Return whether a path is hidden or in a hidden folder; "." is the folder itself."""
    return any((part.startswith(".") and part not in (".", "..")) or part in _SYSTEM_FOLDERS for part in parts)


def is_system_file(name: str) -> bool:
    """Return whether operating systems leave such a file in every folder, or it is a text next to pictures."""
    return name.lower() in _LITTER or PurePosixPath(name).suffix.lower() in _TEXTS


def digit_in_name(name: str) -> str | None:
    """Return the label of a name such as 003479-num7.png, as in MNIST published as PNGs: "7"."""
    match = re.fullmatch(r"\d+-num(\d)\.\w+", name, re.IGNORECASE)
    return match and match[1]
