"""An activation function and its derivative."""

from __future__ import annotations

import torch
from matplotlib.axes import Axes
from torch import Tensor, nn

from taijitu_training.figures.sheet import HEADING, INK, MARGIN, MUTED, NORMAL, RULE, SMALL, Sheet

COLOUR = "#0b62c4"
RANGE = 6.0


def activation_figure(function: nn.Module) -> bytes:
    """Draw as PNG `function`, an elementwise module, and its derivative (autograd) in [-6, 6], with ReLU for scale."""
    x = torch.linspace(-RANGE, RANGE, 12_001, dtype=torch.float64)
    curves, relu = _value_and_slope(function, x), _value_and_slope(nn.ReLU(), x)
    name = type(function).__name__
    lowest = _minimum(curves[0])
    sheet = Sheet(10.0, 4.6)
    circle = "" if lowest is None else "; circle: the minimum"
    sheet.heading(f"{name}, the network's activation function", f"and its derivative, by autograd{circle}")
    lefts, titles = (MARGIN + 0.4, 5.5), (f"{name}(x)", f"derivative of {name}")
    panels = [_panel(sheet, left, title) for left, title in zip(lefts, titles)]
    for axes, curve, grey in zip(panels, curves, relu):
        axes.plot(x, curve, color=COLOUR, linewidth=2.0, label=name, zorder=3)
        if name != "ReLU":
            axes.plot(x, grey, color="#9aa3ad", linewidth=1.0, label="ReLU")
        if lowest is not None:
            axes.plot(x[lowest], curve[lowest], "o", color="white", markeredgecolor=INK, markersize=6, zorder=4)
        axes.legend(loc="upper left", fontsize=NORMAL, frameon=False)
    if lowest is not None:
        _name_minimum(panels[0], float(x[lowest]), float(curves[0][lowest]))
    return sheet.png()


def _minimum(value: Tensor) -> int | None:
    """Return the position of the least `value`; None if that is an end of it, or as flat as ReLU's."""
    lowest = int(value.argmin())
    return lowest if value[lowest] < min(value[0], value[-1]) - 1e-6 else None


def _name_minimum(axes: Axes, x: float, value: float) -> None:
    """Write the minimum above the curve, which is nearly 0 there for every activation function in use."""
    words = f"minimum {value:.4f}\nat x = {x:.3f}"
    line = {"arrowstyle": "-", "color": INK, "linewidth": 0.8, "shrinkB": 4}
    axes.annotate(words, (x, value), (x - 0.9, 1.1), ha="center", fontsize=SMALL + 0.5, color=INK, arrowprops=line)


def _value_and_slope(function: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    x = x.clone().requires_grad_()
    value = function(x)
    (slope,) = torch.autograd.grad(value.sum(), x)
    return value.detach(), slope


def _panel(sheet: Sheet, left: float, title: str) -> Axes:
    sheet.text(left, HEADING + 0.1, title, NORMAL, bold=True)
    axes = sheet.axes(left, HEADING + 0.4, 4.1, 2.75)
    axes.set_xlim(-RANGE, RANGE)
    axes.set_xlabel("x", fontsize=NORMAL, color=INK)
    axes.tick_params(labelsize=SMALL + 0.5, colors=MUTED, length=3)
    axes.grid(color=RULE, linewidth=0.6)
    axes.axhline(0.0, color=MUTED, linewidth=0.8)
    axes.axvline(0.0, color=MUTED, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)
    return axes
