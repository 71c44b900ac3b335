"""Find problems that keep models from running on this machine, and name the cure."""

from __future__ import annotations

import platform
import sys
from pathlib import Path

from taijitu_runtime.command_line import Parser, run
from taijitu_runtime.console import say, say_json
from taijitu_runtime.flags import add_shared
from taijitu_runtime.installed import taijitu_version


@run("taijitu doctor")
def main(argv: list[str] | None = None) -> int:
    """Run the command; 0: no problem, but possibly warnings, 1: at least one problem, 2: wrong usage."""
    options = build_parser().parse_args(argv)
    from taijitu_runtime.doctor.checkup import Checkup  # imports NumPy, which --help does not need
    from taijitu_runtime.doctor.page import Page, as_json, count

    page = Page(sys.stdout)
    head = f"taijitu {taijitu_version()} on {platform.system()} {platform.release()} {platform.machine()}"
    if not options.json:
        say(head, sys.stdout)
    sections = []
    for title, findings in Checkup(models=options.models).sections():
        sections.append((title, findings))
        if not options.json:
            say(page.section(title, findings), sys.stdout)
            sys.stdout.flush()
    if options.json:
        say_json({"system": head, **as_json(sections)}, sys.stdout, indent=1)
    else:
        say(page.summary(sections), sys.stdout)
    return 1 if count(sections)["problem"] else 0


def build_parser() -> Parser:
    """Return the command line of `taijitu doctor`."""
    parser = Parser(prog="taijitu doctor", description=__doc__)
    parser.add_argument("models", type=Path, nargs="*", metavar="model", help="model files to prove here")
    add_shared(parser, "--json")
    return parser
