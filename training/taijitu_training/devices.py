"""Where a run computes, and how a reported number names it."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import torch

from taijitu_training.distributed import local_rank
from taijitu_training.errors import TaijituError


def choose_device(name: str) -> torch.device:
    """The device called `name`; "auto" is a GPU where there is one. Of several processes each takes a GPU of its own.

    TaijituError for a device that is not there.
    """
    if name in ("auto", "cuda") and torch.cuda.is_available():
        name = f"cuda:{local_rank()}"
    try:
        device = torch.device("cpu" if name == "auto" else name)
        torch.empty(0, device=device)
        if device.type not in ("cpu", "cuda"):
            raise RuntimeError("unsupported")
    except (RuntimeError, AssertionError) as error:
        raise TaijituError(f"got --device {name}: {str(error).splitlines()[0]}; expected auto, cpu or cuda") from None
    if device.type == "cuda":
        torch.cuda.set_device(device)
    return device


def describe_machine(device: torch.device) -> str:
    """Processor or GPU, cores in use and torch's version, in one line."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}"
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        models = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        name = models[0] if models else name
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{name}, {cores} cores, {torch.get_num_threads()} threads, torch {torch.__version__}"
