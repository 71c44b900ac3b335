"""Recall of each label, the share of its pictures that is answered right, and their mean: macro accuracy."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from taijitu_runtime.console import shown

MOST_SHOWN = 12


def recalls(targets: NDArray[np.int64], predicted: NDArray[np.int64], labels: Sequence[str]) -> dict[str, float]:
    """Percent by label, of labels that have pictures; both arrays int64 (N,), indices of `labels`."""
    counts = np.bincount(targets, minlength=len(labels))
    right = np.bincount(targets[targets == predicted], minlength=len(labels))
    return {label: 100.0 * float(right[i] / counts[i]) for i, label in enumerate(labels) if counts[i]}


def macro(found: Mapping[str, float]) -> float:
    """Return the mean over the labels, in percent: a rare label counts as much as any other."""
    return statistics.fmean(found.values())


def recalls_in_words(split: str, found: Mapping[str, float]) -> str:
    """Return two lines for a terminal; of many labels those that do worst."""
    worst = dict(sorted(found.items(), key=lambda item: item[1])[:MOST_SHOWN])
    which = "recall" if len(found) <= MOST_SHOWN else f"lowest recall of {len(found)} labels"
    listed = ", ".join(f"{shown(label)} {percent:.1f} %" for label, percent in worst.items())
    return f"{split}: macro accuracy {macro(found):.2f} % (each label counts alike)\n{which}: {listed}"
