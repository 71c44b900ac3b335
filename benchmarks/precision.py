"""Measure the cost and the benefit of a smaller precision.

python benchmarks/precision.py ckpt.pt --data DIR [--repetitions 300]

Exports the checkpoint as fp32, fp16 and int8, judges each against PyTorch on all test pictures, and times them on ONNX
Runtime's CPU: medians of alternating calls in one process, so that other work of the machine slows all alike.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from datetime import datetime, timezone
from functools import partial
from pathlib import Path

import onnxruntime

from taijitu_export.comparison.bounds import drop_interval
from taijitu_export.comparison.verify import verify_file
from taijitu_export.precision.conversion import PrecisionRequest
from taijitu_export.sample_pictures import sample_pictures
from taijitu_export.to_onnx.export import export_file
from taijitu_runtime.backends import OrtBackend
from taijitu_runtime.bench.conditions import machine
from taijitu_runtime.card import PRECISIONS

THREADS = 2
BATCHES = (1, 16)
WARM_UP = 20


def main() -> int:
    """Print one row for each precision."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="folder or tar of train/<label>/* and test/<label>/*")
    parser.add_argument(
        "--repetitions", type=int, default=300, help="calls of each model and batch (default: %(default)s)"
    )
    args = parser.parse_args()
    print(f"{datetime.now(timezone.utc):%Y-%m-%d}, onnxruntime {onnxruntime.__version__}, {machine()}")
    print(f"{THREADS} threads, load of the machine {os.getloadavg()[0]:.1f}\n")
    with tempfile.TemporaryDirectory() as folder:
        models = {precision: Path(folder, f"{precision}.onnx") for precision in PRECISIONS}
        for precision, path in models.items():
            smaller = None if precision == "fp32" else PrecisionRequest.asked_for(precision, args.data, None)
            print("\n".join(export_file(args.checkpoint, path, smaller=smaller).report()), flush=True)
        latency_ms = {batch: median_latency_ms(models, batch, args.repetitions) for batch in BATCHES}
        head = [
            "file",
            "bytes",
            "top-1",
            "lost, gained",
            "drop (bounds)",
            "verdict",
            *(f"ms, batch {b}" for b in BATCHES),
        ]
        print(f"\n| {' | '.join(head)} |\n|{'---|' * len(head)}")
        for precision, path in models.items():
            found = verify_file(path, args.data, args.checkpoint)
            assert found.comparison is not None
            assert found.comparison.labelled is not None
            labelled = found.comparison.labelled
            low, high = drop_interval(labelled.lost, labelled.gained, found.comparison.pictures).points
            row = [precision, f"{path.stat().st_size:,}", f"{labelled.candidate.top1_percent:.2f} %"]
            row += [f"{labelled.lost}, {labelled.gained}", f"{labelled.drop_points:.2f} ({low:.2f} to {high:.2f})"]
            row += [found.verdict.outcome.value, *(f"{latency_ms[batch][precision]:.3f}" for batch in BATCHES)]
            print(f"| {' | '.join(row)} |", flush=True)
    return 0


def median_latency_ms(models: dict[str, Path], batch: int, repetitions: int) -> dict[str, float]:
    """Return median milliseconds of a call with `batch` pictures, by model."""
    with ExitStack() as stack:
        backends = {name: stack.enter_context(OrtBackend(path, threads=THREADS)) for name, path in models.items()}
        taken = next(iter(backends.values())).input
        pictures = sample_pictures(batch, taken.height, taken.width)
        return median_ms({name: partial(backend.infer, pictures) for name, backend in backends.items()}, repetitions)


def median_ms(calls: Mapping[str, Callable[[], object]], repetitions: int) -> dict[str, float]:
    """Return the median of each call in milliseconds; they take turns, after WARM_UP rounds that do not count."""
    times_ms: dict[str, list[float]] = {name: [] for name in calls}
    for repetition in range(WARM_UP + repetitions):
        for name, call in calls.items():
            began = time.perf_counter()
            call()
            if repetition >= WARM_UP:
                times_ms[name].append((time.perf_counter() - began) * 1e3)
    return {name: statistics.median(times) for name, times in times_ms.items()}


if __name__ == "__main__":
    raise SystemExit(main())
