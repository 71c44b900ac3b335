"""Draw many small maps in rows and columns."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from torch import Tensor

from taijitu_training.figures.sheet import RULE, SMALL, Sheet


@dataclass(frozen=True)
class Mosaic:
    """`count` square cells, `columns` per row, each `cell` inches wide and high, `gap` inches apart."""

    count: int
    columns: int
    cell: float
    gap: float

    @property
    def width(self) -> float:
        """The width in inches."""
        return min(self.count, self.columns) * (self.cell + self.gap) - self.gap

    @property
    def height(self) -> float:
        """The height in inches."""
        return math.ceil(self.count / self.columns) * (self.cell + self.gap) - self.gap

    def draw(self, sheet: Sheet, left: float, top: float, maps: Tensor, colours: str,
             limits: Sequence[tuple[float, float]], edge: str = RULE, edge_width: float = 0.6) -> Axes:  # fmt: skip
        """Draw `maps`, float32 (count, H, W), each in `colours` over its own `limits`, with an edge around each.

        One axes object for all of them, in inches from the upper left: hundreds of axes would take a minute to draw.
        """
        axes = sheet.axes(left, top, self.width, self.height)
        axes.set_axis_off()
        for index, (values, (low, high)) in enumerate(zip(maps.numpy(), limits, strict=True)):
            x, y = self.place(index)
            height, width = (self.cell * length / max(values.shape) for length in values.shape)
            extent = (x, x + width, y + height, y)
            axes.imshow(values, cmap=colours, vmin=low, vmax=high, extent=extent, interpolation="nearest")
            axes.add_patch(
                Rectangle((x, y), width, height, fill=False, color=edge, linewidth=edge_width, clip_on=False)
            )
        axes.set(xlim=(0, self.width), ylim=(self.height, 0), aspect="auto")
        return axes

    def place(self, index: int) -> tuple[float, float]:
        """Return left and upper edge of a cell, in inches from the mosaic's."""
        row, column = divmod(index, self.columns)
        return column * (self.cell + self.gap), row * (self.cell + self.gap)

    def name(self, sheet: Sheet, left: float, top: float, names: Sequence[str], colour: str) -> None:
        """Write a name under each cell; the gap must be large enough."""
        for index, words in enumerate(names):
            x, y = self.place(index)
            sheet.text(left + x + self.cell / 2, top + y + self.cell + 0.04, words, SMALL, colour, "center")
