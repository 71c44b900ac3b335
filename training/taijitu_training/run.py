"""A whole training run: epochs, checkpoints, metrics, stopping and going on."""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from tqdm import tqdm

from taijitu_training import checkpoint
from taijitu_training.checkpoint import Checkpoint
from taijitu_training.data import Augmenter, Dataset, Pictures, input_contract
from taijitu_training.errors import CheckpointError, DataError, TrainingError
from taijitu_training.loop import Totals, TrainState, evaluate, start, train_one_epoch
from taijitu_training.models import create_model
from taijitu_training.recipe import Recipe


@dataclass
class Run:
    """One run in one folder: last.pt goes on, best.pt is the best epoch so far, final.pt the result of the last one."""

    architecture: dict[str, Any]
    recipe: Recipe
    dataset: Dataset
    out: Path
    device: torch.device
    history: list[dict[str, float]]

    def train(self, resume_from: Path | None = None) -> bool:
        """Train to the recipe's last epoch; False when a signal stopped it earlier (the state is then in last.pt)."""
        torch.manual_seed(self.recipe.seed)
        train = Pictures(self.dataset.train.images.to(self.device), self.dataset.train.targets.to(self.device))
        steps = len(train) // self.recipe.batch_size
        if steps == 0:
            raise DataError(
                f"got {len(train)} training pictures, expected at least {self.recipe.batch_size}, one batch"
            )
        model = create_model(self.architecture["name"], **self.architecture["options"])
        model = model.to(self.device).to(memory_format=torch.channels_last)
        state = start(model, self.recipe, steps)
        if resume_from is not None:
            self._resume(state, resume_from)
        augmenter = Augmenter(train, self.recipe)
        with StopRequest() as stop, self._bar(state, steps) as bar:
            while state.epoch < self.recipe.epochs:
                if train_one_epoch(state, augmenter, self.recipe, lambda _: self._after_step(state, bar, stop)):
                    self._finish_epoch(state)
                else:
                    self._save(state, "last.pt", resumable=True)
                if stop.asked:
                    break
        return state.epoch == self.recipe.epochs

    def _bar(self, state: TrainState, steps: int) -> tqdm[Any]:
        """Pictures over the whole run, so that the time left is the run's; nothing where stderr is no terminal."""
        done = (state.epoch * steps + state.step) * self.recipe.batch_size
        total = self.recipe.epochs * steps * self.recipe.batch_size
        return tqdm(total=total, initial=done, unit="pictures", unit_scale=True, disable=None, leave=False)

    def _after_step(self, state: TrainState, bar: tqdm[Any], stop: StopRequest) -> bool:
        bar.update(self.recipe.batch_size)
        if state.step % 10 == 0:
            bar.set_description_str(f"epoch {state.epoch + 1}/{self.recipe.epochs}", refresh=False)
            means = state.totals.metrics("train")
            lr = state.optimizer.param_groups[0]["lr"]
            bar.set_postfix_str(
                f"loss {means['train_loss']:.3f}, {means['train_top1']:.1f} %, lr {lr:.2e}", refresh=False
            )
        return stop.asked

    def _finish_epoch(self, state: TrainState) -> None:
        metrics = evaluate(state.result, self.dataset.evaluation, self.recipe)
        row = {
            "epoch": state.epoch,
            "lr": float(state.optimizer.param_groups[0]["lr"]),
            **state.totals.metrics("train"),
            **metrics,
            "pictures_per_s": state.totals.pictures / state.totals.seconds,
            "train_s": state.totals.seconds,
        }
        best = max((past["eval_top1"] for past in self.history), default=-1.0)
        self.history.append(row)
        state.totals = Totals()
        if row["eval_top1"] > best:
            self._save(state, "best.pt")
        if state.epoch == self.recipe.epochs:
            self._save(state, "final.pt")
        self._write_metrics()
        # Last: a run that dies before this line does the epoch again, and all of the above with it.
        self._save(state, "last.pt", resumable=True)
        tqdm.write(
            f"epoch {state.epoch:3d}/{self.recipe.epochs}"
            f"  train loss {row['train_loss']:.4f}, {row['train_top1']:.2f} %"
            f"  {self.dataset.evaluation_name} loss {row['eval_loss']:.4f}, {row['eval_top1']:.2f} %"
            f"  lr {row['lr']:.2e}  {row['pictures_per_s']:.0f} pictures/s"
        )
        sys.stdout.flush()

    def _write_metrics(self) -> None:
        """Rewrite metrics.jsonl whole, so that an epoch that is done again after a crash stands in it once."""
        temporary = self.out / ".metrics.jsonl.tmp"
        try:
            temporary.write_text("".join(json.dumps(row) + "\n" for row in self.history))
            temporary.replace(self.out / "metrics.jsonl")
        except OSError as error:
            raise TrainingError(
                f"{self.out}: metrics.jsonl could not be written ({error}); make room, then --resume"
            ) from None

    def _save(self, state: TrainState, name: str, resumable: bool = False) -> None:
        size = (int(self.dataset.train.images.shape[1]), int(self.dataset.train.images.shape[2]))
        weights = state.result.state_dict()
        written = Checkpoint(
            state_dict={key: value.detach().cpu().contiguous() for key, value in weights.items()},
            architecture=self.architecture,
            labels=list(self.dataset.labels),
            input=input_contract(size, min(size), self.recipe),
            training=self._training(),
            producer=checkpoint.producer_versions(),
            source_sha256=self.dataset.sha256,
            resume={"state": state.state_dict(), "history": self.history} if resumable else {},
        )
        try:
            checkpoint.save(written, self.out / name)
        except CheckpointError as error:
            raise TrainingError(f"{error}; make room, then --resume") from None

    def _training(self) -> dict[str, Any]:
        last = self.history[-1] if self.history else {}
        return {
            "data": self.dataset.name,
            "train_pictures": len(self.dataset.train),
            "evaluation": self.dataset.evaluation_name,
            "evaluation_pictures": len(self.dataset.evaluation),
            "recipe": asdict(self.recipe) | {"mean": list(self.recipe.mean), "std": list(self.recipe.std)},
            "metrics": {key: value for key, value in last.items() if key in ("epoch", "eval_top1", "eval_loss")},
            "date": datetime.now(timezone.utc).date().isoformat(),
        }

    def _resume(self, state: TrainState, path: Path) -> None:
        saved = checkpoint.load(path)
        if not saved.resume:
            raise CheckpointError(f"{path}: has no training state to go on from; give the run's last.pt")
        about_data = ("data", "train_pictures", "evaluation", "evaluation_pictures")
        now = self._training()
        mine: dict[str, Any] = {"architecture": self.architecture, "labels": list(self.dataset.labels)}
        mine |= {key: now[key] for key in about_data} | {"data's sha256": self.dataset.sha256} | now["recipe"]
        theirs: dict[str, Any] = {"architecture": saved.architecture, "labels": saved.labels}
        theirs |= {key: saved.training.get(key) for key in about_data} | {"data's sha256": saved.source_sha256}
        theirs |= saved.training.get("recipe", {})
        if differing := [key for key in mine if mine[key] != theirs.get(key)]:
            key = differing[0]
            raise CheckpointError(
                f"{path}: {key} was {theirs.get(key)!r}, now it is {mine[key]!r}; resume with what it was started with"
            )
        try:
            state.load_state_dict(saved.resume["state"])
            self.history = saved.resume["history"]
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise CheckpointError(f"{path}: its training state is damaged ({error!r}); start a new run") from None


class StopRequest:
    """Turns the first Ctrl-C or SIGTERM into a request to stop after the current step; a second one stops at once."""

    def __init__(self) -> None:
        self.asked = False

    def __enter__(self) -> StopRequest:
        self._before = {s: signal.signal(s, self._ask) for s in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        # Not print: the bar may be in the middle of a write to the same stream.
        os.write(2, b"\nstopping after this step; once more to stop at once\n")
