"""Calibrate an ONNX file's probabilities, and choose which of its answers are known.

python export/calibrate.py model.onnx --data DIR -o calibrated.onnx [--accuracy 95 | --coverage 90 | --reject 0.9]
                           [--guarantee 95] [--other LABEL|DIR] [--json]

This calibrates answers; --calibration of taijitu onnx calibrates the number ranges of int8.
"""

from __future__ import annotations

import sys
from pathlib import Path

from taijitu_export.percentages import percentage
from taijitu_runtime.command_line import Parser, run
from taijitu_runtime.console import say, say_json
from taijitu_runtime.flags import add_shared


def build_parser() -> Parser:
    """Return the command line of export/calibrate.py and `taijitu calibrate`."""
    description = "Calibrate an ONNX file's probabilities, and choose which of its answers are known. " \
        "(This calibrates answers; --calibration of taijitu onnx calibrates the number ranges of int8.)"  # fmt: skip
    parser = Parser(prog="taijitu calibrate", description=description)
    parser.add_argument("model", type=Path, help="the ONNX file")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder or tar of pictures with labels "
                        "that it was not trained on: half of them choose, the others measure")  # fmt: skip
    parser.add_argument("-o", "--output", type=Path, required=True, help="path of the calibrated file; may be the "
                        "model")  # fmt: skip
    parser.add_argument("--accuracy", type=percentage, metavar="PERCENT", help="the lowest threshold at which this "
                        "share of known answers is right")  # fmt: skip
    parser.add_argument("--coverage", type=percentage, metavar="PERCENT", help="the threshold at which this share of "
                        "pictures is known")  # fmt: skip
    parser.add_argument("--reject", type=float, metavar="P", help="answers below this probability, after the "
                        "temperature, are unknown")  # fmt: skip
    parser.add_argument("--guarantee", type=percentage, metavar="PERCENT", help="answers carry a set of labels that "
                        "has the true one in this share of cases")  # fmt: skip
    parser.add_argument("--other", metavar="LABEL|DIR", help="what shows none of the labels: a label of the data, or a "
                        "folder of pictures, which choose the score; or the model's label that means none of "
                        "these")  # fmt: skip
    add_shared(parser, "--skip-unreadable", "--threads", "--json")
    return parser


@run("taijitu calibrate")
def main(argv: list[str] | None = None) -> int:
    """Run the command; 0: written, 1: too few pictures, or no threshold meets the request, 2: wrong usage or input."""
    args = build_parser().parse_args(argv)
    from taijitu_export.decision.calibrate import calibrate_file
    from taijitu_export.decision.report import as_json, as_text
    from taijitu_export.decision.threshold import ThresholdRequest

    found = calibrate_file(
        args.model,
        args.data,
        args.output,
        threshold=ThresholdRequest(args.accuracy, args.coverage, args.reject),
        guarantee=args.guarantee,
        other=args.other,
        threads=args.threads,
        skip_unreadable=args.skip_unreadable,
    )
    if args.json:
        say_json(as_json(found), sys.stdout)
    else:
        say(as_text(found), sys.stdout)
    return 0
