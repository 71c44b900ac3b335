"""The state of a run, all that changes during it, and its start."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from taijitu_training.distributed import Processes
from taijitu_training.loop.distillation import Teacher
from taijitu_training.loop.loss import balanced_weights
from taijitu_training.loop.mixed_precision import computed_in
from taijitu_training.loop.optimization import create_optimizer, create_scheduler, set_weight_decay
from taijitu_training.recipes.recipe import Recipe


@dataclass
class Totals:
    """Sums over the pictures of an epoch so far, of all processes; `labelled`: those that show one of the labels."""

    loss: float = 0.0
    correct: int = 0
    labelled: int = 0
    pictures: int = 0
    seconds: float = 0.0

    def metrics(self, prefix: str) -> dict[str, float]:
        """Return mean loss (nats) and top-1 (percent of those labelled), with `prefix` before the names."""
        return {
            f"{prefix}_loss": self.loss / self.pictures,
            f"{prefix}_top1": 100.0 * self.correct / max(1, self.labelled),
        }


@dataclass
class TrainState:
    """All that changes during a run; `state_dict` and `load_state_dict` continue a stopped run to the same numbers.

    `epoch` counts finished epochs, `step` finished steps of the current one. Random numbers are not part of it: each
    step's come from the seed, the epoch and the step.
    """

    model: nn.Module
    runner: Any  # the module called in training: the model, compiled, distributed, or unchanged
    average: nn.Module | None
    optimizer: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LRScheduler
    scaler: torch.amp.GradScaler
    teacher: Teacher | None = None
    class_weights: Tensor | None = None  # float32 (K,), factors of each label's loss
    with_others: bool = False  # whether some pictures show none of the labels
    epoch: int = 0
    step: int = 0
    totals: Totals = field(default_factory=Totals)

    @property
    def result(self) -> nn.Module:
        """The network to judge: the average if the recipe keeps one."""
        return self.model if self.average is None else self.average

    def state_dict(self) -> dict[str, Any]:
        """Return plain types and tensors, for a checkpoint's `resume`."""
        return {
            "model": self.model.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "scaler": self.scaler.state_dict(),
            "epoch": self.epoch,
            "step": self.step,
            "totals": vars(self.totals).copy(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state from `state_dict`."""
        self.model.load_state_dict(state["model"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        if state["scaler"]:  # empty if the processor does not need one
            self.scaler.load_state_dict(state["scaler"])
        self.epoch, self.step = state["epoch"], state["step"]
        self.totals = Totals(**state["totals"])


def runner_of(model: nn.Module, processes: Processes, *, compiled: bool, parts: int) -> Any:
    """Return what is called in training: `model` on its device, compiled if asked, in step with the other processes.

    `parts`: how many a step is computed in, one after the other.
    """
    device = next(model.parameters()).device
    runner: Any = model
    if compiled:
        # On a GPU with CUDA graphs: small networks wait for kernel launches more than for kernels. But a graph's next
        # replay overwrites the gradients of the last one, which several parts have to add up.
        with_graphs = device.type == "cuda" and parts == 1
        runner = torch.compile(model, mode="reduce-overhead" if with_graphs else "default")
    return _shared(runner, device) if processes.count > 1 else runner


def start(
    model: nn.Module,
    recipe: Recipe,
    steps_per_epoch: int,
    *,
    runner: Any = None,
    teacher: Teacher | None = None,
    label_counts: Sequence[int] = (),
    head: Collection[str] = (),
    with_others: bool = False,
) -> TrainState:
    """Start a run of `recipe` on `model`, which is on its device.

    `runner`: as `runner_of` returns it, None for `model` itself. `label_counts`: the pictures of each label, which
    balanced class weights need. `head`: the parameters of the classification layer. `with_others`: some pictures show
    none of the labels.
    """
    optimizer = create_optimizer(model, recipe, head)
    scheduler = create_scheduler(optimizer, recipe, steps_per_epoch)
    set_weight_decay(optimizer, recipe, first=True)
    device = next(model.parameters()).device
    scaled = computed_in(device.type, recipe) == torch.float16
    return TrainState(
        model=model,
        runner=model if runner is None else runner,
        average=copy.deepcopy(model) if recipe.ema else None,
        optimizer=optimizer,
        scheduler=scheduler,
        scaler=torch.amp.GradScaler(device.type, enabled=scaled),
        teacher=None if teacher is None else teacher.to(device),
        class_weights=balanced_weights(label_counts).to(device) if recipe.class_weights == "balanced" else None,
        with_others=with_others,
    )


def _shared(model: Any, device: torch.device) -> DistributedDataParallel:
    # Depthwise weights (C, 1, K, K) have two strides for one layout; copying one of VGNet's costs nothing.
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides", UserWarning)
    with warnings.catch_warnings():
        # Renamed in torch 2.13; older ones know only this name.
        warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
        # Running statistics are averaged by _gradients; here rank 0's would overwrite the others' at every step.
        return DistributedDataParallel(
            model,
            [device] if device.type == "cuda" else None,
            broadcast_buffers=False,
            find_unused_parameters=getattr(model, "unused_parameters", False),
        )
