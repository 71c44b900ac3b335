"""Data sets: how a folder, a tar, a list or a published file becomes pictures with labels and splits.

NumPy and the standard library only; pictures are decoded by `taijitu_runtime.pictures`.
"""

from taijitu_runtime.datasets.found import Content, Encoded, Found, LeftOut, Member, Split, bytes_of, name_of
from taijitu_runtime.datasets.layout import LEVELS, Level, Reading
from taijitu_runtime.datasets.names import PICTURE_SUFFIXES, SPLIT_NAMES, Role, role_of
from taijitu_runtime.datasets.picture_set import PictureSet, calibration_and_judging, evaluation_pictures, prepare
from taijitu_runtime.datasets.read import FORMS, read_dataset, sha256_of
from taijitu_runtime.datasets.scan import scan_folder

__all__ = [
    "FORMS",
    "LEVELS",
    "PICTURE_SUFFIXES",
    "SPLIT_NAMES",
    "Content",
    "Encoded",
    "Found",
    "LeftOut",
    "Level",
    "Member",
    "PictureSet",
    "Reading",
    "Role",
    "Split",
    "bytes_of",
    "calibration_and_judging",
    "evaluation_pictures",
    "name_of",
    "prepare",
    "read_dataset",
    "role_of",
    "scan_folder",
    "sha256_of",
]
