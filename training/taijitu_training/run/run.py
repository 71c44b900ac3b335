"""A whole training run: epochs, checkpoints, metrics, stopping and continuing."""

from __future__ import annotations

import copy
import sys
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from taijitu_runtime.console import Progress, say
from taijitu_runtime.errors import WriteError
from taijitu_training import checkpoint
from taijitu_training.checkpoint import Checkpoint
from taijitu_training.data import Batches, Dataset, Share, Source, batches, evaluation_batches, input_contract
from taijitu_training.devices import prepare_device
from taijitu_training.distributed import ALONE, Processes, explain_lost_peer
from taijitu_training.errors import CheckpointError, TrainingError
from taijitu_training.loop.distillation import Teacher
from taijitu_training.loop.epoch import check_finite, train_one_epoch
from taijitu_training.loop.evaluation import evaluate
from taijitu_training.loop.state import Totals, TrainState, runner_of, start
from taijitu_training.models import create_model
from taijitu_training.recipes.recipe import Recipe
from taijitu_training.run.failures import explain_missing_compiler, explain_out_of_memory
from taijitu_training.run.metrics import MetricsLog, Row
from taijitu_training.run.pacing import LONG, epochs_that_fit, seconds_of_evaluation, seconds_of_training, with_epochs
from taijitu_training.run.predictions import PredictionLog, Predictions
from taijitu_training.run.recall import macro, recalls, recalls_in_words
from taijitu_training.run.report import write_report
from taijitu_training.run.resuming import load_resumable
from taijitu_training.run.stop import StopRequest
from taijitu_training.weights.fine_tuning import InitialWeights
from taijitu_training.weights.fitting import classification_layer

SLOW_SHARE = 0.5
"""Share of the first epoch's pictures/s below which a run warns."""


