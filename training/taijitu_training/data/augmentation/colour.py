"""Change the colours of whole batches by a factor for each picture, as torchvision does for one."""

from __future__ import annotations

import torch
from torch import Tensor


def blend(images: Tensor, others: Tensor, factor: Tensor) -> Tensor:
    """Compute others + factor * (images - others), within [0, 255]; float32 (B, 3, H, W), `factor` (B,) from 0 on."""
    return (others + factor[:, None, None, None] * (images - others)).clamp_(0.0, 255.0)


def grey(images: Tensor) -> Tensor:
    """Compute the luminance of `images`, float (B, 3, H, W): (B, 1, H, W)."""
    weights = torch.tensor([0.2989, 0.587, 0.114], device=images.device)
    return torch.einsum("bchw,c->bhw", images, weights)[:, None]


def change_contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Move pixels away from a picture's mean luminance (factor above 1) or towards it; float32 (B, 3, H, W), (B,)."""
    return blend(images, grey(images).mean((1, 2, 3), keepdim=True), factor)


def change_saturation(images: Tensor, factor: Tensor) -> Tensor:
    """Move pixels away from grey (factor above 1) or towards it; float32 (B, 3, H, W), (B,)."""
    return blend(images, grey(images), factor)


def turn_hue(images: Tensor, turns: Tensor) -> Tensor:
    """Turn every hue by `turns` (B,) around the circle of hues, as a fraction of 1; saturation and value stay.

    float32 (B, 3, H, W) in [0, 255].
    """
    value, low = images.amax(1, keepdim=True), images.amin(1, keepdim=True)
    chroma = (value - low).clamp_min(1e-12)
    red, green, blue = images.unbind(1)
    # In sixths of a turn from red; the largest channel decides the formula.
    sixths = torch.where(
        value[:, 0] == red,
        (green - blue) / chroma[:, 0],
        torch.where(value[:, 0] == green, 2.0 + (blue - red) / chroma[:, 0], 4.0 + (red - green) / chroma[:, 0]),
    )
    turned = sixths[:, None] + 6.0 * turns[:, None, None, None]
    # A channel decreases from the value to the lowest one where the hue is farther than a sixth from its own.
    place = torch.tensor([5.0, 3.0, 1.0], device=images.device)[None, :, None, None]
    distance = (place + turned) % 6.0
    return value - (value - low) * torch.minimum(distance, 4.0 - distance).clamp_(0.0, 1.0)
