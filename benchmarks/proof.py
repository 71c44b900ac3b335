"""Measure whether `taijitu prove` catches sabotaged artefacts and accepts honest ones.

python -m benchmarks.proof --data DIR [--out build/proof] [--onnxruntime 1.22.0 ...]

It makes 50 honest artefacts (taijitu's and timm's networks in float32, float16 and int8) and proves each again with
other numbers of threads, without the native Nish, and with other releases of ONNX Runtime, each in its own environment.
Then it proves copies of the shipped network that were sabotaged in one way each. It prints two tables in Markdown.
Artefacts that are already in --out are not made again.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import re
import subprocess
import sys
from collections import Counter
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import onnxruntime

from benchmarks.proof_rerun import CONDITIONS, Rerun, rerun_here
from benchmarks.proof_sabotage import SABOTAGES, prove_sabotaged
from taijitu_runtime.backends.ort.backend import ROUNDS_FLOAT16
from taijitu_runtime.bench.conditions import machine
from taijitu_runtime.datasets.archive import members

ROOT = Path(__file__).parent.parent
SHIPPED = ROOT / "checkpoints" / "yynet_small_16_cifar10.pt"
TIMM = (
    "convnext_atto", "edgenext_xx_small", "efficientnet_lite0", "efficientvit_b0", "fbnetc_100", "ghostnet_050",
    "hardcorenas_a", "lcnet_050", "mixnet_s", "mnasnet_small", "mobilenetv2_050", "mobilenetv3_small_050",
    "mobileone_s0", "mobilevit_xxs", "regnetx_002", "regnety_002", "repvgg_a0", "resnet10t", "resnet18", "tinynet_e",
)  # fmt: skip
FLOAT16 = ("vgnetg_1_0mp", "vgnetf1_1_5mp", "vgnetc_1_5mp", "yynet_small_32", "yynet_small_64", "mlp")
INT8 = ("vgnetg_1_0mp", "yynet_small_32", "mlp")


def main() -> int:
    """Return 0 if every visible sabotage was caught and no honest artefact was refused, otherwise 1."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--data", type=Path, help="tar of pictures with the shipped network's labels, for the int8 calibration"
    )
    parser.add_argument("--out", type=Path, default=Path("build/proof"), help="folder of the artefacts")
    parser.add_argument(
        "--onnxruntime", nargs="*", action="extend", default=[], metavar="VERSION", help="prove with these releases too"
    )
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    print(f"{datetime.now(timezone.utc):%Y-%m-%d}, {machine()}, load {os.getloadavg()[0]:.1f}, "
          f"onnxruntime {onnxruntime.__version__}\n")  # fmt: skip
    artefacts = honest_artefacts(args.out, args.data)
    reruns = [*rerun_here(artefacts, CONDITIONS)]
    for version in args.onnxruntime:
        reruns += rerun_elsewhere(artefacts, version, args.out)
    print(honest_table(reruns, len(artefacts)))
    base = {name: next(path for path in artefacts if path.stem == f"shipped-{name}") for name in ("fp32", "int8")}
    caught = [(each, Rerun.of("-fp32", each.name, prove_sabotaged(each, base, args.out))) for each in SABOTAGES]
    print("| sabotage | caught | what prove says |\n|---|---|---|")
    for each, rerun in caught:
        verdict = "no" if rerun.proven else "yes"
        print(f"| {each.name} | {verdict} | {each.invisible if rerun.proven else first_fault(rerun.text)} |")
    seen = [rerun for each, rerun in caught if not each.invisible]
    missed = [rerun for rerun in seen if rerun.proven]
    broken = [rerun for rerun in reruns if rounds_wrongly(rerun)]
    alarms = [rerun for rerun in reruns if rerun.proven == (rerun in broken)]
    print(f"\n{len(seen) - len(missed)} of {len(seen)} sabotages caught, "
          f"{len({rerun.artefact for rerun in alarms})} of {len(artefacts)} honest artefacts judged wrongly; "
          f"{len(broken)} proofs on releases that round float16 wrongly have to fail")  # fmt: skip
    for rerun in alarms:
        print(f"- {rerun.artefact}, {rerun.condition}: {rerun.text}")
    return 1 if missed or alarms else 0


