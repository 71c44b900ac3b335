"""Measure the speed of models, with trtexec's flags and report; several models take turns and get a ratio."""

from __future__ import annotations

import argparse
import datetime
import json
import math
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from taijitu_runtime.backends import check_is_engine
from taijitu_runtime.bench.board import Board, BoardWatch
from taijitu_runtime.bench.conditions import CpuTimes, clock_warnings, load_warnings, machine
from taijitu_runtime.bench.inputs import random_array
from taijitu_runtime.bench.onnx_network import OnnxNetwork
from taijitu_runtime.bench.ort_probe import OrtProbe
from taijitu_runtime.bench.queries import Loop, Probe, measure
from taijitu_runtime.bench.report import Result, explanations, profile_for_export, ratio_line, times_for_export
from taijitu_runtime.bench.statistics import Ratio, ratio_of_turns
from taijitu_runtime.bench.trt_network import TrtNetwork
from taijitu_runtime.bench.trt_probe import TrtProbe
from taijitu_runtime.command_line import Once, Parser, run
from taijitu_runtime.console import say, say_json, shown, working
from taijitu_runtime.engine_card import sidecar_of
from taijitu_runtime.errors import UsageError
from taijitu_runtime.files import write_whole
from taijitu_runtime.flags import add_shared
from taijitu_runtime.machine import MOST_THREADS
from taijitu_runtime.model_files import is_engine, is_onnx
from taijitu_runtime.output_path import check_output_path

PROFILED_QUERIES = 100
TRTEXEC_FLAGS = {
    **dict.fromkeys(("--onnx", "--loadEngine"), "the path of the file without a flag"),
    **dict.fromkeys(("--fp16", "--int8", "--best", "--saveEngine"), "taijitu engine, which builds"),
    **dict.fromkeys(("--batch", "--optShapes"), "--shapes"),
    "--dumpProfile": "--exportProfile=FILE",
    "--dumpLayerInfo": "--exportLayerInfo=FILE",
}
"""Flags of trtexec that this command does not have, with what to write instead."""
Network: TypeAlias = OnnxNetwork | TrtNetwork

NO_USE: dict[type[Network], dict[str, str]] = {
    OnnxNetwork: {
        "useCudaGraph": "ONNX Runtime runs it without CUDA graphs",
        "noDataTransfers": "on a CPU nothing is copied, and elsewhere ONNX Runtime copies within its call",
        "rebuild": "an ONNX file needs no build",
    },
    TrtNetwork: {"cpuThreads": "an engine runs on the GPU", "provider": "an engine runs through TensorRT itself"},
}
EXPORTS = ("exportTimes", "exportProfile", "exportLayerInfo")


@run("taijitu bench")
def main(argv: list[str] | None = None) -> int:
    """Run the command; 0: measured, possibly with warnings, 2: wrong usage or model."""
    options = build_parser().parse_intermixed_args(argv)
    check_options(options)
    loop = Loop(options.warmUp, options.duration, options.iterations)
    with ExitStack() as opened:
        artefacts = prepare_artefacts(options)
        for artefact in artefacts:
            opened.enter_context(artefact)
        probes = [open_probe(artefact, options) for artefact in artefacts]
        before = CpuTimes.now()
        with BoardWatch() as watch, working(f"measuring for {options.duration:g} s each"):
            traces = measure(probes, loop)
        load = load_warnings(before, CpuTimes.now())
        results = [
            Result.of(probe, trace, options.percentile, [*clock_warnings(probe.device), *load])
            for probe, trace in zip(probes, traces)
        ]
        times = [[[query.latency_ms for query in turn] for turn in trace.turns] for trace in traces]
        ratios = [ratio_of_turns(ours, times[0]) for ours in times[1:]]
        modes = [modes_of(artefact, probe, loop, options) for artefact, probe in zip(artefacts, probes)]
        images = images_per_s(artefacts[0], results[0], options) if len(artefacts) == 1 else None
        report(options, modes, results, ratios, watch.board, images)
        export(options, probes[0], results[0])
    return 0


