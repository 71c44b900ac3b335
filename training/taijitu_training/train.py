"""Run a whole training from plain values, for `taijitu train` and the public name `taijitu.train`."""

from __future__ import annotations

import contextlib
import math
import os
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from taijitu_runtime.console import say, shown
from taijitu_runtime.datasets import LEVELS, Level
from taijitu_runtime.datasets.budget import host_budget
from taijitu_runtime.errors import DataError, UsageError, check_name, check_number
from taijitu_runtime.files import named_path
from taijitu_runtime.labels import composed
from taijitu_runtime.locks import lock_folder
from taijitu_runtime.output_path import make_out
from taijitu_training.data import DataRequest, Dataset, load_dataset
from taijitu_training.devices import choose_device, own_random_numbers
from taijitu_training.distributed import Processes, processes
from taijitu_training.loop.distillation import Teacher, load_teacher
from taijitu_training.network_request import ChosenNetwork, NetworkRequest
from taijitu_training.recipes.named import needs_teacher
from taijitu_training.recipes.recipe import Recipe
from taijitu_training.run.announcement import announce
from taijitu_training.run.course import Course
from taijitu_training.run.metrics import Row
from taijitu_training.run.resuming import PreviousRun
from taijitu_training.run.run import train_run
from taijitu_training.run.settings import RunSettings
from taijitu_training.torchrun import told_once
from taijitu_training.weights.fine_tuning import saved_network

AnyPath = str | os.PathLike[str]
RESULTS = ("last.pt", "best.pt", "final.pt", "metrics.jsonl", "report.html")


@dataclass(frozen=True)
class TrainResult:
    """The result of a training. `finished`: False if a signal stopped it before its last epoch.

    `checkpoint`: final.pt of a finished run, otherwise last.pt, to continue from. `history`: the numbers of each epoch.
    `evaluated_on`: the split of the accuracy, in a word. `writes`: False in all but the first of several processes.
    `measured`: the result's numbers on test/, if that did not choose it ("test_top1", "test_loss", "test_macro"),
    otherwise its mean over the labels on the evaluation pictures ("eval_macro"). `best`: the checkpoint of the best
    epoch, if validation pictures chose one.
    """

    finished: bool
    checkpoint: Path
    history: tuple[Row, ...]
    evaluated_on: str
    writes: bool = True
    measured: Mapping[str, float] = field(default_factory=dict)
    best: Path | None = None

    @classmethod
    def of(cls, settings: RunSettings, course: Course) -> TrainResult:
        """Return the result of a run that has ended."""
        left = settings.out / ("final.pt" if course.finished else "last.pt")
        best, writes = settings.out / "best.pt", settings.processes.writes
        chosen = best if settings.dataset.chooses and course.history and (best.exists() or not writes) else None
        name = settings.dataset.evaluation_name
        return cls(course.finished, left, tuple(course.history), name, writes, course.measured, chosen)


