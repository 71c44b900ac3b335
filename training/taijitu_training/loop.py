"""One epoch of training, one evaluation: plain functions with explicit arguments."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from taijitu_training.data import Augmenter, Pictures, normalise
from taijitu_training.errors import TrainingError
from taijitu_training.recipe import Recipe


@dataclass
class Totals:
    """Sums over the pictures of an epoch so far."""

    loss: float = 0.0
    correct: int = 0
    pictures: int = 0
    seconds: float = 0.0

    def metrics(self, prefix: str) -> dict[str, float]:
        """Mean loss (nats) and top-1 (percent), with `prefix` before the names."""
        return {
            f"{prefix}_loss": self.loss / self.pictures,
            f"{prefix}_top1": 100.0 * self.correct / self.pictures,
        }


@dataclass
class TrainState:
    """All that changes during a run; `state_dict` and `load_state_dict` carry a run across a stop to the same numbers.

    `epoch` counts finished epochs, `step` finished steps of the current one; `generator` draws order and augmentation.
    """

    model: nn.Module
    average: nn.Module | None
    optimizer: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.OneCycleLR
    scaler: torch.amp.GradScaler
    generator: torch.Generator
    epoch: int = 0
    step: int = 0
    totals: Totals = field(default_factory=Totals)

    @property
    def result(self) -> nn.Module:
        """What the run is judged by: the average where the recipe keeps one, else the network."""
        return self.model if self.average is None else self.average

    def state_dict(self) -> dict[str, Any]:
        """Plain types and tensors, for a checkpoint's `resume`."""
        return {
            "model": self.model.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "scaler": self.scaler.state_dict(),
            "generator": self.generator.get_state(),
            "torch_rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            "epoch": self.epoch,
            "step": self.step,
            "totals": vars(self.totals).copy(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The reverse of `state_dict`."""
        self.model.load_state_dict(state["model"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.scaler.load_state_dict(state["scaler"])
        self.generator.set_state(state["generator"])
        torch.set_rng_state(state["torch_rng"])
        if len(state["cuda_rng"]) == torch.cuda.device_count() > 0:
            torch.cuda.set_rng_state_all(state["cuda_rng"])
        self.epoch, self.step = state["epoch"], state["step"]
        self.totals = Totals(**state["totals"])


def start(model: nn.Module, recipe: Recipe, steps_per_epoch: int) -> TrainState:
    """A fresh run of `recipe` on `model` (already on its device)."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.max_lr, amsgrad=recipe.amsgrad, fused=True)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=recipe.max_lr, epochs=recipe.epochs, steps_per_epoch=steps_per_epoch
    )
    set_weight_decay(optimizer, recipe)
    device = next(model.parameters()).device.type
    scaled = recipe.mixed_precision and mixed_dtype(device) == torch.float16
    return TrainState(
        model,
        copy.deepcopy(model) if recipe.ema else None,
        optimizer,
        scheduler,
        torch.amp.GradScaler(device, enabled=scaled),
        torch.Generator().manual_seed(recipe.seed),
    )


def set_weight_decay(optimizer: torch.optim.Optimizer, recipe: Recipe) -> None:
    """Decay of every group = weight_decay_per_lr times its present learning rate (YYNet Table II)."""
    for group in optimizer.param_groups:
        group["weight_decay"] = recipe.weight_decay_per_lr * float(group["lr"])


def mixed_dtype(device: str) -> torch.dtype:
    """The 16-bit type that `device` computes in at speed; float32 on a CPU without one."""
    if device == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if native else torch.float32


def _autocast(device: str, recipe: Recipe) -> AbstractContextManager[Any]:
    dtype = mixed_dtype(device)
    if not recipe.mixed_precision or dtype == torch.float32:
        return nullcontext()
    return torch.autocast(device, dtype)


def train_one_epoch(
    state: TrainState,
    augmenter: Augmenter,
    recipe: Recipe,
    after_step: Callable[[Totals], bool] = lambda totals: False,
) -> bool:
    """Finish the current epoch from `state.step` on; True when done, False when `after_step` asked to stop.

    `after_step` is called after every step with the epoch's totals so far.
    """
    device = augmenter.padded.device
    steps = len(augmenter.targets) // recipe.batch_size
    order = torch.randperm(
        len(augmenter.targets), generator=torch.Generator().manual_seed(recipe.seed * 1_000_003 + state.epoch)
    ).to(device)
    state.model.train()
    while state.step < steps:
        began = time.perf_counter()
        index = order[state.step * recipe.batch_size : (state.step + 1) * recipe.batch_size]
        images, targets = augmenter.batch(index, state.generator)
        loss, logits = _step(state, images, targets, recipe)
        state.step += 1
        _update_average(state, recipe, steps)
        state.totals.loss += loss * len(index)
        state.totals.correct += int((logits.argmax(1) == targets).sum())
        state.totals.pictures += len(index)
        state.totals.seconds += time.perf_counter() - began
        if after_step(state.totals) and state.step < steps:
            return False
    set_weight_decay(state.optimizer, recipe)
    state.epoch, state.step = state.epoch + 1, 0
    return True


def _step(state: TrainState, images: Tensor, targets: Tensor, recipe: Recipe) -> tuple[float, Tensor]:
    with _autocast(images.device.type, recipe):
        logits = state.model(images)
        loss = F.cross_entropy(logits.float(), targets, label_smoothing=recipe.label_smoothing)
    value = float(loss.detach())
    if not math.isfinite(value):
        raise TrainingError(
            f"the loss became {value} in epoch {state.epoch + 1}, step {state.step + 1}; "
            "earlier checkpoints are kept: start anew in another --out with a smaller --set max_lr=..."
        )
    state.optimizer.zero_grad()
    state.scaler.scale(loss).backward()
    state.scaler.unscale_(state.optimizer)
    nn.utils.clip_grad_norm_(state.model.parameters(), recipe.clip_norm)
    state.scaler.step(state.optimizer)
    state.scaler.update()
    state.scheduler.step()
    return value, logits


@torch.no_grad()
def _update_average(state: TrainState, recipe: Recipe, steps: int) -> None:
    """average = ema_keep * average + (1 - ema_keep) * weights from `ema_start` on, the weights themselves before."""
    if state.average is None:
        return
    done = (state.epoch * steps + state.step) / (recipe.epochs * steps)
    keep = recipe.ema_keep if done > recipe.ema_start else 0.0
    for mine, theirs in zip(state.average.state_dict().values(), state.model.state_dict().values(), strict=True):
        if mine.is_floating_point():
            mine.lerp_(theirs, 1.0 - keep)
        else:
            mine.copy_(theirs)


@torch.inference_mode()
def evaluate(model: nn.Module, pictures: Pictures, recipe: Recipe, batch_size: int = 250) -> dict[str, float]:
    """Mean loss (nats) and top-1 (percent) in float32 over all of `pictures`: {"eval_loss", "eval_top1"}."""
    model.eval()
    totals = Totals()
    device = next(model.parameters()).device
    for images, targets in zip(pictures.images.split(batch_size), pictures.targets.split(batch_size), strict=True):
        images, targets = images.to(device), targets.to(device)
        logits = model(normalise(images, recipe))
        totals.loss += float(F.cross_entropy(logits, targets, reduction="sum"))
        totals.correct += int((logits.argmax(1) == targets).sum())
        totals.pictures += len(targets)
    return totals.metrics("eval")
