"""Measure images per second in training three networks: taijitu's loop and the usual one, alternately, in one run.

The usual loop: a DataLoader with worker processes, Pillow decoding and torchvision transforms per image, NCHW
float32. Ours: decoded once, augmented a batch at a time, channels_last, bfloat16 where the processor computes in it,
freed memory kept; on a CPU once in one process with a thread for each core, and once, as torchrun starts it, in a
process for each core, which divide every batch. Each loop has processes of its own, since memory is managed for a
whole process.

    python benchmarks/training_speed.py [--network yynet_small_16] [--steps 20] [--rounds 5] [--device cuda]
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
import socket
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime, timezone

import torch
import torch.distributed as dist
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from taijitu_runtime.machine import usable_cores
from taijitu_training.data import MemoryBatches, Pictures, Share
from taijitu_training.devices import choose_device, describe_machine, prepare_device
from taijitu_training.distributed import ALONE, Processes
from taijitu_training.loop.epoch import FLUSH_STEPS, train_one_epoch
from taijitu_training.loop.mixed_precision import mixed_dtype
from taijitu_training.loop.state import Totals, TrainState, runner_of, start
from taijitu_training.models import create_model
from taijitu_training.recipes.named import RECIPES
from taijitu_training.recipes.recipe import Recipe

PICTURES = 6400


@dataclass(frozen=True)
class Network:
    """A network for 32x32 images and the recipe that trains it."""

    recipe: Recipe
    options: Mapping[str, str]


NETWORKS = {
    "yynet_small_16": Network(RECIPES["yynet_cifar10"], {"preset": "public_code"}),
    "vgnetg_1_0mp": Network(RECIPES["vgnet_cifar"], {"stem": "thumbnail"}),
    "vgnetf1_1_5mp": Network(RECIPES["vgnet_cifar"], {"stem": "thumbnail"}),
}


def created(name: str) -> nn.Module:
    """Create the network called `name`, for ten labels."""
    return create_model(name, num_classes=10, **NETWORKS[name].options)


class Jpegs(Dataset[tuple[Tensor, int]]):
    """CIFAR-sized JPEGs in memory, decoded and transformed one by one, as in the usual image folder."""

    def __init__(self, files: list[bytes], recipe: Recipe) -> None:
        self.files = files
        jitter = [v2.ColorJitter(brightness=recipe.brightness)] if recipe.brightness else []
        self.transform = v2.Compose(
            [
                *jitter,
                v2.RandomCrop(32, padding=recipe.pad, padding_mode="reflect"),
                v2.RandomHorizontalFlip(recipe.flip),
                v2.PILToTensor(),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(recipe.mean, recipe.std),
            ]
        )

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.open(io.BytesIO(self.files[index])).convert("RGB")), index % 10


def pictures() -> Tensor:
    """Draw random shapes with grain, uint8 (PICTURES, 32, 32, 3)."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(PICTURES, 3, 4, 4, generator=generator)
    smooth = nn.functional.interpolate(coarse, 32, mode="bilinear")
    noisy = smooth + 0.05 * torch.randn(smooth.shape, generator=generator)
    return (noisy * 255).clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def as_jpegs(images: Tensor) -> list[bytes]:
    """Encode each picture as a JPEG of quality 75."""
    files = []
    for image in images.numpy():
        out = io.BytesIO()
        Image.fromarray(image).save(out, "JPEG", quality=75)
        files.append(out.getvalue())
    return files


def usual(name: str, images: Tensor, steps: int, device: torch.device) -> Callable[[], float]:
    """Return a function that trains `steps` steps in the usual way and returns images/s."""
    recipe = NETWORKS[name].recipe
    files = Jpegs(as_jpegs(images), recipe)
    loader = DataLoader(files, recipe.batch_size, shuffle=True, drop_last=True, num_workers=2, persistent_workers=True)

    def forever() -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            yield from loader

    batches = forever()
    state = start(created(name).to(device), recipe, 1000)
    state.model.train()

    def run() -> float:
        began = time.perf_counter()
        for _ in range(steps):
            batch, targets = (tensor.to(device, non_blocking=True) for tensor in next(batches))
            loss = nn.functional.cross_entropy(state.model(batch), targets, label_smoothing=recipe.label_smoothing)
            state.optimizer.zero_grad()
            loss.backward()
            if recipe.clip_norm:
                nn.utils.clip_grad_norm_(state.model.parameters(), recipe.clip_norm)
            state.optimizer.step()
            state.scheduler.step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        return steps * recipe.batch_size / (time.perf_counter() - began)

    return run


