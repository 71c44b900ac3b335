"""Draw a checkpoint's depthwise kernels, its activation function, and its feature maps of a picture.

python training/visualize.py ckpt.pt [--image cat.jpg] [--out DIR]
"""

from __future__ import annotations

import sys
from pathlib import Path

from taijitu_runtime.command_line import Parser, run
from taijitu_runtime.console import say, shown, working


def build_parser() -> Parser:
    """Return the command line of training/visualize.py and `taijitu visualize`."""
    parser = Parser(prog="taijitu visualize", description=__doc__)
    parser.add_argument("checkpoint", type=Path, help="a checkpoint that taijitu train wrote")
    parser.add_argument("--image", type=Path, help="a picture, to draw each stage's output for it")
    parser.add_argument("--out", type=Path, help="folder for the PNGs (default: CHECKPOINT_pictures next to it)")
    return parser


@run("taijitu visualize")
def main(argv: list[str] | None = None) -> int:
    """Run the command; 0: drawn, 2: wrong usage or input."""
    args = build_parser().parse_args(argv)
    with working("loading PyTorch"):
        from taijitu_training.figures.checkpoint_figures import draw  # torch and matplotlib, which --help does not need

    for path in draw(args.checkpoint, args.image, args.out):
        say(shown(path), sys.stdout)
    return 0
