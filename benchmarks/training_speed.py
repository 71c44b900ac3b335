"""Pictures per second of training YYNet Small 16: this project's loop against the usual one, in turns, in one run.

The usual loop: a DataLoader with worker processes, Pillow decoding and torchvision transforms per picture, NCHW
float32. Ours: decoded once, augmented a batch at a time, channels_last, bfloat16 where the processor computes in it.

    python benchmarks/training_speed.py [--steps 20] [--rounds 5] [--device cuda]
"""

from __future__ import annotations

import argparse
import io
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timezone

import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from taijitu_training.data import MemoryBatches, Pictures, Share
from taijitu_training.devices import choose_device, describe_machine
from taijitu_training.loop import FLUSH_STEPS, Totals, TrainState, mixed_dtype, start, train_one_epoch
from taijitu_training.models import create_model
from taijitu_training.recipes import RECIPES

RECIPE = RECIPES["yynet_cifar10"]
PICTURES = 6400


class Jpegs(Dataset[tuple[Tensor, int]]):
    """CIFAR-sized JPEGs in memory, decoded and transformed one by one, as the usual image folder is."""

    def __init__(self, files: list[bytes]) -> None:
        self.files = files
        self.transform = v2.Compose(
            [
                v2.ColorJitter(brightness=RECIPE.brightness),
                v2.RandomCrop(32, padding=RECIPE.pad, padding_mode="reflect"),
                v2.RandomHorizontalFlip(RECIPE.flip),
                v2.PILToTensor(),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(RECIPE.mean, RECIPE.std),
            ]
        )

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.open(io.BytesIO(self.files[index])).convert("RGB")), index % 10


def pictures() -> Tensor:
    """Random shapes with grain, uint8 (PICTURES, 32, 32, 3)."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(PICTURES, 3, 4, 4, generator=generator)
    smooth = nn.functional.interpolate(coarse, 32, mode="bilinear")
    noisy = smooth + 0.05 * torch.randn(smooth.shape, generator=generator)
    return (noisy * 255).clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def as_jpegs(images: Tensor) -> list[bytes]:
    """Each picture as a JPEG of quality 75."""
    files = []
    for image in images.numpy():
        out = io.BytesIO()
        Image.fromarray(image).save(out, "JPEG", quality=75)
        files.append(out.getvalue())
    return files


def usual(images: Tensor, steps: int, device: torch.device) -> Callable[[], float]:
    """A function that trains `steps` steps in the usual way and returns pictures/s."""
    loader = DataLoader(
        Jpegs(as_jpegs(images)), RECIPE.batch_size, shuffle=True, drop_last=True, num_workers=2, persistent_workers=True
    )

    def forever() -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            yield from loader

    batches = forever()
    state = start(create_model("yynet_small_16", preset="public_code").to(device), RECIPE, 1000)
    state.model.train()

    def run() -> float:
        began = time.perf_counter()
        for _ in range(steps):
            batch, targets = (tensor.to(device, non_blocking=True) for tensor in next(batches))
            loss = nn.functional.cross_entropy(state.model(batch), targets)
            state.optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(state.model.parameters(), RECIPE.clip_norm)
            state.optimizer.step()
            state.scheduler.step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        return steps * RECIPE.batch_size / (time.perf_counter() - began)

    return run


def ours(images: Tensor, steps: int, device: torch.device) -> Callable[[], float]:
    """A function that trains `steps` steps with taijitu_training's loop and returns pictures/s."""
    recipe = replace(RECIPE, epochs=1000)
    model = create_model("yynet_small_16", preset="public_code").to(device).to(memory_format=torch.channels_last)
    source = MemoryBatches(Pictures(images, torch.arange(PICTURES) % 10), recipe, device, Share())
    state: TrainState = start(model, recipe, source.steps)

    flush = FLUSH_STEPS[device.type]

    def run() -> float:
        taken = 0

        def enough(totals: Totals) -> bool:
            nonlocal taken
            taken += flush
            return taken >= steps

        began = time.perf_counter()
        while taken < steps:
            train_one_epoch(state, source, recipe, after_steps=enough)
        return taken * recipe.batch_size / (time.perf_counter() - began)

    return run


def main() -> int:
    """Print medians over the rounds and their ratio."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=20, help="steps a round and loop (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="(default: %(default)s)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, ... (default: %(default)s)")
    args = parser.parse_args()
    device = choose_device(args.device)
    images = pictures()
    loops = {"usual": usual(images, args.steps, device), "ours": ours(images, args.steps, device)}
    for run in loops.values():
        run()
    speeds: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(args.rounds):
        for name, run in loops.items():
            speeds[name].append(run())
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    print(
        f"{datetime.now(timezone.utc).date()}, {describe_machine(device)}, batch {RECIPE.batch_size}, "
        f"{args.rounds} rounds of {args.steps} steps each, ours in {mixed_dtype(device.type)}"
    )
    for name, value in medians.items():
        print(f"{name:6} {value:7.0f} pictures/s  (rounds {min(speeds[name]):.0f} to {max(speeds[name]):.0f})")
    print(f"ratio  {medians['ours'] / medians['usual']:7.2f}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
