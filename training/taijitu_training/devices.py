"""Choose the device of a run, and name the machine for its numbers."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch

from taijitu_runtime.datasets.budget import local_processes
from taijitu_runtime.errors import UsageError, first_line
from taijitu_runtime.machine import keep_free_memory, processor_name, usable_cores
from taijitu_training.torchrun import local_rank, told_once


def choose_device(name: str) -> torch.device:
    """Return the device called `name`; "auto" is a GPU if there is one. Each of several processes takes its own GPU.

    UsageError for a device that does not exist.
    """
    if name not in ("auto", "cuda") or not torch.cuda.is_available():
        with told_once():
            return _usable_device("cpu" if name == "auto" else name)
    with told_once():
        _check_count(torch.cuda.device_count())
    return _usable_device(f"cuda:{local_rank()}")


def _check_count(gpus: int) -> None:
    """Raise UsageError if a process of this machine would have no GPU."""
    if (count := local_processes()) > gpus:
        raise UsageError(
            f"got {count} processes on this machine, expected at most one for each of its {gpus} GPUs; start torchrun "
            f"with --nproc-per-node={gpus}, or add --device cpu"
        )


def _usable_device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
        if device.type not in ("cpu", "cuda"):
            raise RuntimeError("unsupported")
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"got --device {name}: {first_line(error)}; expected auto, cpu or cuda") from None
    if device.type == "cuda":
        torch.cuda.set_device(device)
    return device


def prepare_device(device: torch.device) -> None:
    """Set up this process to train on a device."""
    if device.type == "cpu":
        keep_free_memory()  # a fifth of a step was the kernel's time for the pages of activations


def own_random_numbers(device: torch.device) -> AbstractContextManager[None]:
    """Return a context after which torch's random numbers, on the CPU and on the device, go on as they were before."""
    fork: AbstractContextManager[None] = torch.random.fork_rng([] if device.type == "cpu" else [device.index or 0])
    return fork


def describe_machine(device: torch.device) -> str:
    """Return processor or GPU, cores in use and torch's version, in one line."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}"
    return f"{processor_name()}, {usable_cores()} cores, {torch.get_num_threads()} threads, torch {torch.__version__}"
