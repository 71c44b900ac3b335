"""Measure the effect of the export's passes on ONNX Runtime.

python benchmarks/passes.py [network ...] [--seconds 15] [--threads 2]
    [--input uint8|float32]

Each of taijitu's networks, untrained, one picture of its own size on the CPU. "plain" is the file of torch.onnx.export,
with the normalisation of training; "ours" is the file of export/to_onnx.py; and for each pass, ours
without that pass. Latencies are medians of turns in one process, in a new random order each time, so that other
work of the machine slows all of them. OpenVINO reads the same two files of VGNetG-1.0MP if it is installed
(pip install '.[bench]').
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import platform
import random
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from importlib.util import find_spec
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from taijitu_export.onnx.onnx_from_checkpoint import PASSES, card_of, finished, network_of, torch_graph
from taijitu_export.sample_pictures import sample_pictures
from taijitu_runtime.bench.conditions import machine
from taijitu_runtime.card import Architecture
from taijitu_runtime.pictures.preprocess import normalise
from taijitu_training import checkpoint
from taijitu_training.checkpoint import Checkpoint
from taijitu_training.data import input_contract
from taijitu_training.data import normalise as normalise_batch
from taijitu_training.models import create_model, list_models, model_options
from taijitu_training.recipes.named import RECIPES

BESIDE_OPENVINO = "vgnetg_1_0mp"
UNTIMED, TIMED = 2, 3  # runs in a turn
REST_S = 0.01  # before a turn, until the previous turn's threads sleep
FEWEST_TURNS = 3
SESSIONS = 8  # of each variant, one after another: the addresses of its memory vary, and cost up to 15 %
RELATIVE_TOLERANCE = 1e-4  # of the range of the logits, as in export/to_onnx.py
INPUT_ORDER = "planes first"

Run = Callable[[], Any]


class PlainInput(nn.Module):
    """The network after training's normalisation, written as in training: uint8 (N, H, W, 3) -> logits (N, K)."""

    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("mean", torch.tensor(mean) * 255.0)
        self.register_buffer("std", torch.tensor(std) * 255.0)

    def forward(self, images: Tensor) -> Tensor:
        normalised = ((images.float() - self.mean) / self.std).permute(0, 3, 1, 2)
        logits: Tensor = self.model(normalised.contiguous())
        return logits


@dataclasses.dataclass(frozen=True)
class Variant:
    """One file: its nodes, its size, and its median latency."""

    nodes: int
    size_kb: float
    median_ms: float


def main() -> int:
    """Print two tables in Markdown."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "networks", nargs="*", default=list_models(), help="taijitu's networks to measure (default: all)"
    )
    parser.add_argument("--seconds", type=float, default=15.0, help="time to measure each network (default: 15)")
    parser.add_argument("--threads", type=int, default=2, help="threads of one inference (default: 2)")
    parser.add_argument(
        "--input", choices=("uint8", "float32"), default="uint8", help="input of the network (default: uint8)"
    )
    args = parser.parse_args()
    print(f"{datetime.now(timezone.utc):%Y-%m-%d}, onnxruntime {onnxruntime.__version__}, torch {torch.__version__}, "
          f"Python {platform.python_version()}, input {args.input}")  # fmt: skip
    print(f"{machine()}, {args.threads} threads, load {os.getloadavg()[0]:.1f}\n")
    found = {}
    for name in args.networks:
        found[name] = measured(name, args.input, args.threads, args.seconds)
        print(f"{name} {len(found)}/{len(args.networks)}", file=sys.stderr)
    print(overview(found))
    print(contributions(found))
    return 0


def measured(name: str, input_form: str, threads: int, seconds: float) -> dict[str, Variant]:
    """Measure the files of `files`, and "OpenVINO, plain" and "OpenVINO, ours" if OpenVINO is installed."""
    content = untrained(name)
    contract = card_of(content, "").input
    pictures = sample_pictures(1, contract.height, contract.width)
    images = pictures if input_form == "uint8" else normalise(pictures, contract)
    protos = files(content, input_form)
    times_ms: dict[str, list[float]] = {}
    for _ in range(SESSIONS):
        in_any_order = random.sample(list(protos), len(protos))
        runs = {variant: on_onnx_runtime(protos[variant], images, threads) for variant in in_any_order}
        if name == BESIDE_OPENVINO and find_spec("openvino"):
            runs |= {f"OpenVINO, {key}": on_openvino(protos[key], images, threads) for key in ("plain", "ours")}
        if not times_ms:
            compare(name, runs)
        for variant, times in measure(runs, seconds / SESSIONS).items():
            times_ms.setdefault(variant, []).extend(times)
        runs.clear()
    sizes = {key: (len(proto.graph.node), proto.ByteSize() / 1e3) for key, proto in protos.items()}
    return {
        key: Variant(*sizes[key.removeprefix("OpenVINO, ")], statistics.median(times))
        for key, times in times_ms.items()
    }


def compare(name: str, runs: Mapping[str, Run]) -> None:
    """Raise SystemExit unless all answer alike."""
    expected = runs["plain"]()
    for variant, run in runs.items():
        difference = np.abs(run() - expected).max() / np.ptp(expected)
        if not difference <= RELATIVE_TOLERANCE:
            raise SystemExit(f"{name}, {variant}: the logits are off by {difference:.2g} of their range")


def files(content: Checkpoint, input_form: str) -> dict[str, onnx.ModelProto]:
    """Make several files of the same network: "plain", "ours", and "without PASS" for each pass with an effect."""
    card = card_of(content, "")
    network, blank = network_of(content, card, input_form)
    graph = ir.to_proto(torch_graph(network, blank))
    plain = graph
    if input_form == "uint8":
        plain = ir.to_proto(torch_graph(PlainInput(content.model(), card.input.mean, card.input.std).eval(), blank))
    made = {"plain": plain, "ours": finished(ir.from_proto(graph), card)}
    for left_out in PASSES:
        rest = [graph_pass for graph_pass in PASSES if graph_pass is not left_out]
        made[f"without {pass_name(left_out)}"] = finished(ir.from_proto(graph), card, rest)
    if input_form == "uint8":
        made[f"without {INPUT_ORDER}"] = finished(ir.from_proto(plain), card)
    return {name: proto for name, proto in made.items() if name == "ours" or proto != made["ours"]}


def pass_name(graph_pass: ir.passes.InPlacePass) -> str:
    return type(graph_pass).__name__.removesuffix("Pass")


def untrained(name: str, **choices: Any) -> Checkpoint:
    """Make a network of random weights whose batch norms are not the identity."""
    torch.manual_seed(0)
    model = create_model(name, **choices)
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
            module.momentum = 1.0
    height, width = model.input_size
    recipe = RECIPES["yynet_cifar10"]
    # Sets statistics with which no signal of such pictures fades or grows along the network.
    model(normalise_batch(torch.from_numpy(sample_pictures(4, height, width, seed=1)), recipe))
    options = model_options(name, **choices)
    return Checkpoint(
        state_dict=model.state_dict(),
        architecture=Architecture(name, options),
        labels=[str(index) for index in range(options["num_classes"])],
        input=input_contract((height, width), recipe),
        training={"data": "none", "recipe": {}, "metrics": {}, "date": "2026-01-01"},
        producer=checkpoint.producer_versions(),
    )


def on_onnx_runtime(proto: onnx.ModelProto, images: NDArray[Any], threads: int) -> Run:
    """Return one inference, with the options of the runtime's backend."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(["logits"], {"images": images})[0]


