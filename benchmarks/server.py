"""Compare taijitu's server with others.

python benchmarks/server.py [--rounds 5] [--seconds 2]

wrk posts one picture over and over, to each server alternately, round after round, on this machine, whose cores it
shares with them. All servers stay up; only one works at a time. Medians over the rounds. The bound, which takes a turn
too, is the same picture without HTTP: decoded, and answered by one session of one thread on each core, in one process.
Needs wrk (apt-get install wrk).
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

import litserve
import numpy as np
import onnx
import onnxruntime
import skimage
import torch
from PIL import Image

import taijitu
from taijitu_export.onnx.onnx_from_checkpoint import onnx_from_checkpoint
from taijitu_export.to_onnx.cli import main as to_onnx
from taijitu_runtime.backends.ort.backend import open_model
from taijitu_runtime.bench.conditions import machine
from taijitu_runtime.card import Architecture
from taijitu_runtime.machine import usable_cores
from taijitu_runtime.pictures.preprocess import preprocess
from taijitu_training import checkpoint
from taijitu_training.checkpoint import Checkpoint
from taijitu_training.data import input_contract
from taijitu_training.models import create_model, model_options
from taijitu_training.recipes.named import RECIPES

ROOT = Path(__file__).parent.parent
SKIMAGE = Path(skimage.__file__).parent / "data"
RIVALS = Path(__file__).parent / "rivals"
BATCH = 4
NAIVE, LITSERVE, OURS, OUR_WORKERS = "naive", "LitServe", "taijitu", "taijitu --workers 2"


@dataclass
class Running:
    """One server under test, and wrk's measurements of it, one number per round."""

    name: str
    process: subprocess.Popen[bytes]
    url: str
    ready_s: float
    rates: list[float] = field(default_factory=list)
    p50_ms: list[float] = field(default_factory=list)
    p99_ms: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Case:
    """A picture and the `paths` to post it to, by server; a missing server takes no part."""

    title: str
    model: Path
    picture: Path
    is_form: bool
    paths: dict[str, str]


def main() -> int:
    """Print a table for each case."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="turns of each server (default: %(default)s)")
    parser.add_argument("--seconds", type=int, default=2, help="seconds of one turn (default: %(default)s)")
    parser.add_argument("--connections", type=int, default=32, help="connections of wrk (default: %(default)s)")
    parser.add_argument("--only", default="", help="cases whose title has this text")
    args = parser.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("wrk is not installed; do: apt-get install wrk")
    print(f"{datetime.now(timezone.utc):%Y-%m-%d}, {machine()}, Python {platform.python_version()}, onnxruntime")
    print(f"{onnxruntime.__version__}, LitServe {litserve.__version__}, {args.connections} connections,")
    print(f"medians of {args.rounds} turns of {args.seconds} s, load of the machine {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as folder:
        for case in cases(Path(folder)):
            if args.only in case.title:
                measure(case, args.rounds, args.seconds, args.connections)
    return 0


def cases(folder: Path) -> list[Case]:
    """Return the three cases that the README quotes."""
    small = folder / "yynet_small_16.onnx"
    assert to_onnx([str(ROOT / "checkpoints" / "yynet_small_16_cifar10.pt"), "-o", str(small)]) == 0
    large = export_untrained("vgnetg_1_0mp", 1000, folder)
    icon, photograph = folder / "icon.jpg", folder / "photograph.jpg"
    Image.open(SKIMAGE / "chelsea.png").resize((32, 32)).save(icon, "JPEG", quality=90)
    Image.open(SKIMAGE / "coffee.png").resize((500, 375)).save(photograph, "JPEG", quality=90)
    raw = {NAIVE: "raw", OURS: "classify", OUR_WORKERS: "classify"}
    form = {**raw, NAIVE: "classify", LITSERVE: "predict"}
    return [
        Case("YYNet Small 16, a 32x32 JPEG as the body", small, icon, False, raw),
        Case("YYNet Small 16, a 32x32 JPEG in a form", small, icon, True, form),
        Case("VGNetG-1.0MP, a 500x375 JPEG as the body", large, photograph, False, raw),
    ]


def export_untrained(name: str, classes: int, folder: Path) -> Path:
    """Export an untrained network: its speed does not depend on its weights."""
    torch.manual_seed(0)
    model = create_model(name, num_classes=classes, act="nish")
    content = Checkpoint(
        state_dict=model.state_dict(),
        architecture=Architecture(name, model_options(name, num_classes=classes, act="nish")),
        labels=[str(index) for index in range(classes)],
        input=input_contract(model.input_size, RECIPES["yynet_cifar10"]),
        training={"data": "none", "recipe": {}, "metrics": {}, "date": "2026-01-01"},
        producer=checkpoint.producer_versions(),
    )
    path = folder / f"{name}.onnx"
    onnx.save(onnx_from_checkpoint(content), path)
    return path


def measure(case: Case, rounds: int, seconds: int, connections: int) -> None:
    """Start the servers, measure them alternately, print the table."""
    with ExitStack() as stack:
        servers = [stack.enter_context(started(name, case)) for name in case.paths]
        for server in servers:
            wrk(server, case, 1, connections)
        for server in servers:
            server.rates.clear()
            server.p50_ms.clear()
            server.p99_ms.clear()
        bounds = []
        for _ in range(rounds):
            bounds.append(bound(case, seconds))
            for server in servers:
                wrk(server, case, seconds, connections)
        print(f"\n**{case.title}** (bound: {statistics.median(bounds):,.0f}/s)\n")
        print(
            "| server | requests/s | of the bound | times naive | p50 ms | p99 ms | of naive's | ready s | memory MB |"
        )
        print("|---|---|---|---|---|---|---|---|---|")
        naive = servers[0]
        for server in servers:
            rate, p50, p99 = map(statistics.median, (server.rates, server.p50_ms, server.p99_ms))
            reached, times = median_ratio(server.rates, bounds), median_ratio(server.rates, naive.rates)
            print(f"| {server.name} | {rate:,.0f} | {reached:.2f} | {times:.2f} | {p50:.1f} | {p99:.1f} ", end="")
            print(f"| {median_ratio(server.p99_ms, naive.p99_ms):.2f} | {server.ready_s:.1f} ", end="")
            print(f"| {memory_mb(server.process.pid):.0f} |", flush=True)


def median_ratio(values: list[float], others: list[float]) -> float:
    """Return the median of the ratios within a round."""
    return statistics.median(value / other for value, other in zip(values, others, strict=True))


def bound(case: Case, seconds: int) -> float:
    """Return pictures/s of one session on each core, in batches of 4, as the server forms them, without HTTP."""
    body = case.picture.read_bytes()
    with taijitu.Classifier.from_file(case.model) as classifier:
        spec = classifier.card.input

    def answer(_: int) -> int:
        session = open_model(case.model, threads=1)
        pictures, end = 0, time.monotonic() + seconds
        while time.monotonic() < end:
            session.run(["logits"], {"images": np.stack([preprocess(body, spec) for _ in range(BATCH)])})
            pictures += BATCH
        return pictures

    with ThreadPoolExecutor(usable_cores()) as pool:
        return sum(pool.map(answer, range(usable_cores()))) / seconds


@contextmanager
def started(name: str, case: Case) -> Iterator[Running]:
    """Start a server on a free port; yield once it answers, and end it with the block."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    uvicorn = ["-m", "uvicorn", "naive:app", "--port", port, "--log-level", "error", "--no-access-log"]
    commands = {
        NAIVE: [*uvicorn, "--app-dir", str(RIVALS)],
        LITSERVE: [str(RIVALS / "batching.py"), port],
        OURS: [str(ROOT / "server" / "serve.py"), str(case.model), "--port", port],
        OUR_WORKERS: [str(ROOT / "server" / "serve.py"), str(case.model), "--port", port, "--workers", "2"],
    }
    env = os.environ | {"MODEL": str(case.model), "PYTHONPATH": f"{ROOT / 'runtime'}:{ROOT / 'server'}"}
    began = time.perf_counter()
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [sys.executable, *commands[name]], env=env, stdout=log, stderr=log, preexec_fn=os.setpgrp
        )
        try:
            url = f"http://127.0.0.1:{port}/{case.paths[name]}"
            wait_for(url, case, process)
            yield Running(name, process, url, time.perf_counter() - began)
        finally:
            process.terminate()
            process.wait(30)
            with suppress(ProcessLookupError):  # LitServe does not end its workers
                os.killpg(process.pid, signal.SIGKILL)


