"""Run and measure the experiments of a paper's table, keep the results, and write them as a table and a figure."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from taijitu_runtime.card import Architecture
from taijitu_runtime.command_line import INTERRUPTED
from taijitu_runtime.console import say, shown
from taijitu_runtime.errors import FolderInUseError, UnknownNameError, UsageError
from taijitu_runtime.files import write_whole
from taijitu_runtime.locks import lock_file, lock_folder
from taijitu_runtime.output_path import make_out
from taijitu_training import checkpoint
from taijitu_training.data import DataRequest, Dataset, Share, evaluation_batches, load_dataset
from taijitu_training.devices import choose_device, describe_machine
from taijitu_training.loop.evaluation import evaluate
from taijitu_training.models import create_model
from taijitu_training.run.announcement import announce_reading
from taijitu_training.run.run import train_run
from taijitu_training.run.settings import RunSettings
from taijitu_training.tables.figures import figure_png
from taijitu_training.tables.results import Result, ResultFile, facts, render
from taijitu_training.tables.tables import Plan, Table, get_table, plan


def reproduce(args: Namespace) -> int:
    """Run the missing experiments and write the table; arguments and exit code are those of `taijitu reproduce`."""
    table = get_table(args.table)
    for flag, number in (("--epochs", args.epochs), ("--seeds", args.seeds)):
        if number is not None and number < 1:
            raise UsageError(f"got {flag} {number}, expected 1 or more; remove it for the paper's number")
    plans = plan(table, args.seeds or table.seeds or 1, args.epochs or 0)
    wanted = rows_of(plans, args.row) if args.row else plans
    make_out(args.out)
    device = choose_device(args.device)
    size = create_model(plans[0].architecture.name, **plans[0].architecture.options).input_size
    dataset = load_dataset(DataRequest(args.data, size, plans[0].recipe, args.validation))
    announce_reading(dataset, chose_share=args.validation is not None)
    results = ResultFile(args.out / f"{table.name}.jsonl")
    elsewhere = []
    for number, planned in enumerate(wanted, 1):
        try:
            heading = f"{table.name} {number}/{len(wanted)}: {planned.name}"
            finished = add_result(planned, table, dataset, results, device, heading)
        except FolderInUseError as error:
            elsewhere.append(error)
            continue
        if not finished:
            say(f"stopped; the same command continues from there. Results so far: {shown(results.path)}", sys.stdout)
            return INTERRUPTED
    text = write_table(table, plans, results, [facts(planned, dataset) for planned in plans])
    say(f"\n{text.rstrip()}", sys.stdout)
    for reason in elsewhere:
        say(f"not in the table yet: {shown(reason)}", sys.stderr)
    return 1 if elsewhere else 0


def add_result(
    planned: Plan,
    table: Table,
    dataset: Dataset,
    results: ResultFile,
    device: torch.device,
    heading: str,
) -> bool:
    """Add the result of `planned` unless it exists; return False if a signal stopped it.

    FolderInUseError if another process is doing it.
    """
    wanted = facts(planned, dataset)
    if results.find(wanted):
        return True
    folder = results.path.parent / planned.name
    make_out(folder)
    with lock_folder(folder, "taijitu reproduce"):
        results.read()
        if results.find(wanted):  # another process has just done it
            return True
        say(heading, sys.stdout)
        numbers = run_experiment(planned, table, dataset, folder, device)
        if numbers is None:
            return False
        found = {"numbers": numbers, "machine": describe_machine(device), "date": checkpoint.today()}
        # As the run has it: a part, or all of it, may have been trained on another machine.
        types = checkpoint.load(folder / "final.pt").training.get("computed_in", "not recorded")
        results.add({**wanted, **found, "computed_in": types})
    return True


def write_table(table: Table, plans: list[Plan], results: ResultFile, wanted: list[Result]) -> str:
    """Write TABLE.md, and the figure if nothing is missing, from the results of all processes; return TABLE.md's text.

    `wanted` are the `facts` of `plans`.
    """
    place = results.path
    with lock_file(place.with_suffix(".md")):
        results.read()
        known = [(planned, result) for planned, one in zip(plans, wanted) if (result := results.find(one))]
        found = [result for _, result in known]
        text = render(table, [planned for planned, _ in known], found)
        write_whole(place.with_suffix(".md"), text.encode())
        if len(found) == len(plans) and (figure := figure_png(table, plans, found)):
            write_whole(place.with_suffix(".png"), figure)
    return text


def rows_of(plans: Sequence[Plan], rows: Sequence[str]) -> list[Plan]:
    """Return the runs of `rows`; UnknownNameError for a row that the table does not have."""
    known = [planned.row for planned in plans]
    for row in rows:
        if row not in known:
            raise UnknownNameError("row", row, known)
    return [planned for planned in plans if planned.row in rows]


def run_experiment(
    planned: Plan, table: Table, dataset: Dataset, folder: Path, device: torch.device
) -> dict[str, float] | None:
    """Train in `folder`, or continue training, and measure: numbers by column. None if a signal stopped it."""
    options = {**planned.architecture.options, "num_classes": len(dataset.labels)}
    architecture = Architecture(planned.architecture.name, options)
    last = folder / "last.pt"
    settings = RunSettings(architecture, planned.recipe, dataset, folder, device, report=False)
    course = train_run(settings, last if last.exists() else None)
    if not course.finished:
        return None
    row = course.history[-1]
    numbers = {"top1": row["eval_top1"], "loss": row["eval_loss"]}
    deviations = [column.partition("_at_")[2] for column in table.columns if "_at_" in column]
    if deviations:
        model = checkpoint.load(folder / "final.pt").model().to(device)
        for deviation in deviations:
            noisy = with_noise(evaluation_batches(dataset.evaluation, device, Share()), float(deviation))
            numbers[f"loss_at_{deviation}"] = evaluate(model, noisy, planned.recipe)["eval_loss"]
    return {column: numbers[column] for column in table.columns}


def with_noise(batches: Iterator[tuple[Tensor, Tensor]], deviation: float) -> Iterator[tuple[Tensor, Tensor]]:
    """Add Gaussian noise of `deviation` (pixels in [0, 1]) to uint8 pictures: float32, not clipped to [0, 255].

    The noise is the same for every network.
    """
    generator = torch.Generator().manual_seed(0)
    for images, targets in batches:
        noise = torch.randn(images.shape[:3], generator=generator)[..., None].to(images.device)
        yield images + 255.0 * deviation * noise, targets
