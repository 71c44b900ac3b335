"""What a run says during its epochs: in the bar, in a line after each, and when it becomes slow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from taijitu_runtime.console import Progress, shown
from taijitu_training.loop.state import TrainState
from taijitu_training.run.metrics import Row

SLOW_SHARE = 0.5
"""Share of the first epoch's pictures/s below which a run warns."""


def show_step(bar: Progress, state: TrainState, epochs: int, pictures: int) -> None:
    """Show images over the whole run, so that the time left is the run's; `pictures`: per epoch."""
    means = state.totals.metrics("train")
    bar.show(
        state.epoch * pictures + state.totals.pictures,
        epochs * pictures,
        f"epoch {state.epoch + 1}/{epochs}",
        f"loss {means['train_loss']:.3f}, {means['train_top1']:.1f} %, lr {state.optimizer.param_groups[0]['lr']:.2e}",
    )


def epoch_in_words(row: Row, epochs: int, evaluated_on: str) -> str:
    """Return a finished epoch's line for a terminal."""
    return (
        f"epoch {row['epoch']:3.0f}/{epochs}"
        f"  train loss {row['train_loss']:.4f}, {row['train_top1']:.2f} %"
        f"  {evaluated_on} loss {row['eval_loss']:.4f}, {row['eval_top1']:.2f} %"
        f"  lr {row['lr']:.2e}  {row['pictures_per_s']:.0f} pictures/s"
    )


def slowness_in_words(history: Sequence[Row]) -> str:
    """Return a warning if the last epoch was much slower than the first one, otherwise nothing."""
    now, first = history[-1]["pictures_per_s"], history[0]["pictures_per_s"]
    if now >= SLOW_SHARE * first:
        return ""
    return (
        f"warning: {now:.0f} pictures/s, {first:.0f} in the first epoch; unless that was on another machine, other "
        "programs use the cores, and threads that wait for each other lose most: start runs with OMP_NUM_THREADS=1 "
        "(docs/training.md)"
    )


def other_parts_in_words(path: Path, then: int, now: int, processes: int) -> str:
    """Return a warning about a run to resume that divided its batches into another number of parts before."""
    parts = then // processes if then % processes == 0 else 0
    give = f"add --accumulate {parts}" if parts else f"resume it with {then} processes, or one and --accumulate {then}"
    return (
        f"warning: {shown(path)}: parts of a batch (processes x --accumulate) were {then}, now they are {now}, so that "
        f"the result is not that of a run without a break; {give} for that"
    )


def other_type_in_words(path: Path, then: str, now: str) -> str:
    """Return a warning about a run to resume that computed in another type before."""
    return (
        f"warning: {shown(path)}: the run computed in {shown(then)}, and computes in {now} here, so that its result "
        "is not that of a run without a break; resume it on a machine like the first one for that"
    )
