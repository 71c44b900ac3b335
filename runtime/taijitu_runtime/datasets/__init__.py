"""Data sets: read a folder, a tar, a list or published files as pictures with labels and splits.

NumPy and the standard library only; pictures are decoded by `taijitu_runtime.pictures`.
"""

from taijitu_runtime.datasets.fingerprints import UNREADABLE, dataset_sha256, fingerprints
from taijitu_runtime.datasets.found import Content, Encoded, Found, LeftOut, Member, Split, bytes_of, chosen, name_of
from taijitu_runtime.datasets.held_out import HeldOut, TrainedOn
from taijitu_runtime.datasets.judging import (
    calibration_and_judging,
    evaluation_and_other_pictures,
    evaluation_pictures,
)
from taijitu_runtime.datasets.label_statistics import counts_in_words, label_counts, warnings_of
from taijitu_runtime.datasets.layout import LEVELS, Level, Reading
from taijitu_runtime.datasets.names import PICTURE_SUFFIXES, SPLIT_NAMES, Role, role_of
from taijitu_runtime.datasets.picture_set import PictureSet, check_skipping, prepare
from taijitu_runtime.datasets.read import FORMS, read_dataset
from taijitu_runtime.datasets.scan import scan_folder

__all__ = [
    "FORMS",
    "LEVELS",
    "PICTURE_SUFFIXES",
    "SPLIT_NAMES",
    "UNREADABLE",
    "Content",
    "Encoded",
    "Found",
    "HeldOut",
    "LeftOut",
    "Level",
    "Member",
    "PictureSet",
    "Reading",
    "Role",
    "Split",
    "TrainedOn",
    "bytes_of",
    "calibration_and_judging",
    "check_skipping",
    "chosen",
    "counts_in_words",
    "dataset_sha256",
    "evaluation_and_other_pictures",
    "evaluation_pictures",
    "fingerprints",
    "label_counts",
    "name_of",
    "prepare",
    "read_dataset",
    "role_of",
    "scan_folder",
    "warnings_of",
]