def wait_for(url: str, case: Case, process: subprocess.Popen[bytes]) -> None:
    """Wait until a good request is answered."""
    body, kind = request_body(case)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"{process.args!r} ended with {process.returncode}")
        try:
            with urllib.request.urlopen(urllib.request.Request(url, body, {"Content-Type": kind}), timeout=10) as reply:
                json.load(reply)
                return
        except OSError:
            time.sleep(0.02)
    raise RuntimeError(f"{url} did not answer within 120 s")


def request_body(case: Case) -> tuple[bytes, str]:
    """Return the body that wrk posts, and its content type."""
    picture = case.picture.read_bytes()
    if not case.is_form:
        return picture, "image/jpeg"
    form = io.BytesIO()
    form.write(b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\n')
    form.write(b"Content-Type: image/jpeg\r\n\r\n" + picture + b"\r\n--b--\r\n")
    return form.getvalue(), "multipart/form-data; boundary=b"


def wrk(server: Running, case: Case, seconds: int, connections: int) -> None:
    """Measure one turn."""
    env = os.environ | {"PICTURE": str(case.picture)} | ({"MULTIPART": "1"} if case.is_form else {})
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "--timeout", "20s"]
    done = subprocess.run(
        [*command, "-s", str(RIVALS / "post.lua"), server.url], env=env, capture_output=True, text=True, check=True
    ).stdout
    if "Non-2xx" in done or "Socket errors" in done:
        raise RuntimeError(f"{server.name} failed: {done}")
    server.rates.append(float(re.findall(r"Requests/sec:\s+([\d.]+)", done)[0]))
    server.p50_ms.append(percentile_ms(done, "50%"))
    server.p99_ms.append(percentile_ms(done, "99%"))


def percentile_ms(text: str, percentile: str) -> float:
    """Read a line such as '     99%   22.48ms'."""
    value, unit = re.findall(rf"\s{percentile}\s+([\d.]+)(us|ms|s)", text)[0]
    return float(value) * {"us": 1e-3, "ms": 1.0, "s": 1e3}[unit]


def memory_mb(process: int) -> float:
    """Return resident memory of a process and its children, in 10^6 bytes; shared pages count once per process."""
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6 + sum(memory_mb(int(child)) for child in children)


if __name__ == "__main__":
    raise SystemExit(main())