def train(
    model: str | None,
    data: AnyPath,
    out: AnyPath,
    recipe: str | None = None,
    *,
    changes: Mapping[str, Any] | None = None,
    preset: str | None = None,
    options: Mapping[str, Any] | None = None,
    validation: float | None = None,
    patience: int | None = None,
    minutes: float | None = None,
    accumulate: int = 1,
    compiled: bool = False,
    workers: int | None = None,
    device: str = "auto",
    init: AnyPath | None = None,
    pretrained: str | None = None,
    offline: bool = False,
    teacher: AnyPath | None = None,
    other: str | None = None,
    resume: bool | AnyPath = False,
    label_level: Level | None = None,
    skip_unreadable: bool = False,
) -> TrainResult:
    """Train a network on pictures, and write checkpoints, metrics.jsonl, tensorboard/ and report.html.

    A line for each epoch goes to stdout. Ctrl-C, SIGTERM and SIGHUP end it after a step, with everything saved, if it
    was called in the main thread. On a CPU, glibc keeps memory that is freed for the rest of the process: without this
    a fifth of the time is the kernel's.

    Args:
        model: The network, such as "yynet_small_16"; one of `list_models`, "timm/NAME" or "torchvision/NAME". None for
            that of the checkpoint of `init` or `resume`.
        data: Folder or tar of train/<label>/* and test/<label>/*, CIFAR or MNIST files, WebDataset shards.
        out: The folder to write to.
        recipe: The recipe's name; None for that of the run with `resume`, for "fine_tune" with `init` or `pretrained`,
            and otherwise for "yynet_cifar10".
        changes: Fields of the recipe, such as {"epochs": 10, "lr": 5e-3}; those of the run with `resume`.
        preset: Named options of the network; None for those of the checkpoint of `init` or `resume`, otherwise "paper".
        options: Single options of the network, such as {"act": "nish"}.
        validation: Share of each label's training pictures to hold out and evaluate on, in [0, 1); None for 0.2 if
            there is neither val/ nor test/.
        patience: End after so many epochs without a better accuracy on the validation pictures, a fifth of the training
            pictures if there is no val/; None for that of the run with `resume`.
        minutes: Set the epochs so that the run takes about this time: the first steps are measured. None for those of
            the run with `resume`.
        accumulate: Compute each process's share of a batch in so many parts, one after the other, to save memory.
        compiled: Train through torch.compile.
        workers: Processes that decode pictures which do not fit in memory; None for as many as there are cores.
        device: "auto", "cpu", "cuda", "cuda:1", ...
        init: A checkpoint to start from, or a file of weights of timm's or torchvision's `model`. Pictures are prepared
            as for these weights; the classification layer keeps the rows of labels that both have.
        pretrained: The tag of published weights of "timm/NAME" or "torchvision/NAME" to start from in the same way, ""
            for the library's default ones.
        offline: Never download them.
        teacher: A checkpoint whose answers are learned in addition to the labels (distillation).
        other: The label of `data` whose pictures show none of the others: they are trained towards the uniform answer
            (outlier exposure), and it is not a label of the network.
        resume: Continue from OUT/last.pt (True), or from the given last.pt.
        label_level: Which folder is the label if folders are nested: "first" or "last".
        skip_unreadable: Leave out pictures that cannot be decoded, and list them.

    Returns:
        The result of the training.

    Raises:
        DataError: The pictures cannot be used.
        CheckpointError: A checkpoint cannot be read, or does not fit.
        TrainingError: The run cannot continue.
        UnknownNameError: A model, recipe, option or field that does not exist.
        UsageError: An argument is out of its range.
    """
    with told_once():
        asked = NetworkRequest(model, recipe, changes or {}, preset, options or {}, init, pretrained, offline)
        _check_numbers(validation, patience, minutes, accumulate, workers)
        _check_changes(asked.changes, minutes, teacher, other)
        if label_level is not None:
            check_name("label level", label_level, LEVELS)
        data, out = named_path(data, "data"), named_path(out, "out")
        resume_from = _resume_from(resume, out, from_weights=asked.from_weights)
    place = choose_device(device)
    with own_random_numbers(place), processes(place) as group, ExitStack() as held:
        before = group.first_does(lambda: PreviousRun.of(resume_from))
        patience, minutes = patience or before.patience, minutes or before.minutes
        network = _chosen_network(asked, before, group)
        if teacher is None and needs_teacher(name := network.recipe.name):
            group.fail(UsageError(f"got recipe {name} without a teacher, expected --teacher CKPT with it; add it"))
        if teacher is not None:
            group.all_do(lambda: _check_taught(network.recipe, other))
        group.first_does(lambda: _prepare_out(out, resume_from, held))
        start = group.first_does(lambda: asked.starting_point(network))
        if start is not None:
            network = group.all_do(lambda: asked.prepared_as(start, network))
        request = DataRequest(
            path=data,
            size=network.input_size,
            recipe=network.recipe,
            validation=validation,
            workers=workers,
            label_level=label_level,
            skip_unreadable=skip_unreadable,
            choose=patience is not None,
            other=None if other is None else composed(other),
            budget=group.least(host_budget),
            before=None if start is None else start.trained_on,
        )
        dataset = _loaded(request, out, group)
        settings = RunSettings(
            architecture=network.architecture(len(dataset.labels)),
            recipe=network.recipe,
            dataset=dataset,
            out=out,
            device=place,
            processes=group,
            accumulate=accumulate,
            compiled=compiled,
            initial=None if start is None else start.initial(dataset.labels),
            teacher=None if teacher is None else _loaded_teacher(Path(teacher), request, dataset, group),
            patience=patience,
            minutes=minutes,
        )
        if group.writes:
            announce(settings, chose_share=validation is not None)
        return TrainResult.of(settings, _course_of(settings, resume_from))


def _resume_from(resume: bool | AnyPath, out: Path, *, from_weights: bool) -> Path | None:
    """Return the checkpoint to continue from, if any. UsageError where the run would start from other weights too."""
    if resume is False:
        return None
    path = out / "last.pt" if resume is True else Path(resume)
    if from_weights:
        raise UsageError(
            f"got --init or --pretrained with --resume, expected one of them; {path} has the run's own weights"
        )
    return path


def _chosen_network(asked: NetworkRequest, before: PreviousRun, group: Processes) -> ChosenNetwork:
    """Choose network and recipe in every process, with the settings of the run `before` or the weights to start from.

    The first process reads their file.
    """
    saved = before.network or group.first_does(lambda: saved_network(asked.init))
    network = group.all_do(lambda: asked.chosen(saved, before.recipe))
    return replace(network, recipe=before.applied_to(network.recipe, asked.changes))


