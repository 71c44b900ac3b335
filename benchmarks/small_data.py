"""What do --init and a balanced sampler do for a small, unbalanced data set?

OMP_NUM_THREADS=1 python benchmarks/small_data.py --data cifar10-jpeg.tar.xz [--epochs 10] [--seeds 1]

Makes a folder of 5 labels, 60 to 300 pictures each, of CIFAR-10's test pictures, which the shipped checkpoint has not
seen; two of CIFAR-10's labels become one with a new name, so that no row of its classification layer carries over. As
many other pictures in the same proportions are the test set. Then it trains with the documented command: from random
weights and from the checkpoint, with and without sampler=balanced, and from the checkpoint with several learning rates
for 3 epochs. Prints the table of docs/results/small_data.md.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path

from taijitu_runtime.bench.conditions import machine
from taijitu_runtime.datasets.archive import members

ROOT = Path(__file__).parent.parent
CHECKPOINT = "checkpoints/yynet_small_16_cifar10.pt"
LABELS = {
    "in the air": (("airplane", "bird"), 300),
    "on the road": (("automobile", "truck"), 220),
    "at home": (("cat", "dog"), 160),
    "with hooves": (("deer", "horse"), 100),
    "in the water": (("frog", "ship"), 60),
}
"""By label: the labels of CIFAR-10 that it is made of, and how many pictures it has to train and to test."""

SMALLEST = "in the water"
INIT = ("--init", CHECKPOINT)
SCRATCH = ("--recipe", "yynet_cifar10", "--set", "batch_size=32")
SLOW = ("--set", "lr=1e-3")
BALANCED = ("--set", "sampler=balanced")
ARMS = {
    "random weights, `yynet_cifar10`": SCRATCH,
    "random weights, `yynet_cifar10`, `sampler=balanced`": (*SCRATCH, *BALANCED),
    "`--init`": INIT,
    "`--init --set sampler=balanced`": (*INIT, *BALANCED),
    "`--init --set lr=1e-3`": (*INIT, *SLOW),
    "`--init --set lr=1e-3 --set sampler=balanced`": (*INIT, *SLOW, *BALANCED),
}
RATES = ("1e-4", "1e-3", "3e-3", "1e-2")


def main() -> int:
    """Run the command and print Markdown."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="CIFAR-10 as a tar of train/<label>/*, test/<label>/*")
    parser.add_argument("--epochs", type=int, default=10, help="of each run of the first table (default: 10)")
    parser.add_argument("--seeds", type=int, default=1, help="runs of each row of the first table (default: 1)")
    parser.add_argument(
        "--work", type=Path, default=ROOT / "build" / "small_data", help="folder of the pictures and runs"
    )
    options = parser.parse_args()
    data = options.work / "data"
    shutil.rmtree(options.work, ignore_errors=True)
    make_data(options.data, data)
    print(f"{datetime.now(timezone.utc).date()}, {machine()}\n")
    print("| command | top-1 | macro accuracy | recall of the smallest label |\n|---|---|---|---|", flush=True)
    for number, (name, flags) in enumerate(ARMS.items()):
        flags = (*flags, "--set", f"epochs={options.epochs}")
        runs = [trained(data, options.work / f"{number}-{seed}", *flags, seed=seed) for seed in range(options.seeds)]
        print(f"| {name} | {' | '.join(map(spread, zip(*runs)))} |", flush=True)
    print("\n| `--init --set epochs=3`, learning rate | top-1 |\n|---|---|", flush=True)
    for rate in RATES:
        top1, _, _ = trained(data, options.work / rate, *INIT, "--set", "epochs=3", "--set", f"lr={rate}")
        print(f"| {rate} | {top1:.1f} % |", flush=True)
    return 0


def make_data(archive: Path, folder: Path) -> None:
    """Write train/<label>/* and test/<label>/* of LABELS, from the archive's test pictures."""
    places = {old: iter(split(label, old)) for label, (olds, _) in LABELS.items() for old in olds}
    for member, read in members(archive):
        parts = Path(member.name).parts
        if not member.isfile() or parts[0] != "test" or (place := next(places[parts[1]], None)) is None:
            continue
        target = folder / place / f"{parts[1]}{Path(member.name).name}"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(read())


def split(label: str, old: str) -> Iterator[Path]:
    """Yield the folders of CIFAR-10's pictures of `old`, one for each: by turns train and test, until they are full."""
    count = LABELS[label][1] // len(LABELS[label][0])
    for _ in range(count):
        yield Path("train") / label
        yield Path("test") / label


def trained(data: Path, out: Path, *flags: str, seed: int = 0) -> tuple[float, float, float]:
    """Train as the documentation says; return top-1, macro accuracy and the smallest label's recall, in percent."""
    command = ["training/train.py", "--model", "yynet_small_16", "--preset", "public_code", "--data", str(data)]
    command += ["--out", str(out), *flags, "--set", f"seed={seed}"]
    done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{shlex.join(command)}: {done.stderr}")
    line = next(line for line in done.stdout.splitlines() if line.startswith("recall: "))
    recalls = dict(re.findall(r"(?:: |, )([a-z ]+) ([\d.]+) %", line))
    shares = {label: float(recalls[label]) for label in LABELS}
    last = json.loads((out / "metrics.jsonl").read_text().splitlines()[-1])
    return last["eval_top1"], statistics.fmean(shares.values()), shares[SMALLEST]


def spread(values: Sequence[float]) -> str:
    """Return the mean, with the lowest and the highest if they differ."""
    between = f" ({min(values):.1f} to {max(values):.1f})" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.1f} %{between}"


if __name__ == "__main__":
    raise SystemExit(main())
