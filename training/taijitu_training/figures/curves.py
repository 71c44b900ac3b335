"""Draw the curves of a run as SVG that takes its colours from the page around it."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

# Drawn in the first, replaced by the second: the page's variables have a value for each colour scheme.
_VARIABLES = {
    "#010101": "var(--ink)",
    "#020202": "var(--muted)",
    "#030303": "var(--rule)",
    "#040404": "var(--training)",
    "#050505": "var(--evaluation)",
    "#060606": "var(--page)",
}
INK, MUTED, RULE, TRAINING, EVALUATION, PAGE = _VARIABLES

_WIDTH, _HEIGHT = 4.0, 2.7  # inches


def curves_svg(history: Sequence[dict[str, float]]) -> list[str]:
    """Return inline SVG of loss, accuracy and learning rate over the epochs of `history`, the rows of metrics.jsonl."""
    both = (("train_{}", TRAINING), ("eval_{}", EVALUATION))
    best = max(history, key=lambda row: row["eval_top1"])
    return [
        _panel(history, "loss (nats)", {key.format("loss"): colour for key, colour in both}, None),
        _panel(history, "accuracy (%)", {key.format("top1"): colour for key, colour in both}, best),
        _panel(history, "learning rate", {"lr": INK}, None),
    ]


def _panel(
    history: Sequence[dict[str, float]], title: str, curves: dict[str, str], best: dict[str, float] | None
) -> str:
    figure = Figure(figsize=(_WIDTH, _HEIGHT), facecolor="none")
    axes: Axes = figure.add_axes((0.17, 0.16, 0.8, 0.72))
    axes.set_title(title, loc="left", fontsize=11, color=INK, fontweight="bold")
    axes.set_xlabel("epoch", fontsize=10, color=MUTED)
    axes.set_facecolor("none")
    axes.tick_params(labelsize=9.5, labelcolor=MUTED, color=RULE, length=3)
    axes.grid(color=RULE, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)
    epochs = [row["epoch"] for row in history]
    marker = "o" if len(epochs) <= 15 else ""
    for key, colour in curves.items():
        axes.plot(epochs, [row[key] for row in history], color=colour, linewidth=1.8, marker=marker, markersize=4)
    if best is not None:
        axes.plot(best["epoch"], best["eval_top1"], "o", color=PAGE, markeredgecolor=EVALUATION, markersize=7)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True, min_n_ticks=1))
    axes.set_xlim(epochs[0] - 0.5, epochs[-1] + 0.5)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.6g}")
    return _inline(figure, title)


def _inline(figure: Figure, title: str) -> str:
    """Return the figure as an <svg> element: text as text, the page's colours, and unique ids."""
    buffer = io.StringIO()
    # Both settings are read while the figure is drawn.
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": title}):
        figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    svg = buffer.getvalue()
    svg = re.sub(r"<style.*?</style>", "", svg[svg.index("<svg ") :], flags=re.DOTALL)  # it would style the whole page
    head = rf'<svg role="img" aria-label="{title}" viewBox="\1">'
    svg = re.sub(r'^<svg .*?viewBox="([^"]*)"[^>]*>', head, svg, count=1, flags=re.DOTALL)
    svg = re.sub(r'( id="|url\(#|href="#)', rf"\g<1>{title.split()[0]}-", svg)
    svg = re.sub(r"font-family:[^;\"]*;?", "", svg)
    for drawn, shown in _VARIABLES.items():
        svg = svg.replace(drawn, shown)
    return svg
