"""Train a network on pictures.

python training/train.py --model yynet_small_16 --data cifar10.tar.xz --recipe yynet_cifar10 --out runs/a
torchrun --nproc-per-node=2 training/train.py ...   the same, shared by two processes
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from taijitu_runtime.files import lock_folder
from taijitu_training.console import INTERRUPTED, Parser, command, share
from taijitu_training.data import load_dataset
from taijitu_training.data.workers import default_workers
from taijitu_training.devices import choose_device
from taijitu_training.distributed import Processes, processes
from taijitu_training.errors import TaijituError, UnknownNameError
from taijitu_training.files import make_out
from taijitu_training.fine_tuning import initial_weights
from taijitu_training.models import create_model, model_options
from taijitu_training.recipe import Recipe, parse_like
from taijitu_training.recipes import RECIPES, get_recipe
from taijitu_training.run import Run


def build_parser() -> Parser:
    """The command line of training/train.py and `taijitu train`."""
    parser = Parser(prog="taijitu train", description=(__doc__ or "").splitlines()[0])
    parser.elsewhere = {f"--{field.name}": f"--set {field.name}=VALUE" for field in dataclasses.fields(Recipe)}
    parser.add_argument("--model", required=True, help="network, such as yynet_small_16")
    parser.add_argument(
        "--data", required=True, type=Path,
        help="folder or tar of train/<label>/* and test/<label>/*, CIFAR or MNIST files, WebDataset shards",
    )  # fmt: skip
    parser.add_argument(
        "--recipe", default="yynet_cifar10", help=f"one of: {', '.join(sorted(RECIPES))} (default: %(default)s)"
    )
    parser.add_argument(
        "--out", required=True, type=Path, help="folder for checkpoints, metrics.jsonl, tensorboard/ and report.html"
    )
    parser.add_argument("--preset", default="paper", help="named options of the network, such as public_code")
    parser.add_argument(
        "--option", action="append", default=[], metavar="NAME=VALUE", help="an option of the network: act=nish"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="FIELD=VALUE", help="a field of the recipe: epochs=10, lr=5e-3"
    )
    parser.add_argument(
        "--validation", type=share, default=0.0, metavar="SHARE",
        help="hold this share of the training pictures out and evaluate on them, not on the test pictures",
    )  # fmt: skip
    parser.add_argument(
        "--accumulate", type=int, default=1, metavar="PARTS",
        help="compute each process's share of a batch in so many parts, one after the other, to save memory",
    )  # fmt: skip
    parser.add_argument("--compile", action="store_true", help="train through torch.compile; on a GPU with CUDA graphs")
    parser.add_argument(
        "--workers", type=int, default=default_workers(), metavar="N",
        help="processes that decode pictures which do not fit in memory; 0: none (default here: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    parser.add_argument(
        "--init", type=Path, metavar="CKPT",
        help="start from a checkpoint's weights; where its labels are others, the layer of the labels starts anew",
    )  # fmt: skip
    parser.add_argument(
        "--resume", nargs="?", type=Path, const=LAST, metavar="CKPT",
        help="go on from OUT/last.pt, or the last.pt given, to the numbers of a run that was never cut",
    )  # fmt: skip
    return parser


LAST = Path()  # --resume without a file: OUT/last.pt
RESULTS = ("last.pt", "best.pt", "final.pt", "metrics.jsonl")


@command("taijitu train")
def main(argv: list[str] | None = None) -> int:
    """Exit code: 0 trained to the end, 1 the run failed, 2 wrong usage or input, 130 stopped by a signal."""
    args = build_parser().parse_args(argv)
    device = choose_device(args.device)
    with processes(device) as group, ExitStack() as held:
        return _train(args, device, group, held)


def _train(args: argparse.Namespace, device: torch.device, group: Processes, held: ExitStack) -> int:
    recipe, options = group.all_do(lambda: _settings(args))
    resume_from = group.first_does(lambda: _prepare_out(args, held))
    size = create_model(args.model, **options).input_size
    dataset = group.all_do(lambda: load_dataset(args.data, size, recipe, args.validation, args.workers))
    options["num_classes"] = len(dataset.labels)
    architecture = {"name": args.model, "options": options}
    initial = None
    if args.init:
        labels = list(dataset.labels)
        initial = group.first_does(lambda: initial_weights(args.init, architecture, labels, recipe))
    run = Run(architecture, recipe, dataset, args.out, device, group, args.accumulate, args.compile, initial)
    if group.writes:
        several = f", {group.count} processes" if group.count > 1 else ""
        print(
            f"{args.model} on {dataset.name} ({dataset.form}): {len(dataset.train)} to train, "
            f"{len(dataset.evaluation)} to evaluate ({dataset.evaluation_name}), {len(dataset.labels)} labels; "
            f"recipe {args.recipe}, epochs: {recipe.epochs}{_batches(len(dataset.train), recipe)}, "
            f"on {device}{several}",
            flush=True,
        )
        if initial:
            print(f"starts from {args.init}; new: {', '.join(initial.fresh) or 'nothing'}", flush=True)
    finished = run.train(resume_from)
    if not group.writes:
        return 0 if finished else INTERRUPTED
    if not finished:
        print(f"stopped; everything so far is in {args.out / 'last.pt'}: add --resume to go on", file=sys.stderr)
        return INTERRUPTED
    print(f"done: {args.out / 'final.pt'} ({run.history[-1]['eval_top1']:.2f} % on {dataset.evaluation_name})")
    return 0


def _batches(pictures: int, recipe: Recipe) -> str:
    """What the first line says of a data set smaller than a batch."""
    return f", batches of {pictures} (all), not {recipe.batch_size}" if pictures < recipe.batch_size else ""


def _settings(args: argparse.Namespace) -> tuple[Recipe, dict[str, Any]]:
    """The recipe, and every option of the network, those of --preset and --option among them."""
    if args.accumulate < 1:
        raise TaijituError(f"got --accumulate {args.accumulate}, expected 1 or more parts")
    if args.workers < 0:
        raise TaijituError(f"got --workers {args.workers}, expected 0 or more processes")
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
    create_model(args.model, **{**defaults, **changes})  # an option's value that cannot be is found here
    return recipe, {**defaults, **changes}


def _prepare_out(args: argparse.Namespace, held: ExitStack) -> Path | None:
    """Make the folder of the run, and hold it until `held` ends; the checkpoint to resume from, if any."""
    last = args.out / "last.pt"
    resume_from: Path | None = last if args.resume == LAST else args.resume
    if resume_from is not None and args.init is not None:
        raise TaijituError(f"got --init with --resume, expected one of them; {resume_from} has the run's own weights")
    if resume_from is not None and not resume_from.exists():
        raise TaijituError(f"got --resume, but there is no {resume_from}; start without it")
    make_out(args.out)
    held.enter_context(lock_folder(args.out, "taijitu train"))
    if resume_from is None or resume_from.resolve() != last.resolve():
        _refuse_results(args.out)
    return resume_from


def _refuse_results(out: Path) -> None:
    """TaijituError where another run would be overwritten."""
    if not (there := [name for name in RESULTS if (out / name).exists()]):
        return
    go_on = "add --resume to go on with that run, or " if "last.pt" in there else ""
    raise TaijituError(f"{out}: has {', '.join(there)} of another run; {go_on}choose another --out")
