"""Draw the outputs of a network's stages for one picture."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from taijitu_training.figures.mosaic import Mosaic
from taijitu_training.figures.sheet import HEADING, MARGIN, MUTED, NORMAL, Sheet

COLOURS = "viridis"
SHOWN = 32
"""Number of channels of a stage that are drawn."""

_PICTURE, _CELL = 2.0, 0.92  # inches
_OWN_RANGE = "dark to bright: each map's own smallest to largest value"


def features_figure(title: str, pixels: NDArray[np.uint8], maps: Tensor) -> bytes:
    """Draw, as PNG, the picture, uint8 (H, W, 3), and up to 32 of `maps`, float32 (C, h, w), evenly spaced."""
    chosen = _evenly(len(maps), SHOWN)
    mosaic = Mosaic(len(chosen), 8, _CELL, 0.24)
    left, top = MARGIN + _PICTURE + 0.35, HEADING + 0.35
    width = max(left + mosaic.width + MARGIN, 9.0)
    sheet = Sheet(width, top + max(mosaic.height, _PICTURE) + 0.2 + MARGIN)
    sheet.heading(title, f"{len(maps)} channels of {maps.shape[1]} x {maps.shape[2]}; {_OWN_RANGE}")
    sheet.text(MARGIN, top - 0.25, "input", NORMAL, bold=True)
    sheet.image(MARGIN, top, _PICTURE, pixels)
    some = f"{len(chosen)} channels, evenly spaced" if len(chosen) < len(maps) else "every channel"
    sheet.text(left, top - 0.25, some, NORMAL, bold=True)
    mosaic.draw(sheet, left, top, maps[chosen], COLOURS, _own_ranges(maps[chosen]))
    mosaic.name(sheet, left, top, [str(channel) for channel in chosen], MUTED)
    return sheet.png()


def yin_yang_figure(title: str, pixels: NDArray[np.uint8], form: Tensor, branches: dict[str, Tensor]) -> bytes:
    """Draw, as PNG, the picture, `form`, the input of Yin, (H, W), and each branch's maps, (C, h, w), by name.

    The blocks show the same channels, up to 16, in the same positions.
    """
    channels = len(next(iter(branches.values())))
    chosen = _evenly(channels, 16)
    mosaic = Mosaic(len(chosen), 4, 0.8, 0.22)
    top, small = HEADING + 0.35, 1.6
    left = MARGIN + small + 0.4
    sheet = Sheet(left + len(branches) * (mosaic.width + 0.4) - 0.4 + MARGIN, top + max(mosaic.height, 4.2) + 0.45)
    some = f"{len(chosen)} of {channels} channels" if len(chosen) < channels else f"all {channels} channels"
    sheet.heading(title, f"{some}, the same in the same positions; {_OWN_RANGE}")
    sheet.text(MARGIN, top - 0.25, "input", NORMAL, bold=True)
    sheet.image(MARGIN, top, small, pixels)
    sheet.text(MARGIN, top + small + 0.25, "the input of Yin", NORMAL, bold=True)
    sheet.image(MARGIN, top + small + 0.5, small, form.numpy())
    for name, maps in branches.items():
        sheet.text(left, top - 0.25, name, NORMAL, bold=True)
        mosaic.draw(sheet, left, top, maps[chosen], COLOURS, _own_ranges(maps[chosen]))
        mosaic.name(sheet, left, top, [str(channel) for channel in chosen], MUTED)
        left += mosaic.width + 0.4
    return sheet.png()


def _evenly(count: int, shown: int) -> list[int]:
    return sorted({round(i) for i in torch.linspace(0, count - 1, min(count, shown)).tolist()})


def _own_ranges(maps: Tensor) -> list[tuple[float, float]]:
    return [(float(values.min()), float(values.max())) for values in maps]
