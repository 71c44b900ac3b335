"""Draw a table whose rows vary one number (depth, noise) as curves with the spread of their runs."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from taijitu_training.figures.sheet import HEADING, MARGIN, MUTED, NORMAL, RULE, SMALL, Sheet

# Different in colour and in shape, for readers who do not see colours and for black-and-white printers.
_STYLES = (("#59636e", "s"), ("#0969da", "^"), ("#bc4c00", "D"), ("#8250df", "o"))
_WIDTH, _HEIGHT, _LEFT, _LEGEND, _BELOW = 4.2, 2.9, 0.55, 0.35, 0.65  # inches


@dataclass(frozen=True)
class Panel:
    """`curves`: by name, the values of all runs by x; at most four curves."""

    title: str
    xlabel: str
    curves: Mapping[str, Mapping[float, Sequence[float]]]


def sweep_png(title: str, caption: str, panels: Sequence[Panel]) -> bytes:
    """Draw panels side by side: means as curves, sample standard deviations as bars if there is more than one run."""
    step = _LEFT + _WIDTH + MARGIN
    sheet = Sheet(MARGIN + step * len(panels), HEADING + _LEGEND + _HEIGHT + _BELOW)
    sheet.heading(title, caption)
    for number, panel in enumerate(panels):
        left = MARGIN + step * number + _LEFT
        sheet.text(left, HEADING, panel.title, NORMAL, bold=True)
        axes = sheet.axes(left, HEADING + _LEGEND, _WIDTH, _HEIGHT)
        for (name, points), (colour, marker) in zip(panel.curves.items(), _STYLES):
            means = [statistics.fmean(values) for values in points.values()]
            spread = [statistics.stdev(values) if len(values) > 1 else 0.0 for values in points.values()]
            axes.errorbar(list(points), means, yerr=spread, label=name, color=colour, marker=marker, markersize=4,
                          linewidth=1.5, elinewidth=1, capsize=2.5)  # fmt: skip
        axes.set_xlabel(panel.xlabel, fontsize=SMALL, color=MUTED)
        axes.set_xticks(list(next(iter(panel.curves.values()))))
        axes.tick_params(labelsize=SMALL, labelcolor=MUTED, color=RULE)
        axes.grid(color=RULE, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[:].set_visible(False)
        axes.legend(fontsize=SMALL, frameon=False, labelcolor=MUTED)
    return sheet.png()
