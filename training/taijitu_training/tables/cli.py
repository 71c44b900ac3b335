"""Reproduce a paper's table: run its experiments one after the other, and print the paper's numbers with the results.

python training/reproduce.py yynet-table1 --data cifar10.tar.xz --epochs 3 --seeds 2
"""

from __future__ import annotations

from pathlib import Path

from taijitu_runtime.command_line import Parser, run, share
from taijitu_runtime.console import working
from taijitu_training.tables.tables import TABLES


def build_parser() -> Parser:
    """Return the command line of training/reproduce.py and `taijitu reproduce`."""
    parser = Parser(prog="taijitu reproduce", description=__doc__)
    parser.add_argument("table", help=f"one of: {', '.join(TABLES)}")
    parser.add_argument("--data", required=True, type=Path, help="as for taijitu train")
    parser.add_argument("--validation", type=share, metavar="SHARE", help="as for taijitu train")
    parser.add_argument("--epochs", type=int, metavar="N", help="instead of the paper's: a reduced budget")
    parser.add_argument("--seeds", type=int, metavar="K", help="runs of each row, instead of the paper's")
    parser.add_argument("--row", action="append", metavar="NAME", help="run only this row of the table; may be "
                        "repeated")  # fmt: skip
    parser.add_argument("--out", type=Path, default=Path("runs/reproduce"), help="folder of all runs and results "
                        "(default: %(default)s)")  # fmt: skip
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    return parser


@run("taijitu reproduce")
def main(argv: list[str] | None = None) -> int:
    """Run the command; 0: all runs are in the table, 1: one is not, 2: wrong usage, 130: stopped by a signal."""
    args = build_parser().parse_args(argv)
    with working("loading PyTorch"):
        from taijitu_training.tables.reproduce import reproduce  # imports torch, which --help does not need

    return reproduce(args)
