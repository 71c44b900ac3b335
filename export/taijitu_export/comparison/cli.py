"""Judge a model on pictures, compared with the checkpoint or model that it came from.

python export/verify.py model.onnx [--data DIR] [--reference ckpt.pt|other.onnx] [--max-drop POINTS]
                        [--expect PERCENT] [--require-certain] [--report page.html] [--explain] [--json]
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

from taijitu_export.comparison.allowances import ALLOWED_DROP_POINTS
from taijitu_export.percentages import percentage
from taijitu_runtime.command_line import Parser, run
from taijitu_runtime.console import say, say_json, working
from taijitu_runtime.flags import add_shared


def build_parser() -> Parser:
    """Return the command line of export/verify.py and `taijitu verify`."""
    parser = Parser(prog="taijitu verify", description=__doc__)
    parser.add_argument("candidate", type=Path, help="the model file to judge")
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder or tar of test/<label>/* (or val/), of "
                        "<label>/*, or of pictures without labels (default: generated pictures)")  # fmt: skip
    parser.add_argument("--reference", type=Path, help="the checkpoint or .onnx that it should answer like")
    allowed = ", ".join(f"{points:g} for {precision}" for precision, points in ALLOWED_DROP_POINTS.items())
    parser.add_argument("--max-drop", type=percentage, metavar="POINTS", help="percentage points of top-1 accuracy "
                        f"that it may cost (default: {allowed})")  # fmt: skip
    parser.add_argument("--expect", type=percentage, metavar="PERCENT", help="top-1 accuracy that it should reach "
                        "without a reference (default: the one in its card)")  # fmt: skip
    parser.add_argument("--require-certain", action="store_true", help="exit with 1 also if the pictures are too "
                        "few to show that it is fine")  # fmt: skip
    parser.add_argument("--explain", action="store_true", help="if it is not fine, name the first layer that diverges "
                        "from the reference")  # fmt: skip
    parser.add_argument("--report", type=Path, metavar="PAGE", help="write an HTML page with figures per label and the "
                        "wrong and flipped pictures, and these as CSV next to it")  # fmt: skip
    add_shared(parser, "--skip-unreadable", "--threads", "--json")
    return parser


@run("taijitu verify")
def main(argv: list[str] | None = None) -> int:
    """Run the command; 0: fine or not shown, 1: not fine or not judged, 2: wrong usage or input."""
    args = build_parser().parse_args(argv)
    # torch and onnx take seconds to import, and --help does not need them.
    with working("loading PyTorch"):
        from taijitu_export.comparison.page import check_page, write_page
        from taijitu_export.comparison.report import as_json, as_text
        from taijitu_export.comparison.verify import verify_file

    if args.report is not None:
        check_page(args.report, args.candidate, args.data, args.reference)
    with warnings.catch_warnings():
        # Pillow warns about odd EXIF and TIFF entries of pictures that it still decodes.
        warnings.filterwarnings("ignore", module=r"PIL\.")
        found = verify_file(
            args.candidate,
            args.data,
            args.reference,
            max_drop=args.max_drop,
            expect=args.expect,
            explain=args.explain,
            threads=args.threads,
            skip_unreadable=args.skip_unreadable,
        )
        try:
            if args.report is not None:
                write_page(found, args.candidate, args.reference, args.report)
        finally:  # a page that cannot be written, on a full disk, does not cost the verdict
            if args.json:
                say_json(as_json(found, args.candidate, args.reference), sys.stdout)
            else:
                say(as_text(found, args.candidate, args.reference), sys.stdout)
    return 0 if found.verdict.passes(require_certain=args.require_certain) else 1
