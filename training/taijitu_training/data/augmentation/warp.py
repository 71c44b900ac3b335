"""Turn, shear and move the pictures of a batch, each by a matrix of its own."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def warp(images: Tensor, matrices: Tensor, *, mode: str = "bilinear", padding: str = "reflection") -> Tensor:
    """Compute each pixel of the result from the source that its matrix, float32 (B, 2, 3), gives: float32 (B, 3, H, W).

    A matrix maps (x, y, 1), in pixels from the centre of the result, to the position in `images`, likewise. `mode` and
    `padding`: as for torch's grid_sample.
    """
    height, width = images.shape[2:]
    size = torch.tensor([width, height], device=images.device, dtype=torch.float32)
    x = torch.arange(width, device=images.device) - (width - 1) / 2
    y = torch.arange(height, device=images.device) - (height - 1) / 2
    places = torch.stack(torch.broadcast_tensors(x[None, :], y[:, None], torch.ones((), device=images.device)), -1)
    grid = torch.einsum("hwk,bik->bhwi", places, matrices.to(images.device)) * 2.0 / size
    return F.grid_sample(images, grid, mode=mode, padding_mode=padding, align_corners=False)


def turned(degrees: Tensor) -> Tensor:
    """Return matrices that turn pictures counter-clockwise about their centre; (B,) -> (B, 2, 3)."""
    radians = torch.deg2rad(degrees)
    cosine, sine, zero = radians.cos(), radians.sin(), torch.zeros_like(radians)
    return torch.stack((torch.stack((cosine, -sine, zero), -1), torch.stack((sine, cosine, zero), -1)), -2)


def sheared(amount: Tensor, axis: int, corner: float) -> Tensor:
    """Return matrices that move pixels along `axis` (0: x) by `amount`, (B,), per pixel of the other axis; (B, 2, 3).

    `corner`: where the other axis is 0, in pixels from the centre, so that pixels there stay.
    """
    matrices = torch.eye(2, 3).repeat(len(amount), 1, 1)
    matrices[:, axis, 1 - axis] = amount
    matrices[:, axis, 2] = -amount * corner
    return matrices


def moved(pixels: Tensor, axis: int) -> Tensor:
    """Return matrices that move pictures along `axis` (0: x) by `pixels`, (B,); (B, 2, 3)."""
    matrices = torch.eye(2, 3).repeat(len(pixels), 1, 1)
    matrices[:, axis, 2] = -pixels
    return matrices
