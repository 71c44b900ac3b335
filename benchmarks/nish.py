"""Measure the cost of Nish in training, compared with other activations.

python benchmarks/nish.py [--repetitions 50]

One forward and one backward pass over (64, 64, 32, 32) on the CPU, in milliseconds: medians of alternating repetitions,
so that other work of the machine slows all of them. Nish is compiled before the first timed repetition.
"""

from __future__ import annotations

import argparse
import logging
import os
import platform
import statistics
import time
from collections.abc import Callable
from datetime import datetime, timezone

import torch
from torch import Tensor
from torch.nn import functional as F

from taijitu_runtime.bench.conditions import machine
from taijitu_training.models import nish

SHAPE = (64, 64, 32, 32)
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"nish": nish, "mish": F.mish, "silu": F.silu, "relu": F.relu}
LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


def main() -> int:
    """Print one row for each dtype and layout."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=50, help="repetitions of each activation (default: 50)")
    repetitions = parser.parse_args().repetitions
    logging.basicConfig(format="%(message)s")
    logging.getLogger("taijitu_training").setLevel(logging.INFO)  # logs whether Nish could not be compiled
    print(f"{datetime.now(timezone.utc):%Y-%m-%d}, torch {torch.__version__}, Python {platform.python_version()}")
    print(f"{machine()}, {torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}")
    print(f"forward and backward of {SHAPE}, median ms of {repetitions}\n")
    print(f"{'':24}" + "".join(f"{name:>9}" for name in ACTIVATIONS) + f"{'nish/mish':>12}")
    for dtype in (torch.float32, torch.bfloat16):
        for layout in LAYOUTS:
            median_ms = measure(dtype, LAYOUTS[layout], repetitions)
            row = "".join(f"{median_ms[name]:9.2f}" for name in ACTIVATIONS)
            print(f"{f'{dtype} {layout}'[6:]:24}{row}{median_ms['nish'] / median_ms['mish']:12.2f}")
    return 0


def measure(dtype: torch.dtype, layout: torch.memory_format, repetitions: int) -> dict[str, float]:
    """Return median milliseconds by activation."""
    x = torch.randn(SHAPE).to(dtype=dtype, memory_format=layout).requires_grad_()
    grad = torch.randn(SHAPE).to(dtype=dtype, memory_format=layout)
    times_ms: dict[str, list[float]] = {name: [] for name in ACTIVATIONS}
    for repetition in range(repetitions + 1):
        for name, activation in ACTIVATIONS.items():
            began = time.perf_counter()
            activation(x).backward(grad)
            if repetition > 0:
                times_ms[name].append((time.perf_counter() - began) * 1e3)
            x.grad = None
    return {name: statistics.median(times) for name, times in times_ms.items()}


if __name__ == "__main__":
    raise SystemExit(main())
