"""Compare lists and folders with what ONNX Runtime alone does: one bare session of one thread on each core.

python -m benchmarks.many_pictures model.onnx --pictures DIR [--rounds 5] [--busy]

Per second, medians of rounds in which all ways take turns. The bound is that of prepared pixels, at the best batch;
the other ways also decode, resize, and make answers.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

import taijitu
from taijitu_runtime.bench.conditions import machine
from taijitu_runtime.datasets.names import has_picture_suffix
from taijitu_runtime.machine import usable_cores
from taijitu_runtime.pictures.preprocess import decode_picture, preprocess

BATCHES = (1, 2, 4, 8, 16, 64)


def main() -> int:
    """Run the command and print Markdown."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path, help="an ONNX file of taijitu onnx or adopt")
    parser.add_argument("--pictures", type=Path, required=True, help="folder of pictures, a thousand or more")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each (default: %(default)s)")
    parser.add_argument("--busy", action="store_true", help="next to a program that takes each core")
    args = parser.parse_args()
    files = sorted(path for path in args.pictures.rglob("*") if has_picture_suffix(path.name))
    if not files:
        parser.error(f"{args.pictures}: got no pictures, expected some; check the path")
    with (
        taijitu.Classifier.from_file(args.model) as classifier,
        taijitu.Classifier.from_file(args.model, threads=1) as single,
        busy_cores(usable_cores() if args.busy else 0),
    ):
        pixels = np.stack([preprocess(file, classifier.card.input) for file in files])
        pictures = [decode_picture(file) for file in files]
        ways: dict[str, Callable[[], object]] = {
            f"bare sessions, one a core, batch {batch}": bare(args.model, pixels, batch, usable_cores(), 1)
            for batch in BATCHES
        }
        ways["one bare session, all cores, batch 64"] = bare(args.model, pixels, 64, 1, usable_cores())
        bounds = list(ways)[: len(BATCHES)]
        ways["`Classifier.predict`, a list of arrays"] = lambda: classifier.predict(pictures)
        ways["`Classifier.predict`, a list of files"] = lambda: classifier.predict(list(files))
        ways["the same with `threads=1`"] = lambda: single.predict(list(files))
        ways["`taijitu classify DIR`, with its start"] = lambda: classify(args.model, args.pictures)
        rates = measured(ways, len(files), args.rounds)
    bound = max(rates[name] for name in bounds)
    print(
        f"\n{datetime.now(timezone.utc):%Y-%m-%d}, {machine()}, ONNX Runtime {ort.__version__}, {len(files)} pictures\n"
    )
    print("| | pictures/s | of the bound |\n|---|---|---|")
    for name, rate in rates.items():
        print(f"| {name} | {rate:,.0f} | {rate / bound:.2f} |")
    return 0


def bare(model: Path, pixels: NDArray[np.uint8], batch: int, sessions: int, threads: int) -> Callable[[], None]:
    """Return a call that answers all pixels, shared among sessions of so many threads, none of which spins."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    opened = [ort.InferenceSession(model, options, ["CPUExecutionProvider"]) for _ in range(sessions)]

    def answer(number: int) -> None:
        own = pixels[number::sessions]
        for first in range(0, len(own), batch):
            opened[number].run(["logits"], {"images": own[first : first + batch]})

    def run() -> None:
        with ThreadPoolExecutor(sessions) as pool:
            list(pool.map(answer, range(sessions)))

    return run


@contextmanager
def busy_cores(count: int) -> Iterator[None]:
    """Run `count` processes that compute without end, until the block ends."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def classify(model: Path, folder: Path) -> None:
    """Run the command on a folder."""
    command = [Path(sys.executable).parent / "taijitu", "classify", model, folder, "--csv", "--top", "1"]
    subprocess.run(list(map(str, command)), check=True, capture_output=True)


def measured(ways: dict[str, Callable[[], object]], count: int, rounds: int) -> dict[str, float]:
    """Return the median rate of each way; a first turn does not count."""
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name, work in ways.items():
            began = time.perf_counter()
            work()
            if turn:
                rates[name].append(count / (time.perf_counter() - began))
    return {name: statistics.median(found) for name, found in rates.items()}


if __name__ == "__main__":
    raise SystemExit(main())
