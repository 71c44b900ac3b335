"""Classify the frames of a camera, a stream, a video or pictures as they arrive.

python runtime/camera.py model.onnx --source 0
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from argparse import BooleanOptionalAction, Namespace
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import get_args

from taijitu_runtime.classifier import USUAL_TOP, Classifier
from taijitu_runtime.command_line import Parser, run
from taijitu_runtime.console import say, shown
from taijitu_runtime.errors import UsageError
from taijitu_runtime.flags import add_shared
from taijitu_runtime.live.outputs import JsonLines, TextLines, VideoFile, Window
from taijitu_runtime.live.reader import Reader
from taijitu_runtime.live.region import EXPECTED as REGIONS
from taijitu_runtime.live.region import Region
from taijitu_runtime.live.sources import EXPECTED as SOURCES
from taijitu_runtime.live.sources import Codec, Mode, Source, source_from_text
from taijitu_runtime.live.states import Timeouts
from taijitu_runtime.live.watch import Result, View, watch
from taijitu_runtime.proof.modes import MODES
from taijitu_runtime.proof.prove import proof_at_start

PROG = "taijitu camera"
USUAL = Timeouts()
TIMEOUTS = {
    "open_timeout": ("open_s", 0.1),
    "stall_timeout": ("stall_s", 0.1),
    "wait": ("wait_s", 0.0),
    "give_up": ("give_up_s", 0.0),
    "frozen": ("frozen_s", 0.0),
}
"""Options in seconds: their fields of Timeouts, and their least values."""


@run(PROG)
def main(argv: list[str] | None = None) -> int:
    """Run the command; 0: end of file, or stopped; 2: never opened, or wrong usage or model.

    1: the source was lost, the file is damaged, or the model fails its proof.
    """
    options = build_parser().parse_args(argv)
    source = source_from_text(options.source, _mode(options))
    if options.realtime and source.kind != "video":
        raise UsageError(
            "got --realtime, expected a video file with it; leave it out, other sources set their own pace"
        )
    reader = Reader(source, timeouts=_timeouts(options, source), realtime=options.realtime)
    region = Region.from_text(options.roi) if options.roi is not None else None
    view = View(options.top, options.threshold, options.every, options.smoothing, region)
    stop = threading.Event()
    with _log_to_stderr(verbose=options.verbose), _until_signal(stop), ExitStack() as stack:
        loaded = Classifier.from_file(
            options.model,
            threads=options.threads,
            provider=options.provider,
            rebuild=options.rebuild,
            cuda_graphs=not options.no_cuda_graphs,
        )
        classifier = stack.enter_context(loaded)
        proof = proof_at_start(classifier, options.prove)
        if proof is not None:
            level = logging.WARNING if proof.outcome == "failed" else logging.DEBUG
            logging.getLogger("taijitu_runtime.live").log(level, "%s: %s", shown(options.model), shown(proof))
        outputs, window = _outputs(options, reader, stop, stack)

        def show(result: Result) -> None:
            for output in outputs:
                output(result)

        summary = watch(classifier, reader, show, view=view, stop=stop, idle=window.idle if window else None)
    say(str(summary), sys.stderr)
    if summary.error:
        say(f"{PROG}: {summary.error}", sys.stderr)
    return 1 if summary.error or (not source.live and summary.counters.failed) else 0


def build_parser() -> Parser:
    """Return the command line of runtime/camera.py and `taijitu camera`."""
    parser = Parser(prog=PROG, description=__doc__)
    parser.add_argument("model", type=Path, help="an ONNX file or an engine")
    parser.add_argument("--source", required=True, help=SOURCES)
    add_shared(parser, "--provider", "--rebuild", "--no-cuda-graphs")
    parser.add_argument("--prove", choices=MODES, default="on", help="what to do if the model does not answer as its "
                        "passport says: on ends, warn continues, off does not check (default: "
                        "%(default)s)")  # fmt: skip
    parser.add_argument("--threads", type=int, default=1, help="threads of one inference; more of them busy-wait "
                        "(%(default)s)")  # fmt: skip
    parser.add_argument("--verbose", action="store_true", help="print the pipeline, states, and messages of libraries")

    camera = parser.add_argument_group("camera", "also as csi://0?width=1280&height=720&rate=30&flip=2")
    camera.add_argument("--width", type=int, help="pixels (csi: 1280)")
    camera.add_argument("--height", type=int, help="pixels (csi: 720)")
    camera.add_argument("--rate", type=int, help="frames/s (csi: 30)")
    camera.add_argument("--flip", type=int, help="for csi, 0 to 7: 0 none, 2 by 180 degrees, 4 mirrored, 6 upside down")
    camera.add_argument("--codec", choices=get_args(Codec), help="raw, mjpg for USB, h264, h265 for RTSP")
    parser.add_argument("--realtime", action="store_true", help="read a video file no faster than it plays")

    view = parser.add_argument_group("answers")
    view.add_argument("--top", type=int, help=f"answers for each frame ({USUAL_TOP}, or all labels if fewer)")
    add_shared(view, "--threshold")
    view.add_argument("--every", type=int, default=1, help="classify every Nth frame")
    view.add_argument("--smoothing", type=float, default=0.0, metavar="S", help="average over about S seconds")
    view.add_argument("--roi", help=f"classify this part: {REGIONS}".replace("%", "%%"))

    output = parser.add_argument_group("output", "by default a window if there is a screen, otherwise text")
    output.add_argument("--display", action=BooleanOptionalAction, help="show a window; q closes it")
    output.add_argument("--save", type=Path, help="write an annotated video: .mp4, .avi or .mkv")
    output.add_argument(
        "--jsonl", type=Path, help="write one JSON object per classified frame and line to this file; - for stdout"
    )

    timeouts = parser.add_argument_group("timeouts, in seconds")
    timeouts.add_argument("--open-timeout", type=float, help="for the first frame, and every one of a file "
                          f"({USUAL.open_s})")  # fmt: skip
    timeouts.add_argument("--stall-timeout", type=float, help=f"for the next frame of a live source ({USUAL.stall_s})")
    timeouts.add_argument("--wait", type=float, help=f"for a live source at the start ({USUAL.wait_s})")
    timeouts.add_argument("--give-up", type=float, help="on a lost live source (never)")
    timeouts.add_argument("--frozen", type=float, help="until identical frames of a live source count as frozen "
                          f"({USUAL.frozen_s}; 0 never)")  # fmt: skip
    return parser


def _mode(options: Namespace) -> Mode:
    return Mode(options.width, options.height, options.rate, options.flip, options.codec)


def _timeouts(options: Namespace, source: Source) -> Timeouts:
    given = {}
    for name, (field, least) in TIMEOUTS.items():
        seconds = getattr(options, name)
        if seconds is None:
            continue
        got = f"got --{name.replace('_', '-')} {seconds}"
        if not seconds >= least:
            raise UsageError(f"{got}, expected at least {least:g} seconds")
        if name != "open_timeout" and not source.live:
            raise UsageError(
                f"{got} for a file, expected it for live sources only; leave it out, or use --open-timeout"
            )
        given[field] = seconds
    return Timeouts(**given)


def _outputs(
    options: Namespace, reader: Reader, stop: threading.Event, stack: ExitStack
) -> tuple[list[Callable[[Result], None]], Window | None]:
    """Return the requested outputs, which `stack` closes; the first is the window, if any."""
    outputs: list[Callable[[Result], None]] = []
    window = None
    if options.display:
        window = stack.enter_context(Window(stop))
    elif options.display is None and options.save is None and options.jsonl is None:
        with suppress(UsageError):  # no working screen
            window = stack.enter_context(Window(stop))
    if window:
        outputs.append(window)
    if options.save is not None:
        _check_is_not_read("--save", options.save, options.model, reader.source)
        outputs.append(
            stack.enter_context(VideoFile(options.save, live=reader.source.live, rate_hz=lambda: reader.rate_hz))
        )
    if str(options.jsonl) == "-":
        outputs.append(JsonLines(sys.stdout))
    elif options.jsonl is not None:
        _check_is_not_read("--jsonl", options.jsonl, options.model, reader.source)
        if options.save is not None and os.path.realpath(options.save) == os.path.realpath(options.jsonl):
            raise UsageError(f"got {options.jsonl} as --save and as --jsonl, expected two files; choose another name")
        outputs.append(stack.enter_context(_json_lines(options.jsonl, reader)))
    if not outputs:
        outputs.append(TextLines(live=reader.source.live))
    return outputs, window


def _check_is_not_read(flag: str, path: Path, model: Path, source: Source) -> None:
    for what, name in (("model", model), ("source", source.address)):
        with suppress(OSError):  # a missing or unreachable file is a different one
            if path.samefile(name):
                raise UsageError(f"got {path} as {what} and as {flag}, expected two files; choose another name")


@contextmanager
def _json_lines(name: Path, reader: Reader) -> Iterator[JsonLines]:
    with ExitStack() as stack:
        try:
            file = stack.enter_context(name.open("a", encoding="utf-8"))
        except OSError as error:
            raise UsageError(f"got --jsonl {name}, expected a file that can be written ({error.strerror})") from error
        lines = JsonLines(file, replaces=True)
        yield lines
        if reader.counters.read:  # not where the run was stopped before the source opened
            lines.begin()


@contextmanager
def _log_to_stderr(*, verbose: bool) -> Iterator[None]:
    logger = logging.getLogger("taijitu_runtime.live")
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(f"{PROG}: %(message)s"))
    logger.addHandler(handler)
    before = logger.level
    logger.setLevel(logging.DEBUG if verbose else logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


@contextmanager
def _until_signal(stop: threading.Event) -> Iterator[None]:
    """Set `stop` at Ctrl-C, SIGTERM or a closed terminal; a second Ctrl-C or SIGTERM ends the process as usual."""

    def handle(number: int, _frame: object) -> None:
        stop.set()
        # The kernel and the shell both send SIGHUP for a closed terminal.
        signal.signal(number, signal.SIG_IGN if number == signal.SIGHUP else before[number])

    before = {int(number): signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    before = {number: handler for number, handler in before.items() if handler is not signal.SIG_IGN}  # nohup, or &
    for number in before:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
