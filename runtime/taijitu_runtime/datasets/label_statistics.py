"""Counts of labels: in words, and the warnings that they call for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

FEW = 20
"""Pictures of a label below which a warning names it."""
UNEVEN = 10
"""How many times the smallest label's pictures the largest one's are before a warning says so."""
MOST_SHOWN = 12


def label_counts(targets: NDArray[np.int64], labels: Sequence[str]) -> dict[str, int]:
    """Count the pictures of each label; `targets`: int64 (N,), indices of `labels`, or larger for none of them."""
    return dict(zip(labels, np.bincount(targets, minlength=len(labels)).tolist()))


def counts_in_words(counts: Mapping[str, int]) -> str:
    """Name the labels with their counts: all, or of a long list the largest and the smallest ones."""
    if len(counts) <= MOST_SHOWN:
        return f"{len(counts)} labels: {_listed(counts)}"
    ordered = dict(sorted(counts.items(), key=lambda item: -item[1]))
    largest, smallest = (dict(list(ordered.items())[part]) for part in (slice(4), slice(-4, None)))
    return f"{len(counts)} labels: {_listed(largest)}, ... {_listed(smallest)}"


def warnings_of(counts: Mapping[str, int], what_to_do: str) -> list[str]:
    """Return warnings for labels that are hard to tell apart, have few pictures, or very different numbers of them.

    Labels without pictures are not looked at.
    """
    present = {label: count for label, count in counts.items() if count}
    few = {label: count for label, count in present.items() if count < FEW}
    alike: dict[str, list[str]] = defaultdict(list)
    for label in present:
        alike["".join(label.casefold().split())].append(label)
    found = [
        f"got labels {' and '.join(map(repr, twins))}, which differ only in capitals or spaces; put their pictures "
        "into one folder if they show the same"
        for twins in alike.values()
        if len(twins) > 1
    ]
    if few:
        more = f" and {len(few) - MOST_SHOWN} more labels" if len(few) > MOST_SHOWN else ""
        shown = dict(list(few.items())[:MOST_SHOWN])
        found.append(f"got fewer than {FEW} pictures of {_listed(shown)}{more}; little can be said of these: add some")
    if present and max(present.values()) > UNEVEN * min(present.values()):
        (largest, most), (smallest, least) = (pick(present.items(), key=_count) for pick in (max, min))
        found.append(
            f"got {most:,} pictures of {largest} and {least:,} of {smallest}, more than {UNEVEN} times as many; "
            f"{what_to_do}"
        )
    return found


def _count(item: tuple[str, int]) -> int:
    return item[1]


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{label} {count:,}" for label, count in counts.items())
