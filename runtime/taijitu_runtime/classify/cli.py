"""Classify pictures with a model that contains its labels and preprocessing."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable
from pathlib import Path

from taijitu_runtime.answers import check_top
from taijitu_runtime.classifier import USUAL_TOP, Classifier
from taijitu_runtime.classify.report import JsonReport, TextReport
from taijitu_runtime.console import Parser, Progress, run, say, shown
from taijitu_runtime.datasets import LeftOut, scan_folder
from taijitu_runtime.doubt import check_threshold
from taijitu_runtime.errors import PictureError, UsageError
from taijitu_runtime.pictures.headers import FORMATS, LIMITS, Limits
from taijitu_runtime.providers import PROVIDER_HELP, PROVIDERS


@run("taijitu classify")
def main(argv: list[str] | None = None) -> int:
    """Run the command; 0: every picture was classified, 1: some were skipped, 2: wrong usage or model."""
    options = build_parser().parse_args(argv)
    with Classifier.from_file(
        options.model,
        threads=options.threads,
        provider=options.provider,
        rebuild=options.rebuild,
        cuda_graphs=not options.no_cuda_graphs,
    ) as classifier:
        top = min(USUAL_TOP, len(classifier.labels)) if options.top is None else options.top
        check_top(top, classifier.labels)
        check_threshold(options.threshold)
        limits = Limits(max_pixels=options.max_pixels)
        files, left_out = find_pictures(options.pictures)
        if left_out:
            say(f"left out: {shown(left_out)}", sys.stderr)
        outcomes = classifier.predict_each(files, top, limits=limits, threshold=options.threshold)
        with Progress(len(files), hidden=len(files) == 1) as progress:
            report = (
                JsonReport(progress, options.model, classifier.card, left_out)
                if options.json
                else TextReport(progress, files, classifier.labels)
            )
            for file, outcome in zip(files, outcomes):
                if isinstance(outcome, PictureError):
                    report.skip(file, outcome.reason)
                else:
                    report.add(file, outcome)
                progress.advance()
        report.finish()
    return 1 if report.skipped else 0


def find_pictures(paths: Iterable[Path]) -> tuple[list[Path], LeftOut]:
    """Find the given files, and the pictures at any depth in the given folders, except hidden ones.

    Returns:
        The pictures, sorted within each folder, and the files that were left out.

    Raises:
        DataError: A folder cannot be read.
        UsageError: A folder has no picture.
    """
    files: list[Path] = []
    left_out = LeftOut()
    for path in paths:
        # Path.is_dir raises without permission, and one picture would end the run; os.path.isdir returns False.
        if not os.path.isdir(path):  # noqa: PTH112
            files.append(path)
            continue
        found = scan_folder(path)
        if not found.pictures:
            got = f" ({found.left_out} in it)" if found.left_out else ""
            raise UsageError(f"{path}: got a folder without pictures{got}, expected {', '.join(FORMATS)}; check it")
        files += [path.joinpath(*parts) for parts in found.pictures]
        left_out.add(found.left_out)
    return files, left_out


def build_parser() -> argparse.ArgumentParser:
    """Return the command line of runtime/classify.py and `taijitu classify`."""
    parser = Parser(prog="taijitu classify", description=__doc__)
    parser.add_argument("model", type=Path, help="an ONNX file or an engine")
    parser.add_argument(
        "pictures", type=Path, nargs="+", metavar="picture", help="files, or folders with pictures at any depth"
    )
    parser.add_argument("--top", type=int, help=f"answers for each picture ({USUAL_TOP}, or all labels if fewer)")
    parser.add_argument("--threshold", type=float, metavar="P", help="probability from which the first answer is known "
                        "(default: that of the model's card, if it has one)")  # fmt: skip
    parser.add_argument(
        "--max-pixels",
        type=int,
        default=LIMITS.max_pixels,
        metavar="N",
        help="skip larger pictures; a large JPEG counts an eighth, a progressive one half (default: %(default)s)",
    )
    parser.add_argument("--threads", type=int, default=0, metavar="N", help="cores to use, 0 for all (default: 0)")
    parser.add_argument("--rebuild", action="store_true", help="rebuild an engine that does not run here")
    parser.add_argument("--no-cuda-graphs", action="store_true", help="engines: start each layer separately; graphs "
                        "take up to 64 MiB of the GPU's memory")  # fmt: skip
    parser.add_argument("--provider", choices=PROVIDERS, help=PROVIDER_HELP)
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout and nothing else")
    return parser
