"""Measure build time and size of TensorRT-RTX engines.

python benchmarks/engines.py > docs/results/engines.md

Each of taijitu's networks, and those of the Nish paper with Nish, untrained, as the exporter writes them, in float32
and float16, for batches of 1 to 16. No GPU is needed: TensorRT-RTX compiles for GPUs that are not present. Build time
covers parsing and building, the median of --turns, without the conversion to float16.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import tempfile
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import onnx
import torch

from taijitu_export.engine.engine_artefact import EngineResult, make_engine
from taijitu_export.engine.library import open_library
from taijitu_export.engine.request import Request
from taijitu_export.onnx.onnx_from_checkpoint import card_of, onnx_from_checkpoint
from taijitu_export.precision.calibration_data import CalibrationData
from taijitu_export.precision.conversion import PrecisionRequest, convert
from taijitu_export.sample_pictures import sample_pictures
from taijitu_runtime.bench.conditions import machine
from taijitu_runtime.card import Architecture
from taijitu_training import checkpoint
from taijitu_training.checkpoint import Checkpoint
from taijitu_training.data import input_contract
from taijitu_training.models import create_model, list_models, model_options
from taijitu_training.recipes.named import RECIPES
from taijitu_training.tables.tables import NISH_NETWORKS

PRECISIONS = ("fp32", "fp16")


def main() -> int:
    """Print a page of Markdown."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--networks",
        default=",".join((*list_models(), *NISH_NETWORKS)),
        help="names of networks, comma-separated (default: all)",
    )
    parser.add_argument("--turns", type=int, default=3, help="builds of each engine (default: 3)")
    args = parser.parse_args()
    library = open_library("rtx", None, for_rtx=True)
    date, load = f"{datetime.now(timezone.utc):%Y-%m-%d}", os.getloadavg()[0]
    versions = f"onnx {onnx.__version__}, torch {torch.__version__}, Python {platform.python_version()}"
    print("# Engines\n")
    print(f"`python benchmarks/engines.py`, {date}, {machine()}, no GPU,")
    print(f"with other programs running (load {load:.1f}); {library}, {versions}.")
    print("Untrained networks with Nish and 1000 labels, batches of 1 to 16, for compute capability 8.0 and later.")
    print(f"Build time is the median of {args.turns}, parsing included, conversion to float16 not.\n")
    print("| network | input | ONNX MB | fp32: built in s | engine MB | fp16: built in s | engine MB |")
    print("|---|---|---|---|---|---|---|")
    for name in args.networks.split(","):
        plain, half, onnx_bytes, texts = row(name, args.turns)
        card = plain.card.card
        assert card is not None, "an engine of a file that was just exported"
        height, width = card.input.height, card.input.width
        cells = [f"`{card.architecture.name}`", f"{height} x {width}", f"{onnx_bytes / 1e6:.2f}", texts[0]]
        print("|", " | ".join([*cells, size(plain), texts[1], size(half)]), "|", flush=True)
    return 0


def row(name: str, turns: int) -> tuple[EngineResult, EngineResult, int, list[str]]:
    """Build both engines of a network; return them, the size of its ONNX file, and their build times as text."""
    with tempfile.TemporaryDirectory() as scratch:
        files = onnx_files(name, Path(scratch))
        made, texts = [], []
        for file in files:
            turns_made = [make_engine(Request(source=file, output=file.with_suffix(".engine"))) for _ in range(turns)]
            made.append(turns_made[-1])
            texts.append(f"{statistics.median(one.built.seconds for one in turns_made):.2f}")
        return made[0], made[1], files[0].stat().st_size, texts


def onnx_files(name: str, folder: Path) -> list[Path]:
    """Export an untrained network with Nish, in float32 and in float16."""
    torch.manual_seed(0)
    model = create_model(name, num_classes=1000, act="nish")
    height, width = model.input_size
    content = Checkpoint(
        state_dict=model.state_dict(),
        architecture=Architecture(name, model_options(name, num_classes=1000, act="nish")),
        labels=[str(index) for index in range(1000)],
        input=input_contract((height, width), RECIPES["yynet_cifar10"]),
        training={"data": "none", "recipe": {}, "metrics": {}, "date": "2026-01-01"},
        producer=checkpoint.producer_versions(),
    )
    plain = onnx_from_checkpoint(content)
    pictures = sample_pictures(2, height, width)
    # An untrained network has no accuracy to lose: any label serves, and all accuracy may be lost.
    nothing = CalibrationData(pictures, pictures, np.zeros(2, np.int64), "2 pictures", "2 pictures")
    half = convert(plain, card_of(content, ""), PrecisionRequest("fp16", max_drop=100.0), nothing)
    files = [folder / f"{precision}.onnx" for precision in PRECISIONS]
    for file, proto in zip(files, (plain, half.model)):
        onnx.save(proto, file)
    return files


def size(made: EngineResult) -> str:
    return f"{len(made.built.plan) / 1e6:.2f}"


if __name__ == "__main__":
    raise SystemExit(main())
