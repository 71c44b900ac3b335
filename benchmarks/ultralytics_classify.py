"""Classify with ultralytics and with taijitu, one network and one machine.

python benchmarks/ultralytics_classify.py --photos DIR [--rounds 5]

Ultralytics exports YOLO11n-cls with random weights to ONNX, `taijitu adopt` reads that file by its own metadata, and
both answer on ONNX Runtime on the CPU, alternately. Needs ultralytics (pip install ultralytics); nothing is downloaded.
Prints Markdown.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import onnxruntime
import ultralytics

import taijitu
from taijitu_runtime.bench.conditions import machine
from taijitu_runtime.datasets.names import has_picture_suffix

BIN = Path(sys.executable).parent
SIDE = 224


def main() -> int:
    """Run the command and print Markdown."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--photos", type=Path, required=True, help="folder of pictures")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each (default: %(default)s)")
    args = parser.parse_args()
    photos = sorted(str(path.resolve()) for path in args.photos.rglob("*") if has_picture_suffix(path.name))
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        yolo = ultralytics.YOLO("yolo11n-cls.yaml", task="classify", verbose=False)
        theirs = yolo.export(format="onnx", imgsz=SIDE, dynamic=True, simplify=False, verbose=False)
        taijitu.adopt(theirs, "adopted.onnx")
        versions = f"ultralytics {ultralytics.__version__}, ONNX Runtime {onnxruntime.__version__}"
        print(f"\n{datetime.now(timezone.utc):%Y-%m-%d}, {machine()}, {versions}, {len(photos)} photographs\n")
        print("| | ultralytics | taijitu | ratio |\n|---|---|---|---|", flush=True)
        command: list[Path | str] = [
            BIN / "yolo",
            "classify",
            "predict",
            f"model={theirs}",
            f"source={photos[0]}",
            "device=cpu",
            "save=False",
        ]
        row(
            "the command for one picture, s",
            lambda: seconds_of(command),
            lambda: seconds_of([BIN / "taijitu", "classify", "adopted.onnx", photos[0]]),
            args.rounds,
        )
        model = ultralytics.YOLO(theirs, task="classify", verbose=False)
        with taijitu.Classifier.from_file("adopted.onnx") as classifier:
            row(
                "in Python, one picture after the other, ms each",
                lambda: 1e3 / len(photos) * seconds(lambda: [answer(model, photo) for photo in photos]),
                lambda: 1e3 / len(photos) * seconds(lambda: [classifier.predict(photo) for photo in photos]),
                args.rounds,
            )
            row(
                "in Python, all pictures in one call, ms each",
                lambda: 1e3 / len(photos) * seconds(lambda: answer(model, photos)),
                lambda: 1e3 / len(photos) * seconds(lambda: classifier.predict(photos)),
                args.rounds,
            )
            same = sum(
                int(np.argmax(result.probs.data.numpy())) == ours.best.index
                for result, ours in zip(answer(model, photos), classifier.predict(photos), strict=True)
            )
        print(f"\nThe same first answer on {same} of {len(photos)} pictures.")
    return 0


def answer(model: ultralytics.YOLO, source: str | list[str]) -> list[ultralytics.engine.results.Results]:
    """Return what ultralytics answers to pictures."""
    results: list[ultralytics.engine.results.Results] = model.predict(source, device="cpu", verbose=False)
    return results


def row(name: str, theirs: Callable[[], float], ours: Callable[[], float], rounds: int) -> None:
    """Measure alternately, after one turn that does not count, and print the medians."""
    theirs(), ours()
    turns = [(theirs(), ours()) for _ in range(rounds)]
    first, second = (statistics.median(values) for values in zip(*turns, strict=True))
    print(f"| {name} | {first:.2f} | {second:.2f} | {first / second:.1f} |", flush=True)


def seconds(work: Callable[[], object]) -> float:
    """Return how long `work` takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def seconds_of(command: list[Path | str]) -> float:
    """Return how long a command takes; an error if it fails."""
    return seconds(lambda: subprocess.run(list(map(str, command)), check=True, capture_output=True))


if __name__ == "__main__":
    raise SystemExit(main())
