"""Measure the cost of Nish on ONNX Runtime, compared with SiLU.

python benchmarks/nish_onnx.py [--turns 200] [--threads 2]

One picture through untrained networks on the CPU, in milliseconds: medians of turns in one process, in a new random
order each time, so that other work of the machine slows all of them. "operators" is Nish by its definition in the
file, "kernel" the native one, "kernel, blocked" the native one inside ONNX Runtime's blocked layout, which the
runtime uses where possible.
"""

from __future__ import annotations

import argparse
import logging
import os
import platform
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch

from taijitu_export.onnx.onnx_from_checkpoint import onnx_from_checkpoint
from taijitu_runtime import native
from taijitu_runtime.backends import OrtBackend
from taijitu_runtime.bench.conditions import machine
from taijitu_runtime.card import Architecture
from taijitu_training import checkpoint
from taijitu_training.checkpoint import Checkpoint
from taijitu_training.data import input_contract
from taijitu_training.models import create_model, model_options
from taijitu_training.recipes.named import RECIPES

NETWORKS = {"vgnetg_1_0mp": 1000, "yynet_small_16": 10}
UNTIMED, TIMED = 2, 3  # runs in a turn: during the first ones, threads of the previous turn still run

Run = Callable[[], Any]


def main() -> int:
    """Print one row for each network."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--turns", type=int, default=200, help="turns of each variant (default: 200)")
    parser.add_argument("--threads", type=int, default=2, help="threads of one inference (default: 2)")
    args = parser.parse_args()
    logging.basicConfig(format="%(message)s")
    logging.getLogger("taijitu_runtime").setLevel(logging.INFO)  # logs whether the native Nish is missing
    versions = f"onnxruntime {onnxruntime.__version__}, torch {torch.__version__}, Python {platform.python_version()}"
    print(f"{datetime.now(timezone.utc):%Y-%m-%d}, {versions}")
    print(f"{machine()}, {args.threads} threads, load {os.getloadavg()[0]:.1f}")
    print(f"one picture, median ms of {args.turns} turns of {TIMED}, and times SiLU's\n")
    for name, classes in NETWORKS.items():
        with ExitStack() as stack, tempfile.TemporaryDirectory() as folder:
            runs = variants(name, classes, Path(folder), args.threads, stack)
            median_ms = measure(runs, args.turns)
            print(name)
            for variant, ms in median_ms.items():
                print(f"    {variant:22}{ms:9.3f}{ms / median_ms['SiLU']:9.2f}")
    return 0


def variants(name: str, classes: int, folder: Path, threads: int, stack: ExitStack) -> dict[str, Run]:
    """Return one inference of each variant of a network, loaded until `stack` closes."""
    silu, nish = (export(name, classes, act, folder) for act in ("silu", "nish"))
    backends = {
        "SiLU": OrtBackend(silu, threads=threads),
        "Nish, operators": OrtBackend(nish, threads=threads, native=False),
        "Nish, kernel, blocked": OrtBackend(nish, threads=threads),
    }
    runs: dict[str, Run] = {}
    for variant, backend in backends.items():
        stack.enter_context(backend)
        images = np.random.default_rng(0).integers(0, 256, backend.input.shape(1), dtype=np.uint8)
        runs[variant] = partial(backend.infer, images)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    if native.register_nish(options, "CPUExecutionProvider"):
        session = onnxruntime.InferenceSession(nish, options, providers=["CPUExecutionProvider"])
        runs["Nish, kernel"] = partial(session.run, ["logits"], {"images": images})
    else:
        del runs["Nish, kernel, blocked"]
    return runs


def export(name: str, classes: int, act: str, folder: Path) -> Path:
    """Export an untrained network."""
    torch.manual_seed(0)
    model = create_model(name, num_classes=classes, act=act)
    height, width = model.input_size
    content = Checkpoint(
        state_dict=model.state_dict(),
        architecture=Architecture(name, model_options(name, num_classes=classes, act=act)),
        labels=[str(index) for index in range(classes)],
        input=input_contract((height, width), RECIPES["yynet_cifar10"]),
        training={"data": "none", "recipe": {}, "metrics": {}, "date": "2026-01-01"},
        producer=checkpoint.producer_versions(),
    )
    path = folder / f"{name}_{act}.onnx"
    onnx.save(onnx_from_checkpoint(content), path)
    return path


def measure(runs: dict[str, Run], turns: int) -> dict[str, float]:
    """Return median milliseconds by variant."""
    times_ms: dict[str, list[float]] = {name: [] for name in runs}
    order = list(runs)
    for _ in range(turns):
        random.shuffle(order)
        for name in order:
            for repetition in range(UNTIMED + TIMED):
                began = time.perf_counter()
                runs[name]()
                if repetition >= UNTIMED:
                    times_ms[name].append((time.perf_counter() - began) * 1e3)
    return {name: statistics.median(times) for name, times in times_ms.items()}


if __name__ == "__main__":
    raise SystemExit(main())
