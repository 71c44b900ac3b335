"""Export a checkpoint to ONNX, check it against PyTorch, and keep it only if both agree; or make an ONNX file smaller.

python export/to_onnx.py ckpt.pt [-o model.onnx] [--input uint8|float32|pixels] [--nish op|decomposed]
                         [--precision fp32|fp16|int8] [--for engine|cpu] [--calibration DIR] [--max-drop POINTS]
python export/to_onnx.py adopted.onnx --precision fp16|int8 ...
"""

from __future__ import annotations

import sys
from pathlib import Path

from taijitu_export.comparison.allowances import ALLOWED_DROP_POINTS
from taijitu_export.onnx.forms import INPUT_FORMS, NISH_FORMS, PURPOSES
from taijitu_export.percentages import percentage
from taijitu_runtime.card import PRECISIONS
from taijitu_runtime.command_line import Parser, run
from taijitu_runtime.console import say, shown, working
from taijitu_runtime.flags import add_shared


def build_parser() -> Parser:
    """Return the command line of export/to_onnx.py and `taijitu onnx`."""
    parser = Parser(prog="taijitu onnx", description=__doc__)
    parser.add_argument("checkpoint", type=Path, help="a checkpoint; with --precision also a float32 ONNX "
                        "file of taijitu onnx or adopt")  # fmt: skip
    parser.add_argument("-o", "--output", type=Path, help="the ONNX file (default: next to the checkpoint, as .onnx, "
                        ".fp16.onnx or .int8.onnx)")  # fmt: skip
    parser.add_argument("--input", choices=INPUT_FORMS, default="uint8", help="uint8: NHWC, normalised inside; "
                        "float32: NCHW, normalised by the caller; pixels: float32 NCHW in 0 to 255, normalised inside, "
                        "as DeepStream gives it (default: %(default)s)")  # fmt: skip
    parser.add_argument("--nish", choices=NISH_FORMS, default="op", help="op: one node with its function body; "
                        "decomposed: standard operators only (default: %(default)s)")  # fmt: skip
    parser.add_argument("--precision", choices=PRECISIONS, default="fp32", help="of the layers; those that would cost "
                        "accuracy stay fp32 (default: %(default)s)")  # fmt: skip
    parser.add_argument("--for", choices=PURPOSES, dest="purpose", help="the runtime of an int8 file; engine: float16 "
                        "between its layers, for TensorRT 10 and later; cpu: float32 there, for ONNX Runtime and for "
                        "TensorRT 8.6 (default: engine)")  # fmt: skip
    parser.add_argument("--calibration", type=Path, metavar="DIR", help="folder or tar of pictures: train/<label>/* "
                        "for the number ranges of int8, val/ or test/ to judge fp16 and int8 with; taijitu calibrate "
                        "calibrates answers")  # fmt: skip
    add_shared(parser, "--skip-unreadable")
    allowed = ", ".join(f"{ALLOWED_DROP_POINTS[precision]:g} for {precision}" for precision in PRECISIONS[1:])
    parser.add_argument("--max-drop", type=percentage, metavar="POINTS", help="percentage points of top-1 accuracy "
                        f"that a smaller precision may cost (default: {allowed})")  # fmt: skip
    return parser


@run("taijitu onnx")
def main(argv: list[str] | None = None) -> int:
    """Run the command; 0: exported and checked, 1: made but wrong (no file is left), 2: wrong usage or input."""
    args = build_parser().parse_args(argv)
    # torch and onnx take seconds to import, and --help does not need them.
    with working("loading PyTorch"):
        from taijitu_export.precision.conversion import PrecisionRequest
        from taijitu_export.to_onnx.export import export_file

    smaller = PrecisionRequest.asked_for(
        args.precision, args.calibration, args.max_drop, args.purpose, skip_unreadable=args.skip_unreadable
    )
    result = export_file(args.checkpoint, args.output, input_form=args.input, nish=args.nish, smaller=smaller)
    say("\n".join(map(shown, result.report())), sys.stdout)
    return 0
