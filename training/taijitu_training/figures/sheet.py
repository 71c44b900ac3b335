"""A matplotlib figure that is laid out by hand, and what the figures on it share."""

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
    """A white page, `width` by `height` inches. All places are inches from its upper left corner.

    Nothing is left to an automatic layout, so nothing overlaps, for any network. The object API of
    matplotlib only: no window system and no state that a caller's own plots could see.
    """

    def __init__(self, width: float, height: float) -> None:
        self.width, self.height = width, height
        self.figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")

    def axes(self, left: float, top: float, width: float, height: float) -> Axes:
        """Empty axes in that place; tick labels and titles come on top of it."""
        place = (left / self.width, 1 - (top + height) / self.height, width / self.width, height / self.height)
        axes: Axes = self.figure.add_axes(place)
        return axes

    def text(self, left: float, top: float, words: str, size: float = NORMAL, colour: str = INK, align: str = "left",
             bold: bool = False) -> None:  # fmt: skip
        """One line of text whose upper edge is at `top`, and whose left, centre or right (`align`) is at `left`."""
        weight = "bold" if bold else "normal"
        self.figure.text(
            left / self.width, 1 - top / self.height, words, fontsize=size, color=colour, ha=align, va="top",
            fontweight=weight, parse_math=False,
        )  # fmt: skip

    def heading(self, title: str, caption: str) -> None:
        """The figure's title and one line below it; together they take the uppermost HEADING inches."""
        self.text(MARGIN, 0.2, title, LARGE, bold=True)
        self.text(MARGIN, 0.5, caption, NORMAL, MUTED)

    def image(self, left: float, top: float, side: float, pixels: NDArray[np.generic]) -> None:
        """`pixels`, (H, W) from black, the smallest, to white, or uint8 (H, W, 3); its longer side `side` inches."""
        scale = side / max(pixels.shape[:2])
        axes = self.axes(left, top, pixels.shape[1] * scale, pixels.shape[0] * scale)
        axes.set(xticks=[], yticks=[])
        for spine in axes.spines.values():
            spine.set(color=RULE, linewidth=0.6)
        axes.imshow(pixels, cmap="gray", interpolation="nearest", aspect="auto")

    def png(self) -> bytes:
        """The page as PNG, 150 pixels an inch."""
        buffer = io.BytesIO()
        self.figure.savefig(buffer, format="png")
        return buffer.getvalue()
