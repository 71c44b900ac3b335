"""Run one epoch of training, one evaluation: plain functions with explicit arguments."""

from __future__ import annotations

import copy
import math
import time
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from taijitu_training.data import Batches, normalise
from taijitu_training.data.share import Step, combine_seeds
from taijitu_training.distributed import ALONE, Processes
from taijitu_training.errors import TrainingError
from taijitu_training.loop.distillation import Teacher
from taijitu_training.loop.loss import MixedTargets, balanced_weights, mean_loss
from taijitu_training.loop.mixing import draw_mix, mixed
from taijitu_training.loop.optimization import create_optimizer, create_scheduler, freeze, set_weight_decay
from taijitu_training.recipes.recipe import Recipe

FLUSH_STEPS = {"cpu": 1, "cuda": 50}  # a GPU would wait for the host at every number that is read from it


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


def start(
    model: nn.Module,
    recipe: Recipe,
    steps_per_epoch: int,
    processes: Processes = ALONE,
    compiled: bool = False,
    parts: int = 1,
    teacher: Teacher | None = None,
    label_counts: Sequence[int] = (),
    head: Collection[str] = (),
    with_others: bool = False,
) -> TrainState:
    """Start a run of `recipe` on `model` (already on its device), which is trained through torch.compile if `compiled`.

    `parts`: how many a step is computed in, one after the other. `label_counts`: the pictures of each label, which
    balanced class weights need. `head`: the parameters of the classification layer. `with_others`: some pictures show
    none of the labels.
    """
    optimizer = create_optimizer(model, recipe, head)
    scheduler = create_scheduler(optimizer, recipe, steps_per_epoch)
    set_weight_decay(optimizer, recipe, first=True)
    device = next(model.parameters()).device
    scaled = recipe.mixed_precision and mixed_dtype(device.type) == torch.float16
    runner: Any = model
    if compiled:
        # On a GPU with CUDA graphs: small networks wait for kernel launches more than for kernels. But a graph's next
        # replay overwrites the gradients of the last one, which several parts have to add up.
        with_graphs = device.type == "cuda" and parts == 1
        runner = torch.compile(model, mode="reduce-overhead" if with_graphs else "default")
    if processes.count > 1:
        runner = _shared(runner, device)
    return TrainState(
        model,
        runner,
        copy.deepcopy(model) if recipe.ema else None,
        optimizer,
        scheduler,
        torch.amp.GradScaler(device.type, enabled=scaled),
        None if teacher is None else teacher.to(device),
        balanced_weights(label_counts).to(device) if recipe.class_weights == "balanced" else None,
        with_others,
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


def mixed_dtype(device: str) -> torch.dtype:
    """Return the 16-bit type in which `device` computes fast; float32 on a CPU without one."""
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
    batches: Batches,
    recipe: Recipe,
    processes: Processes = ALONE,
    after_steps: Callable[[Totals], bool] = lambda totals: False,
) -> bool:
    """Finish the current epoch from `state.step` on; return True when done, False when `after_steps` asked to stop.

    `after_steps` is called with the epoch's totals so far, after every step on a CPU and every 50 on a GPU; one
    process's request to stop holds for all.
    """
    flush_steps = FLUSH_STEPS[next(state.model.parameters()).device.type]
    steps = batches.cut.steps
    state.model.train()
    began = time.perf_counter()
    waiting: list[Tensor] = []
    for step in batches.epoch(state.epoch, state.step):
        waiting.append(_gradients(state, step, recipe, processes, batches.cut.size(state.step)))
        _update(state, recipe, steps)
        if state.step % flush_steps and state.step < steps:
            continue
        _count(state, torch.stack(waiting), recipe, processes)
        state.totals.pictures += sum(map(batches.cut.size, range(state.step - len(waiting), state.step)))
        waiting.clear()
        state.totals.seconds += time.perf_counter() - began
        if processes.any(after_steps(state.totals), step[0][0].device) and state.step < steps:
            return False
        began = time.perf_counter()
    set_weight_decay(state.optimizer, recipe)
    state.epoch, state.step = state.epoch + 1, 0
    return True


def _gradients(state: TrainState, step: Step, recipe: Recipe, processes: Processes, size: int) -> Tensor:
    """Compute gradients of the mean loss over a whole batch of `size` pictures; `step` is this process's parts of it.

    Return float32 (3,): in these parts, the sum of the losses, and the numbers of right answers and labelled pictures.
    """
    state.optimizer.zero_grad()
    statistics = [
        buffer
        for module in state.model.modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm)
        for buffer in (module.running_mean, module.running_var)
        if buffer is not None
    ]
    counted = torch.zeros(3, device=step[0][0].device)
    mix = draw_mix(recipe, recipe.seed, state.epoch, state.step)
    with _averaged_over_parts(statistics, len(step)) as after_part:
        for i, (pictures, targets) in enumerate(step):
            images, mixed_targets = (pictures, MixedTargets(targets)) if mix is None else mixed(pictures, targets, mix)
            torch.manual_seed(combine_seeds(recipe.seed, state.epoch, state.step, processes.rank * len(step) + i))
            last = i == len(step) - 1
            shared = isinstance(state.runner, DistributedDataParallel)
            with state.runner.no_sync() if shared and not last else nullcontext():
                with _autocast(images.device.type, recipe):
                    logits = state.runner(images)
                    taught = None if state.teacher is None else state.teacher.logits(images)
                loss = mean_loss(
                    logits.float(), mixed_targets, taught, recipe, state.class_weights, with_others=state.with_others
                )
                # Processes are averaged, so each is weighted by their number.
                weight = len(targets) * processes.count / size
                state.scaler.scale(loss * weight).backward()
            right, labelled = mixed_targets.right(logits), mixed_targets.labelled(logits)
            counted += torch.stack((loss.detach() * len(targets), right, labelled))
            after_part()
    processes.mean_(statistics)
    return counted