def honest_artefacts(folder: Path, data: Path | None) -> list[Path]:
    """Return the 50 files; make those that are missing."""
    from taijitu_training.models import list_models

    wanted = [(name, "fp32") for name in (*list_models(), *(f"timm/{name}" for name in TIMM))]
    wanted += [(name, "fp16") for name in FLOAT16] + [(name, "int8") for name in INT8]
    wanted += [("shipped", precision) for precision in ("fp32", "fp16", "int8")]
    few = None if data is None else few_pictures(data, folder / "pictures")
    paths = []
    for number, (name, precision) in enumerate(wanted, 1):
        path = folder / f"{name.replace('/', '_')}-{precision}.onnx"
        if not path.exists():
            print(f"{number}/{len(wanted)} {name} {precision}", file=sys.stderr, flush=True)
            _make(name, precision, path, data if name == "shipped" else few)
        paths.append(path)
    return paths


def few_pictures(data: Path, folder: Path, count: int = 20) -> Path:
    """Return a folder with the first `count` pictures of each split and label of a tar, for untrained networks."""
    if not folder.exists():
        written: Counter[Path] = Counter()
        for member, read in members(data):
            picture = folder / member.name
            if member.isfile() and written[picture.parent] < count:
                written[picture.parent] += 1
                picture.parent.mkdir(parents=True, exist_ok=True)
                picture.write_bytes(read())
    return folder


def _make(name: str, precision: str, path: Path, data: Path | None) -> None:
    from benchmarks.passes import untrained
    from taijitu_export.precision.conversion import PrecisionRequest
    from taijitu_export.to_onnx.export import export_file
    from taijitu_training import checkpoint

    source = SHIPPED
    if name != "shipped":
        source = path.with_suffix(".pt")
        labels = checkpoint.load(SHIPPED).labels
        checkpoint.save(dataclasses.replace(untrained(name, num_classes=len(labels)), labels=labels), source)
    smaller = None
    if precision != "fp32":
        # Untrained networks are allowed to lose 100 points: the differences are measured, not the accuracy.
        smaller = PrecisionRequest.asked_for(precision, data, None if name == "shipped" else 100.0)
    export_file(source, path, smaller=smaller)


def rerun_elsewhere(paths: list[Path], version: str, folder: Path) -> list[Rerun]:
    """Prove each file again with another release of ONNX Runtime, in its own environment."""
    venv, uv = folder / f"onnxruntime-{version}", str(Path(sys.executable).with_name("uv"))
    python = venv / "bin" / "python"
    if not python.exists():
        subprocess.run([str(uv), "venv", "--quiet", str(venv), "--python", sys.executable], check=True)
        install = [str(uv), "pip", "install", "--quiet", f"{ROOT}[ort]", f"onnxruntime=={version}"]
        subprocess.run(install, check=True, env={**os.environ, "UV_PYTHON": str(python)})
    command = [str(python), "-m", "benchmarks.proof_rerun", f"onnxruntime {version}", *map(str, paths)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    return [Rerun(**each) for each in json.loads(done.stdout)]


def rounds_wrongly(rerun: Rerun) -> bool:
    """Return whether a release of ONNX Runtime computes this artefact wrongly, so that refusing it is right."""
    found = re.fullmatch(r"onnxruntime (\d+)\.(\d+).*", rerun.condition)
    return rerun.precision == "int8" and found is not None and (int(found[1]), int(found[2])) < ROUNDS_FLOAT16


def honest_table(reruns: list[Rerun], count: int) -> str:
    """Return a table of the largest differences of each precision under each condition."""
    head = ("precision", "condition", "artefacts", "from the origin", "from itself", "refused")
    rows = [f"{count} honest artefacts", "", f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for precision in ("fp32", "fp16", "int8"):
        of_it = [rerun for rerun in reruns if rerun.precision == precision]
        for condition in dict.fromkeys(rerun.condition for rerun in of_it):
            here = [rerun for rerun in of_it if rerun.condition == condition]
            own = [rerun.own for rerun in here if rerun.own is not None]
            rows.append(
                f"| {precision} | {condition} | {len(here)} | {np.nanmax([rerun.origin for rerun in here]):.1g} | "
                f"{max(own, default=float('nan')):.1g} | {sum(not rerun.proven for rerun in here)} |"
            )
    return "\n".join(rows) + "\n"


def first_fault(text: str) -> str:
    """Return the first fault in the text of a failed proof, without the place where it ran."""
    return text.removeprefix("not proven").partition(": ")[2].partition(";")[0].partition(", largest")[0]


if __name__ == "__main__":
    raise SystemExit(main())
