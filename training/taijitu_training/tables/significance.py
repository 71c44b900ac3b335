"""Which differences between the rows of a table are more than chance.

A difference is called one where a t-test says so at 5 %, with Holm's correction (1979) over all pairs of the table.
Rows that were trained with the same seeds are tested in pairs; a paper's rows, of which mean and deviation are printed,
by Welch's test.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

LEVEL = 0.05
LEAST_RUNS = 3


@dataclass(frozen=True)
class Difference:
    """`mean` is that of `first` minus that of `second`; `p` is corrected, None where there are too few runs to test."""

    first: str
    second: str
    mean: float
    p: float | None

    @property
    def verdict(self) -> str:
        """What may be said of it."""
        if self.p is None:
            return "not tested"
        return f"p = {self.p:.2g}: {'different' if self.p < LEVEL else 'not shown to be different'}"


@dataclass(frozen=True)
class Summary:
    """Mean and sample standard deviation of `n` runs, as a paper prints them."""

    mean: float
    deviation: float
    n: int


def standard_error(values: Sequence[float]) -> float | None:
    """Standard error of the mean of `values`; None of a single one."""
    return statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None


def paired_differences(rows: Mapping[str, Mapping[int, float]]) -> list[Difference]:
    """Compare every two rows of {row: {seed: value}} by the seeds that both have (Student's paired t-test)."""
    from scipy import stats

    pairs, ps = [], []
    for first, second in itertools.combinations(rows, 2):
        seeds = sorted(rows[first].keys() & rows[second].keys())
        differences = [rows[first][seed] - rows[second][seed] for seed in seeds]
        if seeds:
            pairs.append((first, second, statistics.fmean(differences)))
            # Equal differences leave nothing to divide by: certain, or no difference at all.
            same = len(set(differences)) == 1
            p = float(differences[0] == 0.0) if same else float(stats.ttest_1samp(differences, 0.0).pvalue)
            ps.append(p if len(seeds) >= LEAST_RUNS else None)
    return [Difference(*pair, p) for pair, p in zip(pairs, holm(ps), strict=True)]


def welch_differences(rows: Mapping[str, Summary]) -> list[Difference]:
    """Compare every two rows by their printed numbers (Welch's t-test)."""
    from scipy import stats

    pairs, ps = [], []
    for first, second in itertools.combinations(rows, 2):
        a, b = rows[first], rows[second]
        pairs.append((first, second, a.mean - b.mean))
        test = stats.ttest_ind_from_stats(a.mean, a.deviation, a.n, b.mean, b.deviation, b.n, equal_var=False)
        ps.append(float(test.pvalue) if min(a.n, b.n) >= LEAST_RUNS else None)
    return [Difference(*pair, p) for pair, p in zip(pairs, holm(ps), strict=True)]


def holm(ps: Sequence[float | None]) -> list[float | None]:
    """Return the p-values corrected for their number, in the order given; None, of a pair not tested, stays."""
    tested = sorted((p, i) for i, p in enumerate(ps) if p is not None)
    corrected: list[float | None] = [None] * len(ps)
    largest = 0.0
    for rank, (p, i) in enumerate(tested):
        largest = max(largest, min(1.0, (len(tested) - rank) * p))
        corrected[i] = largest
    return corrected
