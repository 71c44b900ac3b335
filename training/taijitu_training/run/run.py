"""A whole training run: epochs, checkpoints, metrics, stopping and continuing."""

from __future__ import annotations

import copy
import sys
import time
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from taijitu_runtime.card import Architecture
from taijitu_runtime.console import Progress, say, shown
from taijitu_runtime.files import write_whole
from taijitu_training import checkpoint
from taijitu_training.checkpoint import Checkpoint
from taijitu_training.data import Batches, Dataset, Share, Source, batches, evaluation_batches, input_contract
from taijitu_training.devices import prepare_device
from taijitu_training.distributed import ALONE, Processes, explain_lost_peer
from taijitu_training.errors import CheckpointError
from taijitu_training.loop.distillation import Teacher
from taijitu_training.loop.epoch import check_finite, train_one_epoch
from taijitu_training.loop.evaluation import evaluate
from taijitu_training.loop.mixed_precision import computed_in, name_of
from taijitu_training.loop.state import Totals, TrainState, runner_of, start
from taijitu_training.models import create_model
from taijitu_training.recipes.recipe import Recipe
from taijitu_training.run.failures import explain_full_disk, explain_missing_compiler, explain_out_of_memory
from taijitu_training.run.messages import (
    epoch_in_words,
    other_parts_in_words,
    other_type_in_words,
    show_step,
    slowness_in_words,
)
from taijitu_training.run.metrics import MetricsLog, Row
from taijitu_training.run.pacing import TRIAL_EPOCHS, epochs_that_fit
from taijitu_training.run.predictions import PredictionLog, Predictions
from taijitu_training.run.recall import macro, recalls, recalls_in_words
from taijitu_training.run.report import write_report
from taijitu_training.run.resuming import load_resumable
from taijitu_training.run.stop import StopRequest
from taijitu_training.weights.fitting import classification_layer
from taijitu_training.weights.starting_point import InitialWeights


