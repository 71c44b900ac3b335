"""A matplotlib figure with a layout by hand, and common parts of the figures."""

from __future__ import annotations

import io

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

DPI = 150
INK, MUTED, RULE = "#1f2328", "#59636e", "#d1d9e0"
SMALL, NORMAL, LARGE = 8.5, 10, 13  # points
MARGIN, HEADING = 0.3, 0.85  # inches


class Sheet:
    """A white page, `width` by `height` inches. All positions are in inches from its upper left corner.

    Nothing uses an automatic layout, so nothing overlaps, for any network. Only matplotlib's object API is
    used: no window system and no state that would affect a caller's own plots.
    """

    def __init__(self, width: float, height: float) -> None:
        self.width, self.height = width, height
        self.figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")

    def axes(self, left: float, top: float, width: float, height: float) -> Axes:
        """Add empty axes at that position; tick labels and titles are drawn outside it."""
        place = (left / self.width, 1 - (top + height) / self.height, width / self.width, height / self.height)
        axes: Axes = self.figure.add_axes(place)
        return axes

    def text(self, left: float, top: float, words: str, size: float = NORMAL, colour: str = INK, align: str = "left",
             bold: bool = False) -> None:  # fmt: skip
        """Write one line of text with its upper edge at `top`, and its left, centre or right (`align`) at `left`."""
        weight = "bold" if bold else "normal"
        self.figure.text(
            left / self.width, 1 - top / self.height, words, fontsize=size, color=colour, ha=align, va="top",
            fontweight=weight, parse_math=False,
        )  # fmt: skip

    def heading(self, title: str, caption: str) -> None:
        """Write the figure's title and one line below it; together they take the uppermost HEADING inches."""
        self.text(MARGIN, 0.2, title, LARGE, bold=True)
        self.text(MARGIN, 0.5, caption, NORMAL, MUTED)

    def image(self, left: float, top: float, side: float, pixels: NDArray[np.generic]) -> None:
        """Draw `pixels`, (H, W) from black, the smallest, to white, or uint8 (H, W, 3).

        Its longer side is `side` inches.
        """
        scale = side / max(pixels.shape[:2])
        axes = self.axes(left, top, pixels.shape[1] * scale, pixels.shape[0] * scale)
        axes.set(xticks=[], yticks=[])
        for spine in axes.spines.values():
            spine.set(color=RULE, linewidth=0.6)
        axes.imshow(pixels, cmap="gray", interpolation="nearest", aspect="auto")

    def png(self) -> bytes:
        """Return the page as PNG, 150 pixels per inch."""
        buffer = io.BytesIO()
        self.figure.savefig(buffer, format="png")
        return buffer.getvalue()