@contextmanager
def _averaged_over_parts(statistics: list[Tensor], parts: int) -> Iterator[Callable[[], None]]:
    """Set batch norm's running statistics after a step to the mean of those that each part alone would give.

    So they are the same whether parts are computed one after the other or in several processes.
    """
    if parts == 1 or not statistics:
        yield lambda: None
        return
    before = [buffer.clone() for buffer in statistics]
    total = [torch.zeros_like(buffer) for buffer in statistics]

    def after_part() -> None:
        torch._foreach_add_(total, statistics)
        torch._foreach_copy_(statistics, before)

    yield after_part
    torch._foreach_div_(total, parts)
    torch._foreach_copy_(statistics, total)


def _update(state: TrainState, recipe: Recipe, steps: int) -> None:
    """Make one step along the gradients of `_gradients`."""
    freeze(state.optimizer, recipe, state.epoch)
    state.scaler.unscale_(state.optimizer)
    if recipe.clip_norm:
        nn.utils.clip_grad_norm_(state.model.parameters(), recipe.clip_norm)
    state.scaler.step(state.optimizer)
    state.scaler.update()
    state.scheduler.step()
    state.step += 1
    _update_average(state, recipe, steps)


def check_finite(state: TrainState, recipe: Recipe, processes: Processes, *numbers: float) -> None:
    """Raise TrainingError, in every process, if a weight, or one of `numbers`, is NaN or infinite: not to be saved."""
    bad = [
        name
        for network in {state.model, state.result}
        for name, tensor in network.state_dict().items()
        if tensor.is_floating_point() and not tensor.isfinite().all()
    ]
    if bad or not all(map(math.isfinite, numbers)):
        what = f"weights in {bad[0]}" if bad else "the loss on the evaluation pictures"
        processes.fail(diverged(f"{what} became NaN or infinite by epoch {state.epoch + (state.step > 0)}", recipe))


def diverged(what: str, recipe: Recipe) -> TrainingError:
    """Return the error about a run that cannot recover, with what to try."""
    return TrainingError(
        f"{what}; earlier checkpoints are kept: "
        f"start again in another --out with a smaller learning rate, such as --set lr={recipe.lr / 4:g}"
    )


def _count(state: TrainState, counted: Tensor, recipe: Recipe, processes: Processes) -> None:
    """Add `counted`, (S, 3) of this process's last steps, to the totals. TrainingError for a loss of NaN or inf."""
    rows = processes.sum_(counted).tolist()
    for i, (loss, correct, labelled) in enumerate(rows):
        if not math.isfinite(loss):
            bad = state.step - len(rows) + i + 1
            processes.fail(diverged(f"the loss became {loss} in epoch {state.epoch + 1}, step {bad}", recipe))
        state.totals.loss += loss
        state.totals.correct += int(correct)
        state.totals.labelled += int(labelled)


@torch.no_grad()
def _update_average(state: TrainState, recipe: Recipe, steps: int) -> None:
    """Set average = ema_decay * average + (1 - ema_decay) * weights from `ema_start` on, and to the weights before."""
    if state.average is None:
        return
    done = (state.epoch * steps + state.step) / (recipe.epochs * steps)
    decay = recipe.ema_decay if done > recipe.ema_start else 0.0
    pairs = list(zip(state.average.state_dict().values(), state.model.state_dict().values(), strict=True))
    floats = [pair for pair in pairs if pair[0].is_floating_point()]
    torch._foreach_lerp_([mine for mine, _ in floats], [theirs for _, theirs in floats], 1.0 - decay)
    for mine, theirs in pairs:
        if not mine.is_floating_point():
            mine.copy_(theirs)


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    batches: Iterator[tuple[Tensor, Tensor]],
    recipe: Recipe,
    processes: Processes = ALONE,
    see: Callable[[Tensor, Tensor, Tensor], None] = lambda images, targets, logits: None,
) -> dict[str, float]:
    """Compute mean loss (nats) and top-1 (percent) in float32: {"eval_loss", "eval_top1"}.

    `batches` are this process's pictures, uint8 (B, H, W, 3), and targets, int64 (B,); the result is that of all
    processes. `see` gets each batch with its logits, float32 (B, K).
    """
    model.eval()
    totals = torch.zeros(3, dtype=torch.float64, device=next(model.parameters()).device)
    for images, targets in batches:
        logits = model(normalise(images, recipe))
        loss = F.cross_entropy(logits, targets, reduction="sum")
        right = (logits.argmax(1) == targets).sum()
        totals += torch.stack((loss.double(), right.double(), torch.tensor(float(len(targets)), device=loss.device)))
        see(images, targets, logits)
    loss_sum, correct, pictures = processes.sum_(totals).tolist()
    return Totals(loss_sum, int(correct), int(pictures), int(pictures)).metrics("eval")
