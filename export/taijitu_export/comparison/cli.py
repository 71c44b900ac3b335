"""Is the classifier fine? Judge a model on pictures, beside the checkpoint or model that it came from.

python export/verify.py model.onnx [--data DIR] [--reference ckpt.pt|other.onnx] [--max-drop 0.5] [--explain] [--json]
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import warnings
from pathlib import Path

from taijitu_export.comparison.report import as_json, as_text
from taijitu_export.comparison.verify import verify
from taijitu_runtime.console import Parser, run, say, say_json
from taijitu_runtime.errors import UsageError
from taijitu_runtime.errors import TaijituError


def build_parser() -> Parser:
    """The command line of export/verify.py and `taijitu verify`."""
    parser = Parser(prog="taijitu verify", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("candidate", type=Path, help="the model file to judge")
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder or tar of test/<label>/* (or val/), of "
                        "<label>/*, or of pictures without labels (default: random pictures)")  # fmt: skip
    parser.add_argument("--reference", type=Path, help="the checkpoint or .onnx that it should answer like")
    parser.add_argument("--max-drop", type=points, default=0.5, metavar="POINTS",
                        help="of top-1 accuracy, in percent, that it may cost (default: %(default)s)")  # fmt: skip
    parser.add_argument("--explain", action="store_true", help="if it is not fine, name the first layer that diverges "
                        "from the reference")  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout and nothing else")
    return parser


@run("taijitu verify")
def main(argv: list[str] | None = None) -> int:
    """Exit code: 0 fine, 1 not fine, 2 wrong usage or input."""
    args = build_parser().parse_args(argv)
    if args.explain and args.reference is None:
        raise UsageError("got --explain alone, expected a graph to compare with; give --reference")
    with warnings.catch_warnings():
        # Pillow remarks on odd EXIF and TIFF entries of pictures that it then decodes all the same.
        warnings.filterwarnings("ignore", module=r"PIL\.")
        found = verify(args.candidate, args.data, args.reference, max_drop=args.max_drop, explain=args.explain)
    if args.json:
        say_json(as_json(found, args.candidate, args.reference, args.max_drop), sys.stdout)
    else:
        say(as_text(found, args.candidate, args.reference), sys.stdout)
    return 0 if found.verdict.fine else 1


def points(text: str) -> float:
    """A number of percentage points, 0 to 100."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 100:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected points of accuracy from 0 to 100")
    return value
