"""Train a network on pictures.

python training/train.py --model yynet_small_16 --data cifar10.tar.xz --recipe yynet_cifar10 --out runs/a
torchrun --nproc-per-node=2 training/train.py ...   the same run, divided between two processes
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path

from taijitu_runtime.command_line import INTERRUPTED, Parser, pairs, run, share
from taijitu_runtime.console import say, shown, working
from taijitu_runtime.datasets import LEVELS
from taijitu_runtime.errors import UsageError
from taijitu_runtime.flags import add_shared
from taijitu_training.recipes.named import RECIPES, get_recipe, usual_recipe
from taijitu_training.recipes.recipe import Recipe
from taijitu_training.recipes.table import recipe_table
from taijitu_training.torchrun import told_once


def build_parser(required: bool = True) -> Parser:
    """Return the command line of training/train.py and `taijitu train`; --show needs no `required` flag."""
    parser = Parser(prog="taijitu train", description=__doc__)
    parser.elsewhere = {f"--{field.name}": f"--set {field.name}=VALUE" for field in dataclasses.fields(Recipe)}
    _add_network(parser.add_argument_group("network and recipe"))
    _add_data(parser.add_argument_group("pictures"), required)
    _add_weights(parser.add_argument_group("weights to start from, or to learn from"))
    _add_run(parser.add_argument_group("run"), required)
    return parser


def _add_network(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--model", help="network, such as yynet_small_16 (default: that of the checkpoint of --init or "
                       "--resume)")  # fmt: skip
    group.add_argument("--preset", help="named options of the network, such as public_code (default: those of the "
                       "checkpoint of --init or --resume, otherwise paper)")  # fmt: skip
    group.add_argument("--option", action="append", default=[], metavar="NAME=VALUE", help="an option of the network: "
                       "act=nish")  # fmt: skip
    group.add_argument(
        "--recipe",
        help=f"one of: {', '.join(sorted(RECIPES))} (default: {usual_recipe(from_weights=False)}; with --init or "
        f"--pretrained: {usual_recipe(from_weights=True)})",
    )
    group.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="a field of the recipe: "
                       "epochs=10, lr=5e-3")  # fmt: skip
    group.add_argument("--show", action="store_true", help="print every field of the recipe (value, default, source "
                       "and meaning) and do not train")  # fmt: skip


def _add_data(group: argparse._ArgumentGroup, required: bool) -> None:
    group.add_argument("--data", required=required, type=Path, help="folder or tar of train/<label>/* and "
                       "test/<label>/*, list of path,label[,split], CIFAR or MNIST files, WebDataset "
                       "shards")  # fmt: skip
    group.add_argument("--validation", type=share, metavar="SHARE", help="hold out this share of each label's "
                       "training pictures and choose the best epoch by them (default: 0.2 if there is neither val/ "
                       "nor test/)")  # fmt: skip
    group.add_argument("--label-level", choices=LEVELS, help="which folder is the label if folders are nested")
    add_shared(group, "--skip-unreadable")
    group.add_argument("--other", metavar="LABEL", help="label of the data whose pictures show none of the others: "
                       "they are trained towards the uniform answer, and it is not a label of the network (outlier "
                       "exposure)")  # fmt: skip
    group.add_argument("--workers", type=int, metavar="N", help="processes that decode pictures which do not fit in "
                       "memory; 0: none (default: one for each core, at most 16)")  # fmt: skip


def _add_weights(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--init", type=Path, metavar="FILE", help="start from a checkpoint, or from weights (.pth, "
                       ".safetensors) of this network of timm or torchvision; its labels are kept where the data has "
                       "them too")  # fmt: skip
    group.add_argument("--pretrained", nargs="?", const="", metavar="TAG", help="start from weights that timm or "
                       "torchvision publishes, such as a1_in1k or IMAGENET1K_V2 (default: the library's default for "
                       "the network)")  # fmt: skip
    group.add_argument("--offline", action="store_true", help="never download weights for --pretrained")
    group.add_argument("--teacher", type=Path, metavar="CKPT", help="learn this checkpoint's answers and the labels "
                       "(distillation; see the recipe's teacher_weight)")  # fmt: skip


def _add_run(group: argparse._ArgumentGroup, required: bool) -> None:
    group.add_argument("--out", required=required, type=Path, help="folder for checkpoints, metrics.jsonl, "
                       "tensorboard/ and report.html")  # fmt: skip
    group.add_argument("--resume", nargs="?", type=Path, const=LAST, metavar="CKPT", help="continue from OUT/last.pt, "
                       "or the given last.pt, with its network, recipe, minutes and patience, to the same numbers as "
                       "without a break; flags for the data and --teacher are given again")  # fmt: skip
    group.add_argument("--minutes", type=float, metavar="M", help="measure the first steps and set the epochs that "
                       "fit in this time")  # fmt: skip
    group.add_argument("--patience", type=int, metavar="EPOCHS", help="end after so many epochs without a better "
                       "accuracy on the validation images (a fifth of train if there is no val/)")  # fmt: skip
    group.add_argument("--accumulate", type=int, default=1, metavar="PARTS", help="compute each process's share of a "
                       "batch in so many parts, one after the other, to save memory")  # fmt: skip
    group.add_argument("--compile", action="store_true", help="train through torch.compile; on a GPU with CUDA graphs")
    group.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")


LAST = object()  # --resume without a file: OUT/last.pt


@run("taijitu train")
def main(argv: list[str] | None = None) -> int:
    """Run the command; 0: trained to the end, 1: the run failed, 2: wrong usage or input, 130: stopped by a signal."""
    given = sys.argv[1:] if argv is None else argv
    with told_once():
        args = build_parser(required="--show" not in given).parse_args(given)
        changes = pairs("--set", args.set, "FIELD=VALUE, such as lr=5e-3")
        options = pairs("--option", args.option, "NAME=VALUE, such as act=nish")
        if args.show:
            say(recipe_table(_shown_recipe(args, changes, options)), sys.stdout)
            return 0
    with working("loading PyTorch"):
        from taijitu_training.train import train  # torch takes seconds to import, and --help does not need it

    result = train(
        args.model,
        args.data,
        args.out,
        args.recipe,
        changes=changes,
        preset=args.preset,
        options=options,
        validation=args.validation,
        patience=args.patience,
        minutes=args.minutes,
        accumulate=args.accumulate,
        compiled=args.compile,
        workers=args.workers,
        device=args.device,
        init=args.init,
        pretrained=args.pretrained,
        offline=args.offline,
        teacher=args.teacher,
        other=args.other,
        label_level=args.label_level,
        skip_unreadable=args.skip_unreadable,
        resume=True if args.resume is LAST else args.resume or False,
    )
    if result.finished and result.writes:
        measured = f"{result.history[-1]['eval_top1']:.2f} % on {result.evaluated_on}"
        if "test_top1" in result.measured:
            measured = f"{result.measured['test_top1']:.2f} % on test, {measured}"
        best = f"; best epoch: {result.best}" if result.best else ""
        say(shown(f"done: {result.checkpoint} ({measured}){best}"), sys.stdout)
    return 0 if result.finished else INTERRUPTED


def _shown_recipe(args: argparse.Namespace, changes: dict[str, str], options: dict[str, str]) -> Recipe:
    """Return the recipe of --show; a wrong network, preset or option is an error as in a training."""
    if args.resume is not None:
        raise UsageError("got --show with --resume, expected one of them; name the run's recipe: --recipe NAME --show")
    from_weights = args.init is not None or args.pretrained is not None
    name = usual_recipe(from_weights=from_weights) if args.recipe is None else args.recipe
    if not options and args.model is args.preset is args.init is None:
        return get_recipe(name, changes)
    from taijitu_training.network_request import NetworkRequest  # torch, see above
    from taijitu_training.weights.fine_tuning import saved_network

    asked = NetworkRequest(args.model, name, changes, args.preset, options, args.init, args.pretrained)
    return asked.chosen(saved_network(args.init)).recipe