@dataclass
class Run:
    """One run in one folder: last.pt is to continue from, final.pt is the result of the last epoch.

    best.pt is the best epoch so far, if there are pictures to choose it by: never those of the test. `measured`:
    the last epoch's values in addition to its row: on the test pictures, if others were to choose by, and by label.

    Each of several `processes` has its own Run, and only the first one prints and writes. `accumulate` divides each
    process's share of a batch into parts computed one by one. `initial`: the weights to start from instead of random
    ones. `teacher`: the checkpoint whose answers are learned too. `patience`: epochs without a better one after which
    the run ends. `minutes`: the recipe gets as many epochs as fit.
    """

    architecture: Architecture
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
    _steps: dict[str, int] = field(default_factory=dict, init=False)  # of an epoch, with the processes and the parts
    _origin: dict[str, Any] = field(default_factory=dict, init=False)  # of the initial weights
    _computed_in_before: str = field(default="", init=False)  # the types of a resumed run, the last one at the end

    def train(self, resume_from: Path | None = None) -> bool:
        """Train to the recipe's last epoch; return False if a signal stopped it earlier (the state is then in last.pt).

        TrainingError, CheckpointError or DataError if it cannot continue, one line each.
        """
        began = time.perf_counter()
        prepare_device(self.device)
        torch.manual_seed(self.recipe.seed)
        model = create_model(self.architecture.name, **self.architecture.options)
        if self.initial is not None:
            self.initial.load_into(model)
            self._origin = self.initial.origin
        share = Share(self.processes.rank, self.processes.count, self.accumulate)
        memory = explain_out_of_memory(self.recipe.batch_size, self.processes.count, self.accumulate)
        with explain_lost_peer(), explain_missing_compiler(), explain_full_disk(self.out), memory:
            source = batches(self.dataset.train, self.recipe, self.device, share)
            steps = source.cut.steps
            self._steps = {"steps_per_epoch": steps, "processes": self.processes.count, "parts": share.parts}
            model = model.to(self.device).to(memory_format=torch.channels_last)
            with StopRequest() as stop:
                if self.minutes is not None and resume_from is None:  # a resumed run has those of its recipe
                    epochs = self._epochs_that_fit(model, source, self.minutes, began, stop)
                    self.recipe = self.recipe.with_epochs(epochs)
                state = self._start(model, self.recipe, source.cut.steps)
                if resume_from is not None:
                    self._resume(state, resume_from)
                self._train(state, source, stop)
        return self._ended(state)

    def _epochs_that_fit(
        self, model: nn.Module, source: Batches, minutes: float, began: float, stop: StopRequest
    ) -> int:
        recipe = self.recipe.with_epochs(TRIAL_EPOCHS)
        trial = self._start(copy.deepcopy(model), recipe, source.cut.steps)
        evaluation, stopped = self.dataset.evaluation, lambda: stop.asked
        return epochs_that_fit(trial, recipe, source, evaluation, self.processes, minutes, began, stopped)

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

    @property
    def computed_in(self) -> str:
        """The name of the type that it computes in: recipes with mixed precision take what the device is fast in."""
        return name_of(computed_in(self.device.type, self.recipe))

    def _resume(self, state: TrainState, path: Path) -> None:
        own = self._checkpoint({}, self._steps)
        saved = self.processes.first_does(lambda: load_resumable(path, own))
        self._computed_in_before = str(saved.training.get("computed_in", ""))
        then = self._computed_in_before.rpartition(", ")[2]
        if self.processes.writes and then not in ("", self.computed_in):
            say(other_type_in_words(path, then, self.computed_in), sys.stderr)
        parts, now = saved.resume.get("parts"), self._steps["parts"]
        if self.processes.writes and isinstance(parts, int) and parts != now:
            say(other_parts_in_words(path, parts, now, self.processes.count), sys.stderr)
        try:
            state.load_state_dict(saved.resume["state"])
            self.history[:] = saved.resume["history"]
            self._origin = saved.training.get("started_from", {})
            if not 0 <= state.epoch == len(self.history) <= self.recipe.epochs:
                raise ValueError(f"{len(self.history)} rows for {state.epoch} of {self.recipe.epochs} epochs")
            if self._ended(state):
                measured = saved.training.get("metrics", {})
                self.measured = {name: value for name, value in measured.items() if name not in self.history[-1]}
            if self.processes.writes and self.dataset.chooses and self.history:
                self._copy_best(path.parent)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            self.processes.fail(CheckpointError(f"{path}: its training state is damaged ({error!r}); start a new run"))

    def _copy_best(self, folder: Path) -> None:
        """Copy the best epoch of the run in `folder`, where this one continues it in another folder."""
        here, there = self.out / "best.pt", folder / "best.pt"
        if here.exists():
            return
        if there.is_file():
            write_whole(here, there.read_bytes())
        else:
            say(
                f"warning: no {shown(there)}: best.pt will be there after an epoch better than those before", sys.stderr
            )

    def _train(self, state: TrainState, source: Batches, stop: StopRequest) -> None:
        used, writes = source.cut.used, self.processes.writes
        log = MetricsLog(self.out, self.history) if writes else nullcontext()
        with log as metrics, Progress(self.recipe.epochs * used, hidden=not writes) as bar:

            def after_steps(totals: Totals) -> bool:
                show_step(bar, state, self.recipe.epochs, used)
                return stop.asked

            if metrics is not None and self._ended(state) and not (self.out / "final.pt").exists():
                self._finish_again(state, metrics, bar)
            while not self._ended(state):
                if train_one_epoch(state, source, self.recipe, self.processes, after_steps):
                    self._finish_epoch(state, metrics, bar)
                else:
                    check_finite(state, self.recipe, self.processes)
                    self._save(state, "last.pt", resumable=True)
                if self.processes.any(stop.asked, self.device):
                    break

    def _ended(self, state: TrainState) -> bool:
        """Return whether the last epoch is done, by the recipe or by the patience."""
        scores = [row["eval_top1"] for row in self.history]
        waited = len(scores) - 1 - scores.index(max(scores)) if scores else 0
        return state.epoch == self.recipe.epochs or (self.patience is not None and waited >= self.patience)

    def _finish_epoch(self, state: TrainState, log: MetricsLog | None, bar: Progress) -> None:
        """Evaluate the epoch, save what it changes, and print it; after the last one, measure the result too."""
        row = self._row(state)
        best = max((past["eval_top1"] for past in self.history), default=-1.0)
        self.history.append(row)
        ended = self._ended(state)
        if ended and self.dataset.test is not None:
            on_test = self._evaluated(state, self.dataset.test)
            self.measured = {"test_top1": on_test["eval_top1"], "test_loss": on_test["eval_loss"]}
        if log is None:
            return
        log.write_last()
        if self.dataset.chooses and row["eval_top1"] > best:
            self._save(state, "best.pt")
        said = [epoch_in_words(row, self.recipe.epochs, self.dataset.evaluation_name)]
        if ended:
            said += self._save_result(state)
            if state.epoch < self.recipe.epochs:
                said.append(f"no better epoch in the last {self.patience}: stopped; best.pt is the best one")
        # Last: a run that dies before this line does the epoch again, with all of the above.
        self._save(state, "last.pt", resumable=True)
        if slow := slowness_in_words(self.history):
            bar.say(slow, sys.stderr)
        bar.say("\n".join(said), sys.stdout)

    def _finish_again(self, state: TrainState, log: MetricsLog, bar: Progress) -> None:
        """Write the files of a run that was resumed after its last epoch, in a folder that does not have them."""
        log.write_last()
        said = ["no epoch is left to train", *self._save_result(state)]
        self._save(state, "last.pt", resumable=True)
        bar.say("\n".join(said), sys.stdout)

    def _save_result(self, state: TrainState) -> list[str]:
        """Write final.pt, and report.html if it is wanted; return what it says."""
        said = [self._write_report(state)] if self.report else []
        self._save(state, "final.pt")
        return said

    def _row(self, state: TrainState) -> Row:
        """Evaluate, and return the numbers of the epoch, whose totals begin again."""
        metrics = self._evaluated(state, self.dataset.evaluation)
        check_finite(state, self.recipe, self.processes, *metrics.values())
        totals, state.totals = state.totals, Totals()
        return {
            "epoch": state.epoch,
            "lr": float(state.optimizer.param_groups[0]["lr"]),
            **totals.metrics("train"),
            **metrics,
            "pictures_per_s": totals.pictures / totals.seconds,
            "train_s": totals.seconds,
        }

    def _evaluated(self, state: TrainState, source: Source) -> dict[str, float]:
        """Evaluate on `source`, divided between the processes: {"eval_loss", "eval_top1"}."""
        share = Share(self.processes.rank, self.processes.count)
        pictures = evaluation_batches(source, self.device, share)
        return evaluate(state.result, pictures, self.recipe, self.processes)

    def _write_report(self, state: TrainState) -> str:
        """Write report.html, about the evaluation pictures; return each label's recall on the measuring pictures."""
        dataset = self.dataset
        seen = self._answers(state, dataset.evaluation)
        title = f"{self.architecture.name} on {dataset.name}"
        write_report(self.out, title, self.history, dataset.labels, seen)
        split, key = dataset.evaluation_name, "eval_macro"
        if dataset.test is not None:
            seen, split, key = self._answers(state, dataset.test), "test", "test_macro"
        by_label = recalls(seen.targets, seen.predicted, dataset.labels)
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
        checkpoint.save(self._checkpoint(weights, resume, is_judged=state.step == 0), self.out / name)

    def _checkpoint(self, weights: dict[str, Tensor], resume: dict[str, Any], *, is_judged: bool = False) -> Checkpoint:
        """Return a checkpoint. `is_judged`: the weights are those of the last row, and not from within an epoch."""
        last = self.history[-1] if self.history and is_judged else {}
        metrics = {key: value for key, value in last.items() if key in ("epoch", "eval_top1", "eval_loss")}
        before = self._computed_in_before.split(", ")
        training = {
            **self.dataset.to_card(),
            "recipe": self.recipe.to_dict(),
            "computed_in": ", ".join([*(one for one in before if one not in ("", self.computed_in)), self.computed_in]),
            "metrics": {**metrics, **self.measured},
            "date": checkpoint.today(),
            "patience": self.patience,
            "minutes": self.minutes,
            "started_from": self._origin or None,
            "teacher": None if self.teacher is None else self.teacher.origin,
        }
        return Checkpoint(
            state_dict=weights,
            architecture=self.architecture,
            labels=list(self.dataset.labels),
            input=input_contract(self.dataset.size, self.recipe),
            training={name: value for name, value in training.items() if value is not None},
            producer=checkpoint.producer_versions(),
            source_sha256=self.dataset.sha256,
            resume=resume,
        )
