"""Whether pictures fit on the training device."""

from __future__ import annotations

import torch

from taijitu_runtime.datasets.budget import SHARE


def fits_device(n_bytes: int, device: torch.device) -> bool:
    """Whether `n_bytes` of pictures may lie on `device`; on a CPU they lie in the host's memory anyway."""
    return device.type != "cuda" or n_bytes <= SHARE * torch.cuda.mem_get_info(device)[0]
