"""Train a network on a folder or tar of pictures.

python training/train.py --model yynet_small_16 --data cifar10.tar.xz --recipe yynet_cifar10 --out runs/a
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from taijitu_training.console import Parser, command
from taijitu_training.data import load_dataset
from taijitu_training.errors import TaijituError, UnknownNameError
from taijitu_training.models import create_model, model_options
from taijitu_training.recipe import RECIPES, get_recipe, parse_like
from taijitu_training.run import Run


def build_parser() -> Parser:
    """The command line of training/train.py and `taijitu train`."""
    parser = Parser(prog="taijitu train", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", required=True, help="network, such as yynet_small_16")
    parser.add_argument("--data", required=True, type=Path, help="folder or tar of train/<label>/* and test/<label>/*")
    parser.add_argument("--recipe", default="yynet_cifar10", help=f"one of: {', '.join(sorted(RECIPES))}")
    parser.add_argument("--out", required=True, type=Path, help="folder for checkpoints and metrics.jsonl")
    parser.add_argument("--preset", default="paper", help="named options of the network, such as public_code")
    parser.add_argument(
        "--option", action="append", default=[], metavar="NAME=VALUE", help="an option of the network: act=nish"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="FIELD=VALUE", help="a field of the recipe: max_lr=5e-3"
    )
    parser.add_argument(
        "--validation", type=float, default=0.0, metavar="SHARE",
        help="hold this share of the training pictures out and evaluate on them; the test pictures stay unread",
    )  # fmt: skip
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    parser.add_argument("--resume", action="store_true", help="go on from OUT/last.pt, to the same numbers")
    return parser


@command("taijitu train")
def main(argv: list[str] | None = None) -> int:
    """Exit code: 0 trained to the end, 1 the run failed, 2 wrong usage or input, 130 stopped by a signal."""
    return _train(build_parser().parse_args(argv))


def _train(args: argparse.Namespace) -> int:
    recipe = get_recipe(args.recipe, args.set)
    defaults = model_options(args.model, preset=args.preset)
    changes = {}
    for text in args.option:
        name, equals, value = text.partition("=")
        if not equals:
            raise TaijituError(f"got --option {text}, expected NAME=VALUE, such as act=nish")
        if name not in (known := defaults.keys() - {"num_classes"}):  # the data has the say about classes
            raise UnknownNameError(f"option of {args.model}", name, known)
        changes[name] = parse_like(defaults[name], name, value)
    input_size = create_model(args.model, preset=args.preset, **changes).input_size
    if not 0.0 <= args.validation < 1.0:
        raise TaijituError(f"got --validation {args.validation}, expected a share in [0, 1)")
    last = args.out / "last.pt"
    if last.exists() and not args.resume:
        raise TaijituError(f"{last} exists; add --resume to go on with that run, or choose another --out")
    if args.resume and not last.exists():
        raise TaijituError(f"got --resume, but there is no {last}; start without it")
    device = _device(args.device)
    try:
        args.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TaijituError(
            f"got --out {args.out}, which cannot be a folder ({error.strerror}); choose another"
        ) from None
    dataset = load_dataset(args.data, input_size, args.validation, recipe.seed)
    options = model_options(args.model, num_classes=len(dataset.labels), preset=args.preset, **changes)
    run = Run({"name": args.model, "options": options}, recipe, dataset, args.out, device, [])
    print(
        f"{args.model} on {dataset.name}: {len(dataset.train)} to train, {len(dataset.evaluation)} to evaluate "
        f"({dataset.evaluation_name}), {len(dataset.labels)} labels, {recipe.epochs} epochs on {device}",
        flush=True,
    )
    if not run.train(last if args.resume else None):
        print(f"stopped; everything so far is in {last}: add --resume to go on", file=sys.stderr)
        return 130
    print(f"done: {args.out / 'final.pt'} ({run.history[-1]['eval_top1']:.2f} % on {dataset.evaluation_name})")
    return 0


def _device(name: str) -> torch.device:
    try:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else torch.device(name)
        torch.empty(0, device=device)
        if device.type not in ("cpu", "cuda"):
            raise RuntimeError("unsupported")
    except (RuntimeError, AssertionError) as error:
        raise TaijituError(f"got --device {name}: {str(error).splitlines()[0]}; expected auto, cpu or cuda") from None
    return device
