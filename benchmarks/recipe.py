"""Which changes to the authors' recipe make YYNet Small 16 better? Chosen without the test pictures.

OMP_NUM_THREADS=1 python -m benchmarks.recipe --data cifar10-jpeg.tar.xz [--epochs 10] [--seeds 3] [--together 2]

Each candidate is the authors' recipe with one change. It is trained on nine tenths of the training pictures and judged
on the others, which the seed draws, so that rows are compared in pairs. Every run keeps a moving average of the weights
too, so that each gives two rows. Prints a table. Runs that ended are kept in --work, and those that were cut go on.
"""

from __future__ import annotations

import argparse
import io
import json
import shlex
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from pathlib import Path
from typing import NamedTuple

import torch

from taijitu_runtime.bench.conditions import machine
from taijitu_runtime.datasets.archive import members
from taijitu_training import checkpoint
from taijitu_training.data import DataRequest, Share, evaluation_batches, load_dataset
from taijitu_training.loop.evaluation import evaluate
from taijitu_training.recipes.named import get_recipe
from taijitu_training.tables.results import mean_and_error
from taijitu_training.tables.significance import LEVEL, holm, paired_differences

ROOT = Path(__file__).parent.parent
MODEL = ("--model", "yynet_small_16", "--preset", "public_code", "--recipe", "yynet_cifar10")
VALIDATION = 0.1
AVERAGE = ("ema=true", "ema_decay=0.999")


class Candidate(NamedTuple):
    """A change: the name of its folders, the changed fields, further arguments, and whether one seed told enough."""

    folder: str
    changes: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    one_seed: bool = False

    def seeds(self, count: int) -> range:
        """Return the seeds that it is trained with, of `count`."""
        return range(1 if self.one_seed else count)


AUTHORS = "the authors' recipe"
TEACHER = ("--teacher", "checkpoints/vgnetg_1_0mp_cifar10.pt")
CANDIDATES = {
    AUTHORS: Candidate("base"),
    "VGNetG-1.0MP as the teacher, 0.9 of the loss": Candidate("teacher9", ("teacher_weight=0.9",), TEACHER),
    "the same, its answers alone": Candidate("teacher10", ("teacher_weight=1",), TEACHER, one_seed=True),
    "the same, half of the loss": Candidate("teacher", (), TEACHER, one_seed=True),
    "without AMSGrad": Candidate("noamsgrad", ("amsgrad=false",), one_seed=True),
}

Scores = dict[int, float]
"""Top-1 in percent by seed."""


def main() -> int:
    """Run the command and print Markdown."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="CIFAR-10 as a tar of train/<label>/*, test/<label>/*")
    parser.add_argument("--epochs", type=int, default=10, help="of each run (default: 10)")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each candidate (default: 3)")
    parser.add_argument("--together", type=int, default=2, help="runs at a time, each of one thread (default: 2)")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "recipe", help="folder of the runs")
    options = parser.parse_args()
    data = training_pictures(options.data, options.work)
    with ThreadPoolExecutor(options.together) as pool:
        runs = [
            pool.submit(trained, data, options.work, row, seed, options.epochs)
            for seed in range(options.seeds)
            for row, candidate in CANDIDATES.items()
            if seed in candidate.seeds(options.seeds)
        ]
        for run in runs:
            run.result()
    print(f"{datetime.now(timezone.utc).date()}, {machine()}\n")
    print(table(judged(data, options.work, options.seeds)))
    return 0


def training_pictures(archive: Path, work: Path) -> Path:
    """Return a tar with the training pictures alone, so that no run can look at the others."""
    place = work / f"{archive.name.partition('.')[0]}-train.tar"
    if not place.exists():
        work.mkdir(parents=True, exist_ok=True)
        part = place.with_suffix(".part")
        with tarfile.open(part, "w") as out:
            for member, read in members(archive):
                if member.isfile() and member.name.startswith("train/"):
                    out.addfile(member, io.BytesIO(read()))
        part.rename(place)
    return place


def folder_of(work: Path, row: str, seed: int) -> Path:
    """Return the folder of one run."""
    return work / f"{CANDIDATES[row].folder}-s{seed}"


def trained(data: Path, work: Path, row: str, seed: int, epochs: int) -> None:
    """Train one candidate, or continue, unless it has ended."""
    out = folder_of(work, row, seed)
    if (out / "final.pt").exists():
        return
    candidate = CANDIDATES[row]
    fields = (f"epochs={epochs}", f"seed={seed}", *AVERAGE, *candidate.changes)
    command = ["training/train.py", *MODEL, "--data", str(data), "--validation", str(VALIDATION), "--out", str(out)]
    command += [part for field in fields for part in ("--set", field)]
    command += candidate.arguments
    command += ["--resume"] if (out / "last.pt").exists() else []
    done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{shlex.join(command)}: {done.stderr}")


def judged(data: Path, work: Path, seeds: int) -> dict[str, Scores]:
    """Return the scores of each candidate's weights and of their average; the runs measured the average.

    SystemExit for runs that computed in different types, such as on different processors: they cannot be paired.
    """
    rows: dict[str, Scores] = {}
    types: dict[str, Path] = {}
    for seed in range(seeds):
        recipe = get_recipe("yynet_cifar10", {"seed": seed})
        held_out = load_dataset(DataRequest(data, (32, 32), recipe, VALIDATION)).evaluation
        for row, candidate in CANDIDATES.items():
            if seed not in candidate.seeds(seeds):
                continue
            out = folder_of(work, row, seed)
            last = checkpoint.load(out / "last.pt")
            types.setdefault(last.training.get("computed_in", "a type that was not recorded"), out)
            if len(types) > 1:
                raise SystemExit(f"runs computed in {' and in '.join(f'{one} ({types[one]})' for one in types)}")
            model = last.model()
            model.load_state_dict(last.resume["state"]["model"])
            batches = evaluation_batches(held_out, torch.device("cpu"), Share())
            rows.setdefault(row, {})[seed] = evaluate(model, batches, recipe)["eval_top1"]
            average = json.loads((out / "metrics.jsonl").read_text().splitlines()[-1])["eval_top1"]
            rows.setdefault(f"{row}, average", {})[seed] = average
    return rows


def table(rows: Mapping[str, Scores]) -> str:
    """Return Markdown: each row's mean, and its difference from the authors' recipe (paired t-test, Holm)."""
    others = [row for row in rows if row != AUTHORS]
    found = [paired_differences({row: rows[row], AUTHORS: rows[AUTHORS]})[0] for row in others]
    lines = ["| | n | top-1 | difference | |", "|---|---|---|---|---|"]
    lines.append(f"| {AUTHORS} | {len(rows[AUTHORS])} | {mean_and_error(list(rows[AUTHORS].values()), 2)} | | |")
    for row, one, p in zip(others, found, holm([one.p for one in found]), strict=True):
        said = "not tested" if p is None else f"p = {p:.2g}{', different' if p < LEVEL else ''}"
        mean = mean_and_error(list(rows[row].values()), 2)
        lines.append(f"| {row} | {len(rows[row])} | {mean} | {one.mean:+.2f} | {said} |")
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
