"""What DeepStream's scaling of frames changes in the answers, as far as it can be told without DeepStream.

python benchmarks/deepstream.py model.onnx --data DIR

Gst-nvinfer scales a whole frame to the network's size, in the files of `taijitu deepstream` with bilinear interpolation
on the GPU. OpenCV's INTER_LINEAR stands in for it here: the value between the four nearest pixels, without
antialiasing. Not in it: video's colours (4:2:0, BT.601 or 709) and the rounding of the GPU's texture units.

Pictures whose name begins with a label of the model and an underscore also tell how many answers are right.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from taijitu_runtime.bench.conditions import machine
from taijitu_runtime.card import InputSpec
from taijitu_runtime.classifier import Classifier
from taijitu_runtime.datasets import scan_folder
from taijitu_runtime.pictures.preprocess import decode_picture, preprocess_and_region
from taijitu_runtime.pictures.resizing.geometry import SeenRegion
from taijitu_runtime.pictures.resizing.resize import resize_picture


def main() -> int:
    """Print one row for each way to scale."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path, help="an ONNX file")
    parser.add_argument("--data", type=Path, required=True, help="folder with pictures at any depth")
    args = parser.parse_args()
    files = [args.data.joinpath(*parts) for parts in scan_folder(args.data).pictures]
    print(f"{datetime.now(timezone.utc):%Y-%m-%d}, onnxruntime {onnxruntime.__version__}, {machine()}")
    with Classifier.from_file(args.model) as classifier:
        card = classifier.card
        size = f"{card.input.width} x {card.input.height}"
        print(f"{card.architecture.name}, {size}, {card.input.resize}, {len(files)} pictures\n")
        rows = [prepared(file, card.input) for file in files]
        logits = {way: classifier.logits(np.stack([row[way] for row in rows])) for way in WAYS}
    ours = logits["taijitu"]
    span = float(np.ptp(ours, axis=1).mean())
    targets = np.array([target(file, card.labels) for file in files])
    print("| scaled by | top-1 as taijitu's | right | mean difference of logits, of their range | largest |")
    print("|---|---|---|---|---|")
    for way, found in logits.items():
        same = int((found.argmax(axis=1) == ours.argmax(axis=1)).sum())
        is_known = targets >= 0
        right = int((found.argmax(axis=1) == targets)[is_known].sum())
        known = f"{right} of {int(is_known.sum())}" if is_known.any() else "not known"
        difference = np.abs(found - ours) / span
        print(f"| {way} | {same} of {len(files)} | {known} | {difference.mean():.2%} | {np.max(difference):.0%} |")
    return 0


def prepared(file: Path, spec: InputSpec) -> dict[str, NDArray[np.uint8]]:
    """Prepare a picture as the network would get it, uint8 RGB (H, W, 3), by each of WAYS."""
    pixels, region = preprocess_and_region(file, spec)
    picture = decode_picture(file)
    nvinfer = dataclasses.replace(
        spec, resize="stretch", resize_size=min(spec.height, spec.width), interpolation="bilinear_opencv"
    )
    return {way: make(picture, pixels, region, nvinfer) for way, make in WAYS.items()}


def inside(picture: NDArray[np.uint8], region: SeenRegion) -> NDArray[np.uint8]:
    """Return the part of a picture that taijitu looks at."""
    height, width = picture.shape[:2]
    left, top, right, bottom = (max(0.0, min(1.0, share)) for share in region)
    return picture[round(top * height) : round(bottom * height), round(left * width) : round(right * width)]


Make = Callable[[NDArray[np.uint8], NDArray[np.uint8], SeenRegion, InputSpec], NDArray[np.uint8]]
WAYS: dict[str, Make] = {
    "taijitu": lambda picture, pixels, region, spec: pixels,
    "nvinfer, whole frame": lambda picture, pixels, region, spec: resize_picture(picture, spec),
    "nvinfer, of what taijitu looks at": lambda picture, pixels, region, spec: resize_picture(
        np.ascontiguousarray(inside(picture, region)), spec
    ),
}


def target(file: Path, labels: tuple[str, ...]) -> int:
    """Return the index of the label that the file's name begins with, or -1."""
    return next((index for index, label in enumerate(labels) if file.name.startswith(f"{label}_")), -1)


if __name__ == "__main__":
    raise SystemExit(main())
