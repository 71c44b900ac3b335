"""Make a checkpoint from weights that you have: .pth, .safetensors, pytorch_model.bin, of any known network.

taijitu checkpoint weights.pth --model timm/NAME --labels labels.txt [--data DIR] -o ckpt.pt
"""

from __future__ import annotations

import argparse
import dataclasses
import shlex
import sys
from pathlib import Path
from typing import Any

from taijitu_runtime.command_line import Parser, pairs, run
from taijitu_runtime.console import say, shown, working
from taijitu_runtime.datasets import check_skipping
from taijitu_runtime.errors import UsageError
from taijitu_runtime.flags import add_shared
from taijitu_runtime.labels import FORMS, read_labels
from taijitu_runtime.output_path import check_output_path


def build_parser() -> Parser:
    """Return the command line of `taijitu checkpoint`."""
    parser = Parser(prog="taijitu checkpoint", description=__doc__)
    parser.add_argument("weights", type=Path, help="the file of weights; no code in it is run")
    parser.add_argument("--model", required=True, help="the network: timm/NAME, torchvision/NAME or one of taijitu's; "
                        "timm/NAME.TAG if pictures are prepared as for these weights of timm and not its default "
                        "ones")  # fmt: skip
    parser.add_argument(
        "--labels", required=True, metavar="FILE",
        help=f"the labels in the order of the logits: {FORMS}; or imagenet, for its 1,000",
    )  # fmt: skip
    parser.add_argument("-o", "--output", required=True, type=Path, metavar="CKPT", help="the checkpoint to write")
    parser.add_argument("--option", action="append", default=[], metavar="NAME=VALUE", help="an option of the "
                        "network: act=nish, stem=cifar")  # fmt: skip
    parser.add_argument("--map", choices=("name", "order"), default="name", help="order: if names differ, match "
                        "tensors by their order, shapes and kinds, which must agree one to one (default: "
                        "%(default)s)")  # fmt: skip
    parser.add_argument("--key", metavar="NAME", help="the set of weights to use, if the file has several: state_dict "
                        "(default: the moving average, if there is one)")  # fmt: skip
    parser.add_argument("--prefix", metavar="TEXT", help="the prefix of the names of this network's tensors (default: "
                        "found)")  # fmt: skip
    parser.add_argument("--leave-out", action="append", default=[], metavar="PATTERN", help="tensors of the file that "
                        "the network need not have: AuxLogits.*")  # fmt: skip
    _add_contract(parser)
    parser.add_argument("--data", type=Path, metavar="DIR", help="labelled pictures to judge by before the checkpoint "
                        "is written; weights at chance level are refused")  # fmt: skip
    add_shared(parser, "--skip-unreadable")
    return parser


def _add_contract(parser: Parser) -> None:
    """Add the flags that say how pictures are prepared."""
    parser.add_argument("--mean", type=float, nargs="+", metavar="M", help="mean of pixels in [0, 1], one number or "
                        "one each for R, G and B (default, here and below: that of timm or torchvision for the "
                        "network)")  # fmt: skip
    parser.add_argument("--std", type=float, nargs="+", metavar="S", help="standard deviation of pixels in [0, 1], in "
                        "the same way")  # fmt: skip
    parser.add_argument("--size", type=int, metavar="SIDE", help="side of the square that the network gets, in pixels")
    parser.add_argument("--resize", type=_resize, metavar="RULE", help="shorter:SIDE resizes the shorter side to that "
                        "many pixels and crops the centre; stretch: both sides")  # fmt: skip
    parser.add_argument("--interpolation", choices=("bilinear", "bicubic"), help="how pictures are resized")


@run("taijitu checkpoint")
def main(argv: list[str] | None = None) -> int:
    """Run the command; 0: written, 1: weights at the level of chance (nothing is written), 2: wrong usage or input."""
    args = build_parser().parse_args(argv)
    # torch takes seconds to import, and --help does not need it.
    with working("loading PyTorch"):
        from taijitu_training import checkpoint
        from taijitu_training.weights.from_weights import checkpoint_from_weights
        from taijitu_training.weights.judging import judge
        from taijitu_training.weights.published import imagenet_labels

    check_skipping(args.skip_unreadable, args.data)
    check_output_path(args.output, args.weights, args.data, Path(args.labels))
    labels = imagenet_labels() if args.labels == "imagenet" else read_labels(Path(args.labels))
    made = checkpoint_from_weights(
        args.weights,
        args.model,
        labels,
        options=pairs("--option", args.option, "NAME=VALUE, such as act=nish"),
        changes=_changes(args),
        by_order=args.map == "order",
        key=args.key,
        prefix=args.prefix,
        leave_out=args.leave_out,
    )
    for line in _report(made.training["weights"], made.input):
        say(line, sys.stdout)
    if args.data is not None:
        judged = judge(made, args.data, skip_unreadable=args.skip_unreadable)
        if judged.left_out:
            say(f"left out: {shown(judged.left_out)}", sys.stdout)
        say(f"accuracy: {judged}", sys.stdout)
        judged.require_better_than_guessing()
        metrics = {"eval_top1": judged.top1}
        training = made.training | {"evaluation": judged.source, "metrics": metrics}
        made = dataclasses.replace(made, training=training)
    checkpoint.save(made, args.output)
    command = f"taijitu onnx {shlex.quote(str(args.output))}"
    say(f"{args.output}: {made.architecture.name}, {len(labels)} labels; next: {command}", sys.stdout)
    return 0


def _resize(text: str) -> dict[str, Any]:
    """Parse shorter:256 or stretch into fields of `InputSpec`, for argparse."""
    if text == "stretch":
        return {"resize": "stretch"}
    rule, _, side = text.partition(":")
    if rule != "shorter" or not side.isascii() or not side.isdigit():
        raise argparse.ArgumentTypeError(f"got {text}, expected shorter:SIDE, such as shorter:256, or stretch")
    return {"resize": "shorter_side", "resize_size": int(side)}


def _changes(args: argparse.Namespace) -> dict[str, Any]:
    """Return the fields of `InputSpec` that were given."""
    size = {} if args.size is None else {"height": args.size, "width": args.size}
    filters = {} if args.interpolation is None else {"interpolation": f"{args.interpolation}_antialias"}
    numbers = {name: _of_channels(name, getattr(args, name)) for name in ("mean", "std") if getattr(args, name)}
    return {**size, **filters, **numbers, **(args.resize or {})}


def _of_channels(name: str, numbers: list[float]) -> tuple[float, ...]:
    if len(numbers) not in (1, 3):
        raise UsageError(f"got {len(numbers)} numbers for --{name}, expected one, or three for R, G and B")
    return tuple(numbers * (3 // len(numbers)))


def _report(origin: dict[str, Any], spec: dict[str, Any]) -> list[str]:
    """Say what was taken from the file, and how pictures will be prepared."""
    from taijitu_training.weights.fitting import some

    resize = "stretched to" if spec["resize"] == "stretch" else f"shorter side {spec['resize_size']}, centre"
    mean, std = (" ".join(f"{number:g}" for number in spec[name]) for name in ("mean", "std"))
    lines = [
        f"{shown(origin['file'])}: {shown(', '.join(filter(None, (origin['part'], origin['matched']))))}",
        f"pictures: {resize} {spec['height']} x {spec['width']}, {spec['interpolation']}, mean {mean}, std {std}",
    ]
    if origin["left_out"]:
        lines.insert(1, f"left out: {shown(some(origin['left_out'], 10))}")
    return lines
