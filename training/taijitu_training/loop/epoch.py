"""Run one epoch of training: plain functions with explicit arguments."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from taijitu_training.data import Batches
from taijitu_training.data.share import Step, combine_seeds
from taijitu_training.distributed import ALONE, Processes
from taijitu_training.errors import TrainingError
from taijitu_training.loop.loss import MixedTargets, mean_loss
from taijitu_training.loop.mixed_precision import autocast
from taijitu_training.loop.mixing import draw_mix, mixed
from taijitu_training.loop.optimization import freeze, set_mode, set_weight_decay
from taijitu_training.loop.state import Totals, TrainState
from taijitu_training.recipes.recipe import Recipe

FLUSH_STEPS = {"cpu": 1, "cuda": 50}  # a GPU would wait for the host at every number that is read from it


def train_one_epoch(
    state: TrainState,
    batches: Batches,
    recipe: Recipe,
    processes: Processes = ALONE,
    after_steps: Callable[[Totals], bool] = lambda totals: False,
) -> bool:
    """Finish the current epoch from `state.step` on; return True when done, False when `after_steps` asked to stop.

    `after_steps` is called with the epoch's totals so far, after every step on a CPU and every 50 on a GPU; one
    process's request to stop holds for all. TrainingError where the loss becomes NaN or infinite.
    """
    flush_steps = FLUSH_STEPS[next(state.model.parameters()).device.type]
    steps = batches.cut.steps
    set_mode(state.model, recipe, state.epoch)
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
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training
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
                with autocast(images.device.type, recipe):
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
    if state.epoch * steps + state.step + 1 < recipe.epochs * steps:  # one_cycle rises again beyond its end
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
    # Each once: state_dict has a tensor that several modules share under each of their names.
    mine, theirs = (dict.fromkeys(net.state_dict(keep_vars=True).values()) for net in (state.average, state.model))
    pairs = list(zip(mine, theirs, strict=True))
    floats = [pair for pair in pairs if pair[0].is_floating_point()]
    torch._foreach_lerp_([own for own, _ in floats], [new for _, new in floats], 1.0 - decay)
    for own, new in pairs:
        if not own.is_floating_point():
            own.copy_(new)
