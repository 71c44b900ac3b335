"""Prove that a model answers on this machine as it did where it was made."""

from __future__ import annotations

import sys
from pathlib import Path

from taijitu_runtime.command_line import Parser, run
from taijitu_runtime.console import say, say_json, shown, working
from taijitu_runtime.flags import add_shared


@run("taijitu prove")
def main(argv: list[str] | None = None) -> int:
    """Run the command; 0: proven, 1: not, or it carries no passport or no contract that can be read, 2: wrong usage."""
    options = build_parser().parse_args(argv)
    from taijitu_runtime.proof.prove import prove  # NumPy, which --help does not need

    with working("proving the model"):
        found = prove(options.model, provider=options.provider, threads=options.threads, key=options.key)
    if options.json:
        say_json({"model": str(options.model), **found.to_dict()}, sys.stdout)
    else:
        say(f"{shown(options.model)}: {shown(found)}", sys.stdout)
    return 0 if found.proven else 1


def build_parser() -> Parser:
    """Return the command line of runtime/prove.py and `taijitu prove`."""
    parser = Parser(prog="taijitu prove", description=__doc__)
    parser.add_argument("model", type=Path, help="model.onnx or model.engine from export/")
    add_shared(parser, "--provider", "--threads")
    parser.add_argument("--key", type=Path, metavar="PUBLIC.pem", help="Ed25519 key that must have signed the model: "
                        "MODEL.sha256.sig")  # fmt: skip
    add_shared(parser, "--json")
    return parser