def build_parser() -> argparse.ArgumentParser:
    """Return the command line of runtime/bench.py and `taijitu bench`, with trtexec's flags and their meaning."""
    parser = Parser(prog="taijitu bench", description=__doc__)
    parser.elsewhere = TRTEXEC_FLAGS
    parser.add_argument("models", type=Path, nargs="+", metavar="model", help="any ONNX file, or an engine")
    parser.add_argument("--shapes", action=Once, help="such as images:8x32x32x3 (default: one image, or the "
                        "smallest batch)")  # fmt: skip
    parser.add_argument("--warmUp", type=float, default=200, metavar="MS", help="before measuring (%(default)s ms)")
    parser.add_argument("--duration", type=float, default=3, metavar="S", help="at least (%(default)s s per model)")
    parser.add_argument("--iterations", type=int, default=10, metavar="N", help="at least (%(default)s)")
    parser.add_argument("--avgRuns", type=int, default=10, metavar="N", help="queries in each average "
                        "of --verbose (%(default)s)")  # fmt: skip
    parser.add_argument("--percentile", type=percentages, default=(90, 95, 99), metavar="P1,P2", help="of the times "
                        "(90,95,99)")  # fmt: skip
    parser.add_argument("--cpuThreads", type=int, metavar="N", help="threads of ONNX Runtime (one per core)")
    add_shared(parser, "--provider")
    parser.add_argument("--useCudaGraph", action="store_true", help="engines: run the network as one CUDA graph")
    parser.add_argument("--noDataTransfers", action="store_true", help="engines: copy nothing to and from the GPU")
    add_shared(parser, "--rebuild")
    parser.add_argument("--exportTimes", type=Path, metavar="F.json", help="write begin and end of each step")
    parser.add_argument("--exportProfile", type=Path, metavar="F.json", help="write the time of every layer")
    parser.add_argument("--exportLayerInfo", type=Path, metavar="F.json", help="write the layers as they are executed")
    parser.add_argument("--verbose", action="store_true", help="print averages of --avgRuns queries, and explanations")
    add_shared(parser, "--json")
    return parser


def percentages(text: str) -> tuple[float, ...]:
    """Parse percentages such as "90,95,99"."""
    numbers = tuple(float(part) for part in text.split(","))
    if not all(0 <= number <= 100 for number in numbers):
        raise argparse.ArgumentTypeError(f"got {text}, expected percentages from 0 to 100")
    return numbers


def check_options(options: argparse.Namespace) -> None:
    """Raise UsageError for a number out of range, or an export that cannot be written or is for one model only."""
    for name, least in (("warmUp", 0), ("duration", 0), ("iterations", 1), ("avgRuns", 1), ("cpuThreads", 1)):
        value = getattr(options, name)
        if value is not None and not least <= value < math.inf:
            raise UsageError(f"got --{name}={value:g}, expected a number from {least} up")
    if (options.cpuThreads or 1) > MOST_THREADS:
        raise UsageError(f"got --cpuThreads={options.cpuThreads}, expected 1 to {MOST_THREADS}")
    if options.verbose and options.json:
        raise UsageError("got --verbose with --json, expected one of them; --exportTimes has every single time")
    sidecars = [sidecar_of(model) for model in options.models if is_engine(model)]
    taken = {os.path.realpath(file) for file in (*options.models, *sidecars)}
    for name in EXPORTS:
        file = getattr(options, name)
        if file is None:
            continue
        if len(options.models) > 1:
            raise UsageError(f"got --{name} and {len(options.models)} models, expected one; measure them one by one")
        if os.path.realpath(file) in taken:
            raise UsageError(
                f"{shown(file)}: got the model, its sidecar or another export, expected --{name} to name its own file"
            )
        taken.add(os.path.realpath(file))
        check_output_path(file)


def prepare_artefacts(options: argparse.Namespace) -> list[Network]:
    """Return the models, not loaded yet. Raises UsageError for a flag that none of them can use, with the reason."""
    artefacts = [prepare_artefact(model, options) for model in options.models]
    kinds = {type(artefact) for artefact in artefacts}
    for name, reason in NO_USE[kinds.pop()].items() if len(kinds) == 1 else ():
        if getattr(options, name):
            raise UsageError(f"got --{name} for {options.models[0]}: {reason}; remove the flag")
    return artefacts


def prepare_artefact(model: Path, options: argparse.Namespace) -> Network:
    """Return one of them, by its file."""
    if is_onnx(model):
        return OnnxNetwork(model, threads=options.cpuThreads or 0, provider=options.provider or "cpu")
    check_is_engine(model)
    return TrtNetwork(model, cuda_graph=options.useCudaGraph, rebuild=options.rebuild)