def on_openvino(proto: onnx.ModelProto, images: NDArray[Any], threads: int) -> Run:
    """Return the same on OpenVINO, in float32."""
    import openvino

    core = openvino.Core()
    model = core.read_model(proto.SerializeToString())
    model.reshape(list(images.shape))  # faster there than with a dynamic batch
    settings = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    request = core.compile_model(model, "CPU", settings).create_infer_request()
    return lambda: request.infer({0: images})[0]


def measure(runs: Mapping[str, Run], seconds: float) -> dict[str, list[float]]:
    """Return milliseconds by variant."""
    times_ms: dict[str, list[float]] = {name: [] for name in runs}
    order, began, turns = list(runs), time.perf_counter(), 0
    while turns < FEWEST_TURNS or time.perf_counter() - began < seconds:
        random.shuffle(order)
        turns += 1
        for name in order:
            time.sleep(REST_S)
            for repetition in range(UNTIMED + TIMED):
                start = time.perf_counter()
                runs[name]()
                if repetition >= UNTIMED:
                    times_ms[name].append((time.perf_counter() - start) * 1e3)
    return times_ms


def overview(found: Mapping[str, Mapping[str, Variant]]) -> str:
    """Tabulate the plain file and ours, one row per network, with OpenVINO's latency."""
    lines = ["| network | nodes | | kB | | ms | | |", "|---|---|---|---|---|---|---|---|"]
    lines += ["| | plain | ours | plain | ours | plain | ours | ours / plain |"]
    for name, variants in found.items():
        plain, ours = variants["plain"], variants["ours"]
        lines.append(
            f"| {name} | {plain.nodes} | {ours.nodes} | {plain.size_kb:.0f} | {ours.size_kb:.0f} | "
            f"{plain.median_ms:.3f} | {ours.median_ms:.3f} | **{ours.median_ms / plain.median_ms:.2f}** |"
        )
    for name, variants in found.items():
        for key in ("OpenVINO, plain", "OpenVINO, ours"):
            if key in variants:
                ms = variants[key].median_ms
                lines.append(f"\n{name}, {key}: {ms:.3f} ms; ours on ONNX Runtime / that: "
                             f"**{variants['ours'].median_ms / ms:.2f}**")  # fmt: skip
    return "\n".join(lines) + "\n"


def contributions(found: Mapping[str, Mapping[str, Variant]]) -> str:
    """Tabulate what each file has more without one pass, nodes / kB / latency in percent: one row per network."""
    names = [*map(pass_name, PASSES), INPUT_ORDER]
    columns = [name for name in names if any(f"without {name}" in variants for variants in found.values())]
    lines = [f"| | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for name, variants in found.items():
        cells = [more(variants.get(f"without {column}"), variants["ours"]) for column in columns]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "Without one pass: additional nodes, kB and latency (empty: the same file):\n\n" + "\n".join(lines) + "\n"


def more(other: Variant | None, ours: Variant) -> str:
    if other is None:
        return ""
    percent = (other.median_ms / ours.median_ms - 1) * 100
    return f"{other.nodes - ours.nodes:+d} / {other.size_kb - ours.size_kb:+.1f} / {percent:+.0f} %"


if __name__ == "__main__":
    raise SystemExit(main())