@dataclass
class Run:
    """One run in one folder: last.pt is to continue from, final.pt is the result of the last epoch.

    best.pt is the best epoch so far, if there are pictures to choose it by: never those of the test. `measured`:
    the last epoch's values in addition to its row: on the test pictures, if others were to choose by, and by label.

    `architecture` is {"name", "options"} for create_model. Each of several `processes` has its own Run, and only the
    first one prints and writes. `accumulate` divides each process's share of a batch into parts computed one by one.
    `initial`: the weights to start from instead of random ones. `teacher`: the checkpoint whose answers are learned
    too. `patience`: epochs without a better one after which the run ends. `minutes`: the recipe gets as many epochs as
    fit.
    """

    architecture: dict[str, Any]
    recipe: Recipe
    dataset: Dataset
    out: Path
    device: torch.device
    processes: Processes = ALONE
    accumulate: int = 1
    compiled: bool = False
    initial: InitialWeights | None = None
    teacher: Teacher | None = None
    patience: int | None = None
    minutes: float | None = None
    report: bool = True
    history: list[Row] = field(default_factory=list)
    measured: dict[str, float] = field(default_factory=dict, init=False)
    _scores: list[float] = field(default_factory=list, init=False)  # of each epoch, in every process
    _steps: dict[str, int] = field(default_factory=dict, init=False)  # of an epoch, and the processes they are for
    _origin: dict[str, Any] = field(default_factory=dict, init=False)  # of the initial weights

    def train(self, resume_from: Path | None = None) -> bool:
        """Train to the recipe's last epoch; return False if a signal stopped it earlier (the state is then in last.pt).

        TrainingError, CheckpointError or DataError if it cannot continue, one line each.
        """
        began = time.perf_counter()
        prepare_device(self.device)
        torch.manual_seed(self.recipe.seed)
        model = create_model(self.architecture["name"], **self.architecture["options"])
        if self.initial is not None:
            self.initial.load_into(model)
            self._origin = self.initial.origin
        share = Share(self.processes.rank, self.processes.count, self.accumulate)
        memory = explain_out_of_memory(self.recipe.batch_size, self.processes.count, self.accumulate)
        with explain_lost_peer(), explain_missing_compiler(), memory:
            source = batches(self.dataset.train, self.recipe, self.device, share)
            cut = source.cut
            self._steps = {"steps_per_epoch": cut.steps, "processes": self.processes.count}
            model = model.to(self.device).to(memory_format=torch.channels_last)
            with StopRequest() as stop:
                if self.minutes is not None:
                    before = self._epochs_before(resume_from)
                    epochs = before or self._epochs_that_fit(model, source, self.minutes, began, stop)
                    self.recipe = with_epochs(self.recipe, epochs)
                state = self._start(model, self.recipe, cut.steps)
                if resume_from is not None:
                    self._resume(state, resume_from)
                self._train(state, source, stop)
        return self._ended(state)

    def _train(self, state: TrainState, source: Batches, stop: StopRequest) -> None:
        used = source.cut.used
        with self._log() as log, self._bar(used) as bar:

            def after_steps(totals: Totals) -> bool:
                self._show(bar, state, used)
                return stop.asked

            while not self._ended(state):
                if train_one_epoch(state, source, self.recipe, self.processes, after_steps):
                    self._finish_epoch(state, log, bar)
                else:
                    check_finite(state, self.recipe, self.processes)
                    self._save(state, "last.pt", resumable=True)
                if self.processes.any(stop.asked, self.device):
                    break

    def _epochs_before(self, resume_from: Path | None) -> int | None:
        """Return the number of epochs that the resumed run set by time: the same schedule gives the same numbers."""
        if resume_from is None:
            return None
        saved = self.processes.first_does(lambda: checkpoint.load(resume_from))
        epochs = saved.training.get("recipe", {}).get("epochs")
        return epochs if isinstance(epochs, int) else None

    def _epochs_that_fit(
        self, model: nn.Module, source: Batches, minutes: float, began: float, stop: StopRequest
    ) -> int:
        """Measure some steps of a copy that is thrown away. `began`: the start of the minutes, by perf_counter."""
        recipe = with_epochs(self.recipe, LONG)
        trial = self._start(copy.deepcopy(model), recipe, source.cut.steps)
        share = Share(self.processes.rank, self.processes.count)
        pictures = evaluation_batches(self.dataset.evaluation, self.device, share)
        trained = seconds_of_training(trial, source, recipe, self.processes, 60.0 * minutes, lambda: stop.asked)
        an_epoch = trained + seconds_of_evaluation(
            trial, pictures, len(self.dataset.evaluation), recipe, self.processes
        )
        epochs = self.processes.first_does(
            lambda: epochs_that_fit(60.0 * minutes - (time.perf_counter() - began), an_epoch)
        )
        if self.processes.writes:
            say(f"an epoch takes {an_epoch:.3g} s: epochs: {epochs}, for {minutes:g} minutes", sys.stdout)
            if an_epoch > 60.0 * minutes:
                say("warning: one epoch takes longer than that", sys.stderr)
        return epochs

    def _start(self, model: nn.Module, recipe: Recipe, steps: int) -> TrainState:
        return start(
            model,
            recipe,
            steps,
            runner=runner_of(model, self.processes, compiled=self.compiled, parts=self.accumulate),
            teacher=self.teacher,
            label_counts=list(self.dataset.label_counts.values()),
            head=classification_layer(self.architecture) if recipe.tells_layers_apart else (),
            with_others=self.dataset.others > 0,
        )

    def _ended(self, state: TrainState) -> bool:
        """Return whether the last epoch is done, by the recipe or by the patience."""
        scores = self._scores
        waited = len(scores) - 1 - scores.index(max(scores)) if scores else 0
        return state.epoch == self.recipe.epochs or (self.patience is not None and waited >= self.patience)

    def _log(self) -> AbstractContextManager[MetricsLog | None]:
        return MetricsLog(self.out, self.history) if self.processes.writes else nullcontext()

    def _bar(self, pictures: int) -> Progress:
        """Show images over the whole run, so that the time left is the run's; `pictures`: per epoch."""
        return Progress(self.recipe.epochs * pictures, hidden=not self.processes.writes)

    def _show(self, bar: Progress, state: TrainState, pictures: int) -> None:
        means = state.totals.metrics("train")
        bar.show(
            state.epoch * pictures + state.totals.pictures,
            self.recipe.epochs * pictures,
            f"epoch {state.epoch + 1}/{self.recipe.epochs}",
            f"loss {means['train_loss']:.3f}, {means['train_top1']:.1f} %, "
            f"lr {state.optimizer.param_groups[0]['lr']:.2e}",
        )

    def _finish_epoch(self, state: TrainState, log: MetricsLog | None, bar: Progress) -> None:
        metrics = self._evaluated(state, self.dataset.evaluation)
        check_finite(state, self.recipe, self.processes, *metrics.values())
        row = {
            "epoch": state.epoch,
            "lr": float(state.optimizer.param_groups[0]["lr"]),
            **state.totals.metrics("train"),
            **metrics,
            "pictures_per_s": state.totals.pictures / state.totals.seconds,
            "train_s": state.totals.seconds,
        }
        state.totals = Totals()
        self._scores.append(row["eval_top1"])
        if self.dataset.test is not None and self._ended(state):
            on_test = self._evaluated(state, self.dataset.test)
            self.measured = {"test_top1": on_test["eval_top1"], "test_loss": on_test["eval_loss"]}
        if log is None:
            return
        best = max((past["eval_top1"] for past in self.history), default=-1.0)
        log.add(row)
        if self.dataset.chooses and row["eval_top1"] > best:
            self._save(state, "best.pt")
        by_label = ""
        if self._ended(state):
            if self.report:
                by_label = self._write_report(state)
            self._save(state, "final.pt")
        # Last: a run that dies before this line does the epoch again, with all of the above.
        self._save(state, "last.pt", resumable=True)
        self._warn_if_slow(row, bar)
        bar.say(self._in_a_line(row), sys.stdout)
        if by_label:
            bar.say(by_label, sys.stdout)
        if state.epoch < self.recipe.epochs and self._ended(state):
            bar.say(f"no better epoch in the last {self.patience}: stopped; best.pt is the best one", sys.stdout)

    def _evaluated(self, state: TrainState, source: Source) -> dict[str, float]:
        """Evaluate on `source`, divided between the processes: {"eval_loss", "eval_top1"}."""
        share = Share(self.processes.rank, self.processes.count)
        pictures = evaluation_batches(source, self.device, share)
        return evaluate(state.result, pictures, self.recipe, self.processes)

    def _in_a_line(self, row: Row) -> str:
        return (
            f"epoch {row['epoch']:3.0f}/{self.recipe.epochs}"
            f"  train loss {row['train_loss']:.4f}, {row['train_top1']:.2f} %"
            f"  {self.dataset.evaluation_name} loss {row['eval_loss']:.4f}, {row['eval_top1']:.2f} %"
            f"  lr {row['lr']:.2e}  {row['pictures_per_s']:.0f} pictures/s"
        )

    def _warn_if_slow(self, row: Row, bar: Progress) -> None:
        now, first = row["pictures_per_s"], self.history[0]["pictures_per_s"]
        if now < SLOW_SHARE * first:
            bar.say(
                f"warning: {now:.0f} pictures/s, {first:.0f} in the first epoch; other programs use the cores, and "
                "threads that wait for each other lose most: start runs with OMP_NUM_THREADS=1 (docs/training.md)",
                sys.stderr,
            )

    def _write_report(self, state: TrainState) -> str:
        """Write report.html, about the evaluation pictures; return each label's recall on the measuring pictures."""
        seen = self._answers(state, self.dataset.evaluation)
        title = f"{self.architecture['name']} on {self.dataset.name}"
        try:
            write_report(self.out, title, self.history, self.dataset.labels, seen)
        except WriteError as error:
            raise TrainingError(f"{error}, then --resume") from None
        split, key = self.dataset.evaluation_name, "eval_macro"
        if self.dataset.test is not None:
            seen, split, key = self._answers(state, self.dataset.test), "test", "test_macro"
        by_label = recalls(seen.targets, seen.predicted, self.dataset.labels)
        self.measured[key] = macro(by_label)
        return recalls_in_words(split, by_label)

    def _answers(self, state: TrainState, source: Source) -> Predictions:
        """Return the answers to all of these pictures, regardless of the process that judged them before."""
        seen = PredictionLog()
        evaluate(state.result, evaluation_batches(source, self.device, Share()), self.recipe, see=seen.add)
        return seen.result()

    def _save(self, state: TrainState, name: str, resumable: bool = False) -> None:
        if not self.processes.writes:
            return
        weights = {key: value.detach().cpu().contiguous() for key, value in state.result.state_dict().items()}
        resume = {"state": state.state_dict(), "history": self.history, **self._steps} if resumable else {}
        try:
            checkpoint.save(self._checkpoint(weights, resume), self.out / name)
        except WriteError as error:
            raise TrainingError(f"{error}, then --resume") from None

    def _checkpoint(self, weights: dict[str, Tensor], resume: dict[str, Any]) -> Checkpoint:
        return Checkpoint(
            state_dict=weights,
            architecture=self.architecture,
            labels=list(self.dataset.labels),
            input=input_contract(self.dataset.size, self.recipe),
            training=self._training(),
            producer=checkpoint.producer_versions(),
            source_sha256=self.dataset.sha256,
            resume=resume,
        )

    def _training(self) -> dict[str, Any]:
        dataset, last = self.dataset, self.history[-1] if self.history else {}
        record = {
            "data": dataset.name,
            "data_sha256": dataset.sha256,
            "train_pictures": len(dataset.train),
            "label_counts": list(dataset.label_counts.values()),
            "evaluation": dataset.evaluation_name,
            "evaluation_pictures": len(dataset.evaluation),
            "test_pictures": None if dataset.test is None else len(dataset.test),
            "other_pictures": dataset.others or None,
            **({} if dataset.trained_on is None else dataset.trained_on.to_card()),
            "recipe": self.recipe.to_dict(),
            "metrics": {
                **{key: value for key, value in last.items() if key in ("epoch", "eval_top1", "eval_loss")},
                **self.measured,
            },
            "date": datetime.now(timezone.utc).date().isoformat(),
            "patience": self.patience,
            "minutes": self.minutes,
            "started_from": self._origin or None,
            "teacher": None if self.teacher is None else self.teacher.origin,
        }
        return {name: value for name, value in record.items() if value is not None}

    def _resume(self, state: TrainState, path: Path) -> None:
        own = self._checkpoint({}, self._steps)
        saved = self.processes.first_does(lambda: load_resumable(path, own))
        try:
            state.load_state_dict(saved.resume["state"])
            self.history[:] = saved.resume["history"]
            self._scores = [row["eval_top1"] for row in self.history]
            self._origin = saved.training.get("started_from", {})
            if not 0 <= state.epoch == len(self.history) <= self.recipe.epochs:
                raise ValueError(f"{len(self.history)} rows for {state.epoch} of {self.recipe.epochs} epochs")
            if self._ended(state):
                measured = saved.training.get("metrics", {})
                self.measured = {name: value for name, value in measured.items() if name not in self.history[-1]}
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            self.processes.fail(CheckpointError(f"{path}: its training state is damaged ({error!r}); start a new run"))