def open_probe(artefact: Network, options: argparse.Namespace) -> Probe:
    """Return the probe for a model, with random input of the requested shapes. UsageError if the memory lacks room."""
    shapes = artefact.shapes(options.shapes)
    dtypes = {tensor.name: np.dtype(tensor.dtype) for tensor in artefact.inputs}
    try:
        feeds = {name: random_array(shape, dtypes[name]) for name, shape in shapes.items()}
    except (MemoryError, OverflowError, ValueError):
        raise UsageError(f"got --shapes={options.shapes}, more than the memory holds; use a smaller batch") from None
    if isinstance(artefact, TrtNetwork):
        return TrtProbe(artefact, feeds, transfers=not options.noDataTransfers)
    return OrtProbe(artefact, feeds)


def images_per_s(artefact: Network, result: Result, options: argparse.Namespace) -> float:
    """Return the throughput in images, or in rows of the first input."""
    shape = next(iter(artefact.shapes(options.shapes).values()), ())
    return result.throughput_qps * (shape[0] if shape else 1)


def report(
    options: argparse.Namespace,
    modes: Sequence[dict[str, str]],
    results: Sequence[Result],
    ratios: Sequence[Ratio],
    board: Board | None,
    images: float | None,
) -> None:
    """Print the results. `images`: images per second, if there is one model."""
    if options.json:
        found = as_json(options.models, modes, results, ratios)
        say_json({**found, "board": board.to_dict(images) if board else None}, sys.stdout, indent=1)
        return
    for model, mode, result in zip(options.models, modes, results):
        say("\n".join(text_of(model, mode, result, options)), sys.stdout)
    for model, ratio in zip(options.models[1:], ratios):
        say(ratio_line(shown(model), shown(options.models[0]), ratio), sys.stdout)
    if board is not None:
        say("\n".join(board.lines(images)), sys.stdout)


def modes_of(artefact: Network, probe: Probe, loop: Loop, options: argparse.Namespace) -> dict[str, str]:
    """Return everything that the numbers depend on, as text by name."""
    shapes, bulk = artefact.shapes(options.shapes), artefact.bulk
    written = ",".join(f"{name}={'x'.join(map(str, shape))}" for name, shape in shapes.items())
    return {
        "Model": artefact.title,
        **probe.modes,
        "Input inference shape": written,
        **({"Many images": f"{bulk.workers} runs of {bulk.batch} side by side (classify, verify)"} if bulk else {}),
        "Iterations": str(loop.iterations),
        "Duration": f"{loop.duration_s:g}s (+ {loop.warm_up_ms:g}ms warm up)",
        "Averages": f"{options.avgRuns} inferences",
        "Machine": machine(),
        "Date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    }


def text_of(model: Path, modes: dict[str, str], result: Result, options: argparse.Namespace) -> Iterator[str]:
    """Yield the lines of one model's report."""
    yield f"=== {shown(model)} ==="
    yield from (f"{name}: {text}" for name, text in modes.items())
    yield f"Warmup completed {result.trace.warm_up_queries} queries over {options.warmUp:g} ms"
    yield f"Timing trace has {len(result.trace.queries)} queries over {result.trace.wall_ms / 1000:g} s"
    if options.verbose:
        yield ""
        yield from result.trace_lines(options.avgRuns)
    yield ""
    yield from result.summary_lines()
    if options.verbose:
        yield ""
        yield explanations(result.device)
    yield ""


def as_json(
    models: Sequence[Path], modes: Sequence[dict[str, str]], results: Sequence[Result], ratios: Sequence[Ratio]
) -> dict[str, Any]:
    """Return the object that --json prints."""
    return {
        "models": [
            {"model": str(model), "modes": mode, **result.to_dict()}
            for model, mode, result in zip(models, modes, results)
        ],
        "ratios": [
            {"model": str(model), "to": str(models[0]), "median": ratio.median, "low": ratio.low, "high": ratio.high}
            for model, ratio in zip(models[1:], ratios)
        ],
    }


def export(options: argparse.Namespace, probe: Probe, result: Result) -> None:
    """Write the files that were asked for, in trtexec's form."""
    if options.exportTimes:
        write_json(options.exportTimes, times_for_export(result.trace.queries))
    if options.exportProfile:
        count = max(PROFILED_QUERIES, options.iterations)
        write_json(options.exportProfile, profile_for_export(probe.profile(count), count))
    if options.exportLayerInfo:
        write_json(options.exportLayerInfo, probe.layer_info())


def write_json(path: Path, content: list[dict[str, Any]] | dict[str, Any]) -> None:
    """Write the whole file or none, a list with one row in a line. WriteError where it cannot be written."""
    if isinstance(content, list):
        text = "[\n" + ",\n".join(map(json.dumps, content)) + "\n]\n"
    else:
        text = json.dumps(content, indent=1) + "\n"
    write_whole(path, text.encode())