def ours(
    name: str, images: Tensor, steps: int, device: torch.device, together: Processes = ALONE
) -> Callable[[], float]:
    """Return a function that trains `steps` steps with our loop and returns the images/s of all processes."""
    recipe = replace(NETWORKS[name].recipe, epochs=1000)
    prepare_device(device)
    torch.manual_seed(recipe.seed)
    model = created(name).to(device).to(memory_format=torch.channels_last)
    share = Share(together.rank, together.count)
    source = MemoryBatches(Pictures(images, torch.arange(PICTURES) % 10), recipe, device, share)
    runner = runner_of(model, together, compiled=False, parts=1)
    state: TrainState = start(model, recipe, source.cut.steps, runner=runner)

    flush = FLUSH_STEPS[device.type]

    def run() -> float:
        taken = 0

        def enough(totals: Totals) -> bool:
            nonlocal taken
            taken += flush
            return taken >= steps

        began = time.perf_counter()
        while taken < steps:
            train_one_epoch(state, source, recipe, together, after_steps=enough)
        return taken * recipe.batch_size / (time.perf_counter() - began)

    return run


LOOPS = ("usual", "ours", "ours, a process a core")

_runs: list[Callable[[], float]] = []  # of a loop's own process


def _set_up(loop: str, name: str, steps: int, device: torch.device, rank: int, count: int, port: int) -> None:
    if loop == "usual":
        _runs.append(usual(name, pictures(), steps, device))
        return
    if count > 1:
        torch.set_num_threads(1)
        dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=count)
    _runs.append(ours(name, pictures(), steps, device, Processes(rank, count)))


def _run() -> float:
    return _runs[0]()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def measure(name: str, steps: int, rounds: int, device: torch.device) -> None:
    """Print the medians over the rounds, and their ratios to the usual loop, for one network."""
    counts = dict(zip(LOOPS, (1, 1, usable_cores())))
    if device.type != "cpu" or counts[LOOPS[-1]] == 1:
        del counts[LOOPS[-1]]
    with ExitStack() as held:

        def started(loop: str) -> list[ProcessPoolExecutor]:
            arguments, port = (loop, name, steps, device), _free_port()
            spawn = multiprocessing.get_context("spawn")
            return [
                held.enter_context(ProcessPoolExecutor(1, spawn, _set_up, (*arguments, rank, counts[loop], port)))
                for rank in range(counts[loop])
            ]

        def speed(processes: list[ProcessPoolExecutor]) -> float:
            return min(future.result() for future in [process.submit(_run) for process in processes])

        loops = {loop: started(loop) for loop in counts}
        for processes in loops.values():
            speed(processes)
        speeds: dict[str, list[float]] = {loop: [] for loop in loops}
        for _ in range(rounds):
            for loop, processes in loops.items():
                speeds[loop].append(speed(processes))
    medians = {loop: statistics.median(values) for loop, values in speeds.items()}
    print(f"{name}, batch {NETWORKS[name].recipe.batch_size}")
    for loop, value in medians.items():
        spread = f"(rounds {min(speeds[loop]):.0f} to {max(speeds[loop]):.0f})"
        print(f"  {loop:22} {value:7.0f} images/s  {spread:20} ratio {value / medians['usual']:.2f}", flush=True)


def main() -> int:
    """Measure every network asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--network", action="append", choices=NETWORKS, help="measure this one; may be repeated (default: all)"
    )
    parser.add_argument("--steps", type=int, default=20, help="steps a round and loop (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds (default: %(default)s)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, ... (default: %(default)s)")
    args = parser.parse_args()
    device = choose_device(args.device)
    print(
        f"{datetime.now(timezone.utc).date()}, {describe_machine(device)}, "
        f"{args.rounds} rounds of {args.steps} steps each, ours in {mixed_dtype(device.type)}"
    )
    for name in args.network or NETWORKS:
        measure(name, args.steps, args.rounds, device)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
