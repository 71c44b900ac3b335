"""Classify pictures with a model that contains its labels and preprocessing."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from taijitu_runtime.classifier import USUAL_TOP, Classifier
from taijitu_runtime.classify.heat_maps import HeatMaps
from taijitu_runtime.classify.inputs import find_pictures, given_paths
from taijitu_runtime.classify.report import CsvReport, JsonReport, Report, TextReport
from taijitu_runtime.command_line import Parser, run
from taijitu_runtime.console import Progress, complain, say, shown
from taijitu_runtime.errors import PictureError
from taijitu_runtime.flags import add_shared
from taijitu_runtime.pictures.limits import LIMITS, Limits
from taijitu_runtime.proof.modes import MODES
from taijitu_runtime.proof.prove import proof_at_start

PROG = "taijitu classify"


@run(PROG)
def main(argv: list[str] | None = None) -> int:
    """Run the command; 0: every picture was classified, 2: wrong usage or model.

    1: some were skipped, or the model fails the proof that was asked for.
    """
    options = build_parser().parse_intermixed_args(argv)
    paths = given_paths(options.pictures, options.files0_from)
    with Classifier.from_file(
        options.model,
        threads=options.threads,
        provider=options.provider,
        rebuild=options.rebuild,
        cuda_graphs=not options.no_cuda_graphs,
    ) as classifier:
        proof = proof_at_start(classifier, options.prove)
        if proof is not None and proof.outcome == "failed":
            complain(PROG, f"{options.model}: {proof}")
        top, rule = classifier.answer_count(options.top), classifier.decision_rule(options.threshold)
        limits = Limits(max_pixels=options.max_pixels)
        if options.explain is not None:
            classifier.class_maps()  # a network without any is refused before the first picture is read
        inputs, left_out = find_pictures(paths, limits)
        if left_out:
            say(f"left out: {shown(left_out)}", sys.stderr)
        heat_maps = None if options.explain is None else HeatMaps(options.explain, inputs, paths)
        outcomes = (
            classifier.predict_each((each.picture for each in inputs), top, limits=limits, threshold=options.threshold)
            if heat_maps is None
            else heat_maps.predict_each(classifier, inputs, top, limits, options.threshold)
        )
        with Progress(len(inputs), hidden=len(inputs) == 1) as progress:
            report: Report
            if options.json:
                report = JsonReport(progress, options.model, classifier.card, left_out)
            elif options.csv:
                report = CsvReport(progress, rule, has_heat_maps=heat_maps is not None)
            else:
                report = TextReport(progress, [each.path for each in inputs], classifier.labels)
            for each, outcome in zip(inputs, outcomes):
                if isinstance(outcome, PictureError):
                    report.skip(each.path, outcome.reason)
                else:
                    report.add(each.path, outcome, None if heat_maps is None else heat_maps[each])
                progress.advance()
        report.finish()
    return 1 if report.skipped else 0


def build_parser() -> argparse.ArgumentParser:
    """Return the command line of runtime/classify.py and `taijitu classify`."""
    parser = Parser(prog=PROG, description=__doc__)
    parser.add_argument("model", type=Path, help="an ONNX file or an engine")
    parser.add_argument("pictures", type=Path, nargs="*", metavar="picture", help="files, or folders with pictures at "
                        "any depth; - for the bytes of one from standard input")  # fmt: skip
    parser.add_argument("--files0-from", type=Path, metavar="FILE", help="read the names of files and folders from a "
                        "file, each ended by a null byte, as find -print0 writes them; - for standard "
                        "input")  # fmt: skip
    parser.add_argument("--top", type=int, help=f"answers for each picture ({USUAL_TOP}, or all labels if fewer)")
    add_shared(parser, "--threshold")
    parser.add_argument("--max-pixels", type=int, default=LIMITS.max_pixels, metavar="N", help="skip larger pictures; "
                        "a large JPEG counts an eighth, a progressive one half (default: %(default)s)")  # fmt: skip
    add_shared(parser, "--threads")
    parser.add_argument("--explain", type=Path, metavar="DIR", help="write a heat map of each picture to DIR/NAME.png: "
                        "the places that speak for its likeliest answer")  # fmt: skip
    add_shared(parser, "--rebuild", "--no-cuda-graphs", "--provider")
    parser.add_argument("--prove", choices=MODES, default="off", help="check first that the model answers as its "
                        "passport says: on ends if it does not, warn continues (default: %(default)s)")  # fmt: skip
    form = parser.add_mutually_exclusive_group()
    add_shared(form, "--json")
    form.add_argument("--csv", action="store_true", help="print a header, and a row for each picture and answer")
    return parser
