"""Check that a data set has what training needs: labels, and pictures of each one in every split."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from taijitu_runtime import datasets
from taijitu_runtime.datasets import Found, Role, label_counts
from taijitu_runtime.errors import DataError, listed

FORMS = f"{datasets.FORMS}, or WebDataset shards train-*.tar and val-*.tar"


def check_names(found: Found, other: str | None = None) -> None:
    """Raise DataError where pictures have no labels, or only one apart from `other`, or one that cannot be printed."""
    if not found.labels and any(len(split) for split in found.splits.values()):
        raise DataError(f"{found.source}: got pictures without labels, expected {FORMS}")
    labels = tuple(label for label in found.labels if label != other)
    check_labels(found.source, labels, f" ({found.left_out} left out)" if found.left_out else "")


def check_labels(path: Path, labels: tuple[str, ...], left_out: str = "") -> None:
    """Raise DataError where there are fewer than two labels, or one that cannot be printed. `left_out`: in words."""
    if unprintable := [label for label in labels if not label.isprintable()]:
        raise DataError(f"{path}: label {unprintable[0]!r} is not printable text; rename its folder")
    if not labels:
        raise DataError(f"{path}: got no labels with pictures to train on{left_out}, expected {FORMS}")
    if len(labels) == 1:
        raise DataError(
            f"{path}: got only the label {labels[0]!r}{left_out}, expected two or more, each with pictures of its own; "
            "add a folder of pictures that show something else"
        )


def check_trained(found: Found) -> None:
    """Raise DataError if there is nothing to train on, or a label has no pictures there."""
    if "train" not in found.splits:
        name = next(split.name for split in found.splits.values())
        raise DataError(f"{found.source}: got {name}/ without train/, expected both, with <label>/*.jpg in each")
    if missing := _without_pictures(found.splits["train"].known_targets, found.labels):
        raise DataError(
            f"{found.source}: no pictures to train on of: {missing}; add some, or remove the label's folder"
        )


def check_judged(found: Found) -> None:
    """Raise DataError if there is nothing to judge on, or a label has no pictures there."""
    if not {"val", "test"} & found.splits.keys():
        raise DataError(
            f"{found.source}: got no pictures to evaluate on ({found.form}), expected test/<label>/* or val/ next to "
            "train/; or hold some out with --validation 0.2"
        )
    instead: dict[Role, str] = {"val": "hold some out with --validation 0.1", "test": "move it elsewhere"}
    for role, cure in instead.items():
        split = found.splits.get(role)
        if split is not None and (missing := _without_pictures(split.known_targets, found.labels)):
            raise DataError(
                f"{found.source}: {split.name} lacks pictures of: {missing}; without them its accuracy would mislead: "
                f"add some, or {cure}"
            )


def check_readable(source: Path, labels: tuple[str, ...], targets: Mapping[Role, NDArray[np.int64]]) -> None:
    """Raise DataError if all pictures of a label were left out of a split because they cannot be decoded.

    `targets`: of the pictures that can be, int64 (N,).
    """
    for role, kept in targets.items():
        if missing := _without_pictures(kept, labels):
            raise DataError(f"{source}: no picture of {role} can be decoded of: {missing}; repair or replace them")


def _without_pictures(targets: NDArray[np.int64], labels: tuple[str, ...]) -> str:
    return listed(label for label, count in label_counts(targets, labels).items() if count == 0)
