"""Decide whether pictures fit on the training device."""

from __future__ import annotations

import torch

from taijitu_runtime.datasets.budget import SHARE


def fits_device(n_bytes: int, device: torch.device) -> bool:
    """Return whether `n_bytes` of pictures fit on `device`; for a CPU they are in the host's memory anyway."""
    return device.type != "cuda" or n_bytes <= SHARE * torch.cuda.mem_get_info(device)[0]
