"""A whole training run: its start, its epochs, and what each of them writes."""

from __future__ import annotations

import copy
import dataclasses
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import nn

from taijitu_runtime.console import Progress
from taijitu_training.data import Batches, Share, batches
from taijitu_training.devices import prepare_device
from taijitu_training.distributed import explain_lost_peer
from taijitu_training.loop.epoch import check_finite, train_one_epoch
from taijitu_training.loop.state import Totals, TrainState, runner_of, start
from taijitu_training.models import create_model
from taijitu_training.recipes.recipe import Recipe
from taijitu_training.run.course import Course
from taijitu_training.run.failures import explain_full_disk, explain_missing_compiler, explain_out_of_memory
from taijitu_training.run.judging import evaluated, report_result, row_of_epoch
from taijitu_training.run.messages import epoch_in_words, show_step, slowness_in_words
from taijitu_training.run.metrics import MetricsLog
from taijitu_training.run.pacing import TRIAL_EPOCHS, epochs_that_fit
from taijitu_training.run.resuming import resume
from taijitu_training.run.saving import Saver
from taijitu_training.run.settings import RunSettings
from taijitu_training.run.stop import StopRequest
from taijitu_training.weights.fitting import classification_layer


def train_run(settings: RunSettings, resume_from: Path | None = None) -> Course:
    """Train to the recipe's last epoch, or until a signal stops it: the state is then in last.pt.

    last.pt is to continue from, final.pt is the result of the last epoch. best.pt is the best epoch so far, if there
    are pictures to choose it by: never those of the test. Only the first of several processes prints and writes.

    TrainingError, CheckpointError or DataError if it cannot continue, one line each.
    """
    began = time.perf_counter()
    prepare_device(settings.device)
    torch.manual_seed(settings.recipe.seed)
    model = create_model(settings.architecture.name, **settings.architecture.options)
    course = Course()
    if settings.initial is not None:
        settings.initial.load_into(model)
        course.origin = settings.initial.origin
    processes = settings.processes
    share = Share(processes.rank, processes.count, settings.accumulate)
    memory = explain_out_of_memory(settings.recipe.batch_size, processes.count, settings.accumulate)
    with explain_lost_peer(), explain_missing_compiler(), explain_full_disk(settings.out), memory:
        source = processes.all_do(lambda: batches(settings.dataset.train, settings.recipe, settings.device, share))
        steps = {"steps_per_epoch": source.cut.steps, "processes": processes.count, "parts": share.parts}
        model = model.to(settings.device).to(memory_format=torch.channels_last)
        with StopRequest() as stop:
            if settings.minutes is not None and resume_from is None:  # a resumed run has the epochs of its recipe
                settings = _fitting(settings, model, source, began, stop)
            state = _start(model, settings, settings.recipe, source.cut.steps)
            saver = Saver(settings, course, steps)
            if resume_from is not None:
                resume(resume_from, state, saver)
            _train_epochs(state, source, saver, stop)
    course.finished = course.has_ended(settings)
    return course


def _fitting(settings: RunSettings, model: nn.Module, source: Batches, began: float, stop: StopRequest) -> RunSettings:
    """Return the settings with as many epochs as fit into their minutes."""
    assert settings.minutes is not None
    recipe = settings.recipe.with_epochs(TRIAL_EPOCHS)
    trial = _start(copy.deepcopy(model), settings, recipe, source.cut.steps)
    evaluation, stopped = settings.dataset.evaluation, lambda: stop.asked
    epochs = epochs_that_fit(trial, recipe, source, evaluation, settings.processes, settings.minutes, began, stopped)
    return dataclasses.replace(settings, recipe=settings.recipe.with_epochs(epochs))


def _start(model: nn.Module, settings: RunSettings, recipe: Recipe, steps: int) -> TrainState:
    return start(
        model,
        recipe,
        steps,
        runner=runner_of(model, settings.processes, compiled=settings.compiled, parts=settings.accumulate),
        teacher=settings.teacher,
        label_counts=list(settings.dataset.label_counts.values()),
        head=classification_layer(settings.architecture) if recipe.tells_layers_apart else (),
        with_others=settings.dataset.others > 0,
    )


def _train_epochs(state: TrainState, source: Batches, saver: Saver, stop: StopRequest) -> None:
    settings, course = saver.settings, saver.course
    epochs, used, writes = settings.recipe.epochs, source.cut.used, settings.processes.writes
    log = MetricsLog(settings.out, course.history) if writes else nullcontext()
    with log as metrics, Progress(epochs * used, hidden=not writes) as bar:

        def after_steps(totals: Totals) -> bool:
            show_step(bar, state, epochs, used)
            return stop.asked

        if metrics is not None and course.has_ended(settings) and not (settings.out / "final.pt").exists():
            _finish_again(state, saver, metrics, bar)
        while not course.has_ended(settings):
            if train_one_epoch(state, source, settings.recipe, settings.processes, after_steps):
                _finish_epoch(state, saver, metrics, bar)
            else:
                check_finite(state, settings.recipe, settings.processes)
                saver.save(state, "last.pt", resumable=True)
            if settings.processes.any(stop.asked, settings.device):
                break


def _finish_epoch(state: TrainState, saver: Saver, log: MetricsLog | None, bar: Progress) -> None:
    """Evaluate the epoch, save what it changes, and print it; after the last one, measure the result too."""
    settings, course = saver.settings, saver.course
    dataset, epochs = settings.dataset, settings.recipe.epochs
    row, best = row_of_epoch(state, settings), course.best_top1
    course.history.append(row)
    ended = course.has_ended(settings)
    if ended and dataset.test is not None:
        on_test = evaluated(state, dataset.test, settings)
        course.measured = {"test_top1": on_test["eval_top1"], "test_loss": on_test["eval_loss"]}
    if log is None:
        return
    log.write_last()
    if dataset.chooses and row["eval_top1"] > best:
        saver.save(state, "best.pt")
    said = [epoch_in_words(row, epochs, dataset.evaluation_name)]
    if ended:
        said += _save_result(state, saver)
        if state.epoch < epochs:
            said.append(f"no better epoch in the last {settings.patience}: stopped; best.pt is the best one")
    # Last: a run that dies before this line does the epoch again, with all of the above.
    saver.save(state, "last.pt", resumable=True)
    if slow := slowness_in_words(course.history):
        bar.say(slow, sys.stderr)
    bar.say("\n".join(said), sys.stdout)


def _finish_again(state: TrainState, saver: Saver, log: MetricsLog, bar: Progress) -> None:
    """Write the files of a run that was resumed after its last epoch, in a folder that does not have them."""
    log.write_last()
    said = ["no epoch is left to train", *_save_result(state, saver)]
    saver.save(state, "last.pt", resumable=True)
    bar.say("\n".join(said), sys.stdout)


def _save_result(state: TrainState, saver: Saver) -> list[str]:
    """Write final.pt, and report.html if it is wanted; return what it says."""
    said = [report_result(state, saver.settings, saver.course)] if saver.settings.report else []
    saver.save(state, "final.pt")
    return said
