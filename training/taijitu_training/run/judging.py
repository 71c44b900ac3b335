"""Judge a run's network: after each epoch, and for the report at the end."""

from __future__ import annotations

from taijitu_training.data import Share, Source, evaluation_batches
from taijitu_training.loop.epoch import check_finite
from taijitu_training.loop.evaluation import evaluate
from taijitu_training.loop.state import Totals, TrainState
from taijitu_training.run.course import Course
from taijitu_training.run.metrics import Row
from taijitu_training.run.predictions import PredictionLog, Predictions
from taijitu_training.run.recall import macro, recalls, recalls_in_words
from taijitu_training.run.report import write_report
from taijitu_training.run.settings import RunSettings


def row_of_epoch(state: TrainState, settings: RunSettings) -> Row:
    """Evaluate, and return the numbers of the epoch, whose totals begin again."""
    metrics = evaluated(state, settings.dataset.evaluation, settings)
    check_finite(state, settings.recipe, settings.processes, *metrics.values())
    totals, state.totals = state.totals, Totals()
    return {
        "epoch": state.epoch,
        "lr": float(state.optimizer.param_groups[0]["lr"]),
        **totals.metrics("train"),
        **metrics,
        "pictures_per_s": totals.pictures / totals.seconds,
        "train_s": totals.seconds,
    }


def evaluated(state: TrainState, source: Source, settings: RunSettings) -> dict[str, float]:
    """Evaluate on `source`, divided between the processes: {"eval_loss", "eval_top1"}."""
    processes = settings.processes
    pictures = evaluation_batches(source, settings.device, Share(processes.rank, processes.count))
    return evaluate(state.result, pictures, settings.recipe, processes)


def report_result(state: TrainState, settings: RunSettings, course: Course) -> str:
    """Write report.html, about the evaluation pictures; return each label's recall on the measuring pictures.

    Their mean becomes part of what the course has measured.
    """
    dataset = settings.dataset
    seen = _answers(state, dataset.evaluation, settings)
    title = f"{settings.architecture.name} on {dataset.name}"
    write_report(settings.out, title, course.history, dataset.labels, seen)
    split, key = dataset.evaluation_name, "eval_macro"
    if dataset.test is not None:
        seen, split, key = _answers(state, dataset.test, settings), "test", "test_macro"
    by_label = recalls(seen.targets, seen.predicted, dataset.labels)
    course.measured[key] = macro(by_label)
    return recalls_in_words(split, by_label)


def _answers(state: TrainState, source: Source, settings: RunSettings) -> Predictions:
    """Return the answers to all of these pictures, regardless of the process that judged them before."""
    seen = PredictionLog()
    evaluate(state.result, evaluation_batches(source, settings.device, Share()), settings.recipe, see=seen.add)
    return seen.result()
