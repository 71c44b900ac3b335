"""Build an engine for TensorRT or TensorRT-RTX from an ONNX file, and prove its precision: trtexec in Python.

python export/to_engine.py model.onnx --saveEngine=model.engine [--backend auto|tensorrt|rtx] [--fp16 | --int8]
                           [trtexec's flags]
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from taijitu_export.engine.library import BACKENDS
from taijitu_export.engine.memory import pools_from_text
from taijitu_export.engine.options import Options
from taijitu_export.engine.request import Request
from taijitu_export.engine.shapes import Shapes
from taijitu_runtime.bench.inputs import shapes_from_text
from taijitu_runtime.command_line import Once, Parser, run
from taijitu_runtime.console import say, say_json, shown
from taijitu_runtime.engine_card import HARDWARE_COMPATIBILITY
from taijitu_runtime.errors import UsageError
from taijitu_runtime.flags import add_shared
from taijitu_runtime.output_path import output_next_to

T = TypeVar("T")

TYPES = "the types of the ONNX file, which decide: --fp16 converts it, taijitu onnx --precision makes another"
TRTEXEC_FLAGS = {
    "--best": "--fp16, or --int8 for a graph with scales",
    **dict.fromkeys(("--stronglyTyped", "--precisionConstraints", "--layerPrecisions", "--layerOutputTypes"), TYPES),
    **dict.fromkeys(("--bf16", "--fp8", "--int4"), "--fp16, or --int8 for a graph with scales"),
    "--calib": "taijitu onnx --precision int8 --calibration DIR",
    "--workspace": "--memPoolSize=workspace:SIZE",
    "--shapes": "--optShapes",
    "--buildOnly": "--skipInference",
    **dict.fromkeys(("--loadEngine", "--duration", "--iterations", "--warmUp", "--avgRuns"), "taijitu bench ENGINE"),
    "--device": "CUDA_VISIBLE_DEVICES=N before the command",
}
"""Flags of trtexec that this command does not have, with what to write instead."""


def build_parser() -> Parser:
    """Return the command line of export/to_engine.py and `taijitu engine`.

    Trtexec's flags are spelt as trtexec has them.
    """
    parser = Parser(prog="taijitu engine", description=__doc__, allow_abbrev=False)
    parser.elsewhere = TRTEXEC_FLAGS
    # Parser reads "--flag value" and "--flag=value" alike.
    parser.add_argument("model", nargs="?", type=Path, help="the ONNX file (or --onnx)")
    parser.add_argument("--onnx", type=Path, metavar="FILE", help="the same, as for trtexec")
    parser.add_argument("--saveEngine", type=Path, metavar="FILE", help="path of the plan, with FILE.json next to it "
                        "(default: next to the ONNX file, as .engine)")  # fmt: skip
    parser.add_argument("--backend", choices=("auto", *BACKENDS), default="auto", help="the library; auto: the one "
                        "that is installed, or if both are, the one for the target (default: %(default)s)")  # fmt: skip
    _add_precision(parser)
    _add_shapes(parser)
    _add_target(parser)
    parser.add_argument("--memPoolSize", action=Once, type=argument_type(pools_from_text), default={},
                        metavar="POOL:SIZE", help="such as workspace:256M (default of the workspace: at most half of "
                        "the free memory)")  # fmt: skip
    parser.add_argument("--timingCacheFile", type=Path, metavar="FILE", help="TensorRT's timing cache (default: one in "
                        "the user's cache folder)")  # fmt: skip
    parser.add_argument("--builderOptimizationLevel", type=int, choices=range(6), metavar="0..5",
                        help="more takes longer to build (default: the library's)")  # fmt: skip
    parser.add_argument("--nishPlugin", action="store_true", help="compute Nish by taijitu's CUDA kernel, as a plugin "
                        "(default: by standard operators; which is faster was not measured)")  # fmt: skip
    parser.add_argument("--skipInference", action="store_true", help="keep the engine without running it once")
    parser.add_argument("--verbose", action="store_true", help="print all messages of the library on stderr")
    add_shared(parser, "--json")
    return parser


def _add_precision(parser: Parser) -> None:
    precision = parser.add_mutually_exclusive_group()
    precision.add_argument("--fp16", action="store_true", help="compute in float16; a float32 graph is converted "
                           "first (default: the precision of the graph)")  # fmt: skip
    precision.add_argument("--int8", action="store_true", help="compute in int8; needs a graph with scales, from "
                           "taijitu onnx --precision int8")  # fmt: skip
    parser.add_argument("--noTF32", action="store_true", help="multiply float32 as float32, not with 10-bit mantissas")


def _add_shapes(parser: Parser) -> None:
    for flag, what in (("min", "smallest"), ("opt", "usual"), ("max", "largest")):
        parser.add_argument(f"--{flag}Shapes", action=Once, type=argument_type(shapes_from_text), default={},
                            metavar="NAME:SHAPE", help=f"the {what} input, such as images:1x32x32x3")  # fmt: skip


def _add_target(parser: Parser) -> None:
    parser.add_argument("--computeCapabilities", action=Once, type=compute_capabilities, default=(),
                        metavar="LIST", help="GPUs that a TensorRT-RTX engine is for, such as 8.6,8.9,12.0 (default: "
                        "Ampere and later)")  # fmt: skip
    parser.add_argument("--hardwareCompatibilityLevel", choices=tuple(HARDWARE_COMPATIBILITY), default="none",
                        help="other GPUs that a TensorRT engine is for (default: %(default)s)")  # fmt: skip
    parser.add_argument("--versionCompatible", action="store_true", help="a TensorRT engine also for later releases")
    parser.add_argument("--useDLACore", type=int, metavar="N", help="run on this DLA core")
    parser.add_argument("--allowGPUFallback", action="store_true", help="run layers that the DLA core lacks on the GPU")


@run("taijitu engine")
def main(argv: list[str] | None = None) -> int:
    """Run the command; 0: built and as asked for, 1: not so (no file is left), 2: wrong usage or input."""
    args = build_parser().parse_args(argv)
    if args.verbose:
        logging.basicConfig(format="%(message)s", stream=sys.stderr)
        logging.getLogger("taijitu_runtime").setLevel(logging.DEBUG)
    from taijitu_export.engine.engine_artefact import make_engine  # onnx, which --help does not need

    result = make_engine(request_from(args))
    if args.json:
        say_json(result.card.to_dict(), sys.stdout)
    else:
        say("\n".join(map(shown, result.report())), sys.stdout)
    return 0


def request_from(args: argparse.Namespace) -> Request:
    """Return the command line as a request. UsageError where there is no ONNX file, or two."""
    if (args.model is None) == (args.onnx is None):
        got = "none" if args.model is None else "two"
        raise UsageError(f"got {got}, expected one ONNX file; do: taijitu engine model.onnx")
    source: Path = args.model or args.onnx
    options = Options(
        shapes=Shapes(args.minShapes, args.optShapes, args.maxShapes),
        pools=args.memPoolSize,
        optimisation_level=args.builderOptimizationLevel,
        hardware_compatibility=args.hardwareCompatibilityLevel,
        version_compatible=args.versionCompatible,
        compute_capabilities=args.computeCapabilities,
        dla_core=args.useDLACore,
        gpu_fallback=args.allowGPUFallback,
        tf32=not args.noTF32,
        timing_cache=args.timingCacheFile,
        nish_plugin=args.nishPlugin,
        progress=not args.verbose,
    )
    return Request(
        source=source,
        output=args.saveEngine or output_next_to(source, ".engine"),
        backend=args.backend,
        precision="fp16" if args.fp16 else "int8" if args.int8 else None,
        options=options,
        answer=not args.skipInference,
    )


def argument_type(parse: Callable[[str], T]) -> Callable[[str], T]:
    """Wrap `parse` for argparse, so that the text of its ValueError is shown."""

    def convert(text: str) -> T:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return convert


def compute_capabilities(text: str) -> tuple[str, ...]:
    """Parse text such as "8.6,8.9" into ("8.6", "8.9")."""
    numbers = tuple(text.split(","))
    for number in numbers:
        major, dot, minor = number.partition(".")
        if not (dot and major.isdecimal() and minor.isdecimal() and len(minor) == 1):
            raise argparse.ArgumentTypeError(f"got {number!r}, expected compute capabilities such as 8.6,8.9,12.0")
    if len(set(numbers)) < len(numbers):
        raise argparse.ArgumentTypeError(f"got {text!r}, expected each compute capability once")
    return numbers
