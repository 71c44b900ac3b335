"""Make an artefact from an ONNX file of another exporter, check it against the original, and keep it if both agree.

python export/adopt.py model.onnx -o adopted.onnx --labels labels.txt --mean 0.485 0.456 0.406 --std 0.229 0.224 0.225
                       --resize shorter:256 --crop 224
python export/adopt.py model.onnx -o adopted.onnx --like timm/resnet18.a1_in1k
python export/adopt.py model.onnx -o adopted.onnx --labels labels.txt --find --data DIR
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from taijitu_export.onnx.forms import ADOPTED_FORMS, LAYOUTS
from taijitu_runtime.command_line import Parser, run
from taijitu_runtime.console import say, say_json, shown, working
from taijitu_runtime.errors import UsageError
from taijitu_runtime.flags import add_shared
from taijitu_runtime.labels import FORMS


def build_parser() -> Parser:
    """Return the command line of export/adopt.py and `taijitu adopt`."""
    parser = Parser(prog="taijitu adopt", description=__doc__)
    parser.add_argument("model", type=Path, help="an ONNX file of an image classifier, of any exporter")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the artefact, in .onnx")
    parser.add_argument("--labels", type=Path, metavar="FILE", help=f"the labels in the order of the network's "
                        f"outputs: {FORMS} (default: those of --like or of the file's metadata)")  # fmt: skip
    parser.add_argument("--like", metavar="WHAT", help="prepare pictures as timm/NAME.TAG, torchvision/NAME, a "
                        "preprocessor_config.json or timm's config.json says; other flags take precedence")  # fmt: skip
    parser.add_argument("--resize", metavar="RULE", help="shorter:256 (the shorter side), stretch, stretch:256, or "
                        "letterbox:320:white")  # fmt: skip
    parser.add_argument("--crop", type=int, metavar="PIXELS", help="side of the square that the network sees "
                        "(default: the file's)")  # fmt: skip
    parser.add_argument("--size", type=_size, metavar="HxW", help="height and width in place of --crop, such as 48x192")
    parser.add_argument("--interpolation", help="bilinear, bicubic or nearest as Pillow does it, bilinear_opencv "
                        "or bicubic_opencv (default: bilinear)")  # fmt: skip
    parser.add_argument("--color", help="order of the channels: rgb, bgr or grey (default: rgb, of one channel: grey)")
    parser.add_argument("--scale", type=_fraction, metavar="FACTOR", help="first, pixels in [0, 255] are multiplied by "
                        "this (default: 1/255)")  # fmt: skip
    parser.add_argument("--mean", type=float, nargs="+", metavar="M", help="then this is subtracted: one number, or "
                        "one per channel in the order of --color")  # fmt: skip
    parser.add_argument("--std", type=float, nargs="+", metavar="S", help="then the result is divided by "
                        "this: one number, or one per channel")  # fmt: skip
    parser.add_argument("--layout", choices=LAYOUTS, help="of the network's input (default: from its "
                        "shape)")  # fmt: skip
    parser.add_argument("--input", dest="input_form", choices=ADOPTED_FORMS, default="uint8", help="of the artefact: "
                        "uint8 NHWC, or pixels, float32 NCHW in 0 to 255, as DeepStream gives it (default: "
                        "%(default)s)")  # fmt: skip
    parser.add_argument("--find", action="store_true", help="find what no flag gives: the contract under which the "
                        "network answers the pictures of --data best")  # fmt: skip
    parser.add_argument("--data", type=Path, metavar="DIR", help="a few hundred pictures in a folder or tar of "
                        "<label>/*, for --find")  # fmt: skip
    parser.add_argument("--name", help="name of the network (default: the file's name)")
    add_shared(parser, "--json")
    return parser


@run("taijitu adopt")
def main(argv: list[str] | None = None) -> int:
    """Run the command; 0: adopted and checked, 1: not like the original (no file is left), 2: wrong usage or input."""
    args = build_parser().parse_args(argv)
    # onnx and timm take seconds to import, and --help does not need them.
    with working("loading PyTorch"):
        from taijitu_export.api import adopt

    if args.find != (args.data is not None):
        got, missing = ("--find", "--data DIR") if args.find else ("--data", "--find")
        raise UsageError(f"got {got} alone, expected both or neither; add {missing}")
    left_out = ("model", "output", "json", "find", "data")
    options = {name: value for name, value in vars(args).items() if name not in left_out}
    result = adopt(args.model, args.output, find=args.data, **options)
    if args.json:
        found = None if result.found is None else result.found.to_dict()
        say_json({"path": str(result.path), "card": result.card.to_dict(), "batch": result.batch,
                  "opset": result.opset, "checked": str(result.agreement), "notes": result.notes,
                  "found": found}, sys.stdout)  # fmt: skip
    else:
        say("\n".join(map(shown, result.report())), sys.stdout)
    return 0


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text, re.ASCII)
    if match is None:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected height x width in pixels, such as 48x192")
    return int(match[1]), int(match[2])


def _fraction(text: str) -> float:
    above, _, below = text.partition("/")
    try:
        return float(above) / float(below or 1)
    except (ValueError, ZeroDivisionError):
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a number such as 1/255 or 1") from None
