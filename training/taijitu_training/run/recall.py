"""Compute the recall of each label, the share of its pictures with the right answer, and their mean: macro accuracy."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from taijitu_runtime.console import shown
from taijitu_runtime.report.confusion import Confusion

MOST_SHOWN = 12


def recalls(targets: NDArray[np.int64], predicted: NDArray[np.int64], labels: Sequence[str]) -> dict[str, float]:
    """Return percent by label, for labels that have pictures; both arrays int64 (N,), indices of `labels`."""
    found = Confusion.of(targets, predicted, len(labels)).recall
    return {label: 100.0 * float(share) for label, share in zip(labels, found, strict=True) if not math.isnan(share)}


def macro(found: Mapping[str, float]) -> float:
    """Return the mean over the labels, in percent: a rare label counts as much as any other."""
    return statistics.fmean(found.values())


def recalls_in_words(split: str, found: Mapping[str, float]) -> str:
    """Return two lines for a terminal; for many labels, those with the lowest recall."""
    worst = dict(sorted(found.items(), key=lambda item: item[1])[:MOST_SHOWN])
    which = "recall" if len(found) <= MOST_SHOWN else f"lowest recall of {len(found)} labels"
    listed = ", ".join(f"{shown(label)} {percent:.1f} %" for label, percent in worst.items())
    return f"{split}: macro accuracy {macro(found):.2f} % (each label has the same weight)\n{which}: {listed}"
