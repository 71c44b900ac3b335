"""Draw the depthwise kernels of a stage, layer by layer (after Fig. 1 of the VGNet paper; README, references)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from matplotlib.colors import Normalize
from matplotlib.patches import Rectangle
from torch import Tensor, nn

from taijitu_training.figures.mosaic import Mosaic
from taijitu_training.figures.sheet import HEADING, INK, MARGIN, MUTED, NORMAL, RULE, SMALL, Sheet
from taijitu_training.models.layers import FixedDepthwiseConv2d

FIXED = "#1a9641"
COLOURS = "RdBu_r"
SHOWN = 64
"""Number of kernels of a layer that are drawn."""

_STRIP, _STRIP_HEIGHT, _GAP = 7.4, 0.44, 0.05  # inches
_HISTOGRAM, _ROW = 1.5, 0.86


@dataclass(frozen=True)
class KernelLayer:
    """`weight` float32 (C, k, k): the kernel of each of a layer's channels; `fixed`: none of them learns."""

    name: str
    weight: Tensor
    stride: int
    fixed: bool


def depthwise_layers(module: nn.Module) -> list[KernelLayer]:
    """Return every depthwise convolution in `module` with kernels larger than 1x1, in the order of the definition."""
    found = []
    for name, layer in module.named_modules():
        if isinstance(layer, FixedDepthwiseConv2d):
            weight, stride = layer.weight, layer.stride
        elif isinstance(layer, nn.Conv2d) and layer.groups == layer.in_channels > 1 and layer.kernel_size != (1, 1):
            weight, stride = layer.weight, layer.stride[0]
        else:
            continue
        fixed = not isinstance(weight, nn.Parameter)
        found.append(KernelLayer(name or type(layer).__name__, weight.detach().squeeze(1).float(), stride, fixed))
    return found


def kernels_figure(title: str, layers: list[KernelLayer]) -> bytes:
    """Draw, as PNG, a row for each layer: its kernels, and a histogram of its weights."""
    top = HEADING + 0.45
    sheet = Sheet(2 * MARGIN + _STRIP + 0.5 + _HISTOGRAM, top + len(layers) * _ROW + 0.3)
    sheet.heading(title, "right: histogram of the layer's weights; w is the largest absolute one")
    _legend(sheet, layers)
    for index, layer in enumerate(layers):
        _row(sheet, top + index * _ROW, layer)
    middle, axis = MARGIN + _STRIP + 0.5, top + len(layers) * _ROW - 0.12
    for share, words in ((0.0, "-w"), (0.5, "0"), (1.0, "+w")):
        sheet.text(middle + share * _HISTOGRAM, axis, words, SMALL, MUTED, "center")
    return sheet.png()


def _row(sheet: Sheet, top: float, layer: KernelLayer) -> None:
    drawn, facts = _choice(layer)
    largest = float(layer.weight.abs().max()) or 1.0
    sheet.text(MARGIN, top, f"{layer.name}  ({facts}, w = {largest:.3g})", SMALL, INK)
    columns, height = (16, _STRIP_HEIGHT) if len(drawn) <= 16 else (SHOWN // 2, (_STRIP_HEIGHT - _GAP) / 2)
    cell = min(height, (_STRIP + _GAP) / columns - _GAP)
    mosaic = Mosaic(len(drawn), columns, cell, _GAP)
    edge, width = (FIXED, 1.8) if layer.fixed else (RULE, 0.5)
    spans = [float(kernel.abs().max()) or 1.0 for kernel in drawn]
    limits = [(-span, span) for span in spans]
    mosaic.draw(sheet, MARGIN, top + 0.22, drawn, COLOURS, limits, edge, width)
    axes = sheet.axes(MARGIN + _STRIP + 0.5, top + 0.22, _HISTOGRAM, _STRIP_HEIGHT)
    axes.hist(layer.weight.flatten().numpy(), bins=41, range=(-largest, largest), color=FIXED if layer.fixed else MUTED)
    axes.set(xlim=(-largest, largest), xticks=[0.0], xticklabels=[], yticks=[])
    axes.tick_params(length=3, color=MUTED)
    for side, spine in axes.spines.items():
        spine.set(visible=side == "bottom", color=MUTED)


def _choice(layer: KernelLayer) -> tuple[Tensor, str]:
    """Return the kernels to draw, (n, k, k), and the title's words about them."""
    channels = len(layer.weight)
    facts = f"{channels} channels, stride {layer.stride}"
    # Fixed kernels occur in many channels each: every one is drawn once, in the order of the channels.
    different = {tuple(kernel.flatten().tolist()): kernel for kernel in layer.weight} if layer.fixed else {}
    if different and len(different) < channels:
        kernels = torch.stack(list(different.values()))
        return kernels[:SHOWN], f"{facts}, fixed: {len(kernels)} kernels in turn"
    drawn = layer.weight[:SHOWN]
    some = f", the first {SHOWN} drawn" if channels > SHOWN else ""
    return drawn, f"{facts}{', fixed' if layer.fixed else ''}{some}"


def _legend(sheet: Sheet, layers: list[KernelLayer]) -> None:
    top, left = HEADING + 0.08, MARGIN
    for fixed, colour, words in ((False, MUTED, "learnt"), (True, FIXED, "fixed, not learnt")):
        if any(layer.fixed == fixed for layer in layers):
            axes = sheet.axes(left, top, 0.16, 0.16)
            axes.set_axis_off()
            axes.add_patch(Rectangle((0, 0), 1, 1, fill=False, color=colour, linewidth=1.8 if fixed else 0.8))
            sheet.text(left + 0.24, top, words, NORMAL)
            left += 0.24 + 0.085 * len(words) + 0.35
    _colour_bar(sheet, left + 0.3, top)


def _colour_bar(sheet: Sheet, left: float, top: float) -> None:
    sheet.text(left, top, "negative", NORMAL)
    axes = sheet.axes(left + 0.75, top + 0.02, 1.2, 0.13)
    axes.set(xticks=[], yticks=[])
    axes.imshow(torch.linspace(-1, 1, 256)[None].numpy(), cmap=COLOURS, norm=Normalize(-1, 1), aspect="auto")
    axes.spines[:].set(color=RULE, linewidth=0.6)
    sheet.text(left + 2.05, top, "positive, up to each kernel's own largest weight", NORMAL)