def _loaded(request: DataRequest, out: Path, group: Processes) -> Dataset:
    """Load the data set in every process. UsageError where an epoch has to be chosen, and there is nothing to do so."""

    def load() -> Dataset:
        try:
            return load_dataset(request)
        except DataError as error:
            data = request.path  # maybe one that no file can have, of which realpath would raise ValueError
            if not (data.is_dir() and Path(os.path.realpath(out)).is_relative_to(os.path.realpath(data))):
                raise
            there = f"--out {shown(out)} is in that folder, and may be taken for a label: remove it, and give another"
            raise DataError(f"{error}; {there}") from None

    dataset = group.all_do(load)
    if request.choose and not dataset.chooses:
        group.fail(
            UsageError(f"{request.path}: got --patience without pictures to choose an epoch by, expected val; add some")
        )
    return dataset


def _loaded_teacher(teacher: Path, request: DataRequest, dataset: Dataset, group: Processes) -> Teacher:
    """Load the teacher in every process."""
    return group.all_do(lambda: load_teacher(teacher, list(dataset.labels), request.size, request.recipe))


def _check_numbers(
    validation: float | None, patience: int | None, minutes: float | None, accumulate: int, workers: int | None
) -> None:
    if validation is not None:
        check_number("validation", validation, 0, 1, "a share in [0, 1)", below=True)
    if patience is not None:
        check_number("--patience", patience, 1, math.inf, "1 or more epochs", whole=True)
    if minutes is not None:
        check_number("--minutes", minutes, sys.float_info.min, math.inf, "more than 0", below=True)
    check_number("--accumulate", accumulate, 1, math.inf, "1 or more parts", whole=True)
    if workers is not None:
        check_number("--workers", workers, 0, math.inf, "0 or more processes", whole=True)


def _check_changes(
    changes: Mapping[str, Any], minutes: float | None, teacher: AnyPath | None, other: str | None
) -> None:
    """Raise UsageError for a field of the recipe that a flag sets, or that means nothing without one."""
    if minutes is not None and "epochs" in changes:
        raise UsageError("got --minutes with --set epochs, expected one of them; remove one")
    if teacher is None and (lost := [name for name in changes if name.startswith("teacher_")]):
        raise UsageError(f"got {lost[0]} without a teacher, expected --teacher CKPT with it; add it")
    if other is None and "other_weight" in changes:
        raise UsageError("got other_weight without other pictures, expected --other LABEL with it; add it")


def _check_taught(recipe: Recipe, other: str | None) -> None:
    """Raise UsageError for what changes only the labels' share of the loss, where a teacher leaves them none."""
    if recipe.teacher_weight < 1:
        return
    unused = {
        f"label_smoothing={recipe.label_smoothing:g}": (recipe.label_smoothing > 0, "add --set label_smoothing=0"),
        f"class_weights={recipe.class_weights}": (recipe.class_weights != "none", "add --set class_weights=none"),
        f"--other {other}": (other is not None, "remove it"),
    }
    for got, (is_there, what_to_do) in unused.items():
        if is_there:
            raise UsageError(
                f"got {got} with teacher_weight=1, which leaves it no share in the loss, expected less than 1; "
                f"{what_to_do}, or lower teacher_weight"
            )


def _course_of(settings: RunSettings, resume_from: Path | None) -> Course:
    """Train, and say how to continue where that ends early."""
    last = settings.out / "last.pt"
    stopped = f"everything so far is in {shown(last)}: add --resume to continue"
    try:
        course = train_run(settings, resume_from)
    except BrokenPipeError:
        if last.exists():
            say(f"stopped: the output was closed; {stopped}", sys.stderr)
        raise
    if settings.processes.writes and not course.finished:
        say(f"stopped; {stopped}", sys.stderr)
    return course


def _prepare_out(out: Path, resume_from: Path | None, held: ExitStack) -> None:
    """Make the folder of the run, and lock it until `held` ends; new folders that are empty then are removed."""
    last = out / "last.pt"
    new = [folder for folder in (out, *out.parents) if not os.path.exists(folder)]  # noqa: PTH110 -- never raises
    make_out(out)
    # A run that is refused leaves nothing: in the data, an empty folder would be a label without pictures.
    held.callback(_remove_empty, new)
    held.enter_context(lock_folder(out, "taijitu train"))
    if resume_from is None or os.path.realpath(resume_from) != os.path.realpath(last):
        _refuse_results(out)


def _remove_empty(innermost_first: list[Path]) -> None:
    with contextlib.suppress(OSError):  # one has the results of a run, and so the outer ones are not empty
        for folder in innermost_first:
            folder.rmdir()


def _refuse_results(out: Path) -> None:
    """Raise UsageError if another run would be overwritten."""
    if not (there := [name for name in RESULTS if (out / name).exists()]):
        return
    go_on = "add --resume to continue that run, or " if "last.pt" in there else ""
    raise UsageError(f"{out}: has {', '.join(there)} of another run; {go_on}choose another --out")
