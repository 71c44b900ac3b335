"""Measure the camera runner.

python benchmarks/camera.py [--parts age unplug load] [--seconds 60] [--cycles 20]

age     a live source of 30 frames/s, a classifier slowed to 10: the age of the frame that an answer is about. taijitu
        compared with the usual first loop, `while True: read(); classify()`, on the same source at the same
        time. The age is end to end: each frame carries its creation time.
unplug  the source disconnects and returns: the time until its frames are read again, and which resources are leaked.
load    1080p at 30 frames/s with a model: processor time in addition to decoding.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import IO, Any

import cv2
import numpy as np
import skimage

from taijitu_runtime.live import Reader

ROOT = Path(__file__).parent.parent
SERVER = "tests.helpers.mjpeg_server"
PHOTOGRAPH = Path(skimage.__file__).parent / "data" / "chelsea.png"
CHECKPOINT = ROOT / "checkpoints" / "yynet_small_16_cifar10.pt"
BITS, BLOCK = 32, 16  # the format of the server's stamps
PARTS = ("age", "unplug", "load")
SLOW_S = 0.1
WARM_S = 4.0
DECODE_ONLY = """
import cv2, sys, time
video, began, frames = cv2.VideoCapture(sys.argv[1]), time.monotonic(), 0
while video.read()[0]:
    frames += 1
    print(frames, flush=True)
    time.sleep(max(0, began + frames / 30 - time.monotonic()))
"""


def main() -> int:
    """Run the parts that were asked for, and print their results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="default: all")
    parser.add_argument("--seconds", type=float, default=60, help="duration of age, in seconds (default: 60)")
    parser.add_argument("--cycles", type=int, default=20, help="cycles of unplug (default: 20)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of load, 12 s each (default: 5)")
    args = parser.parse_args()
    now = datetime.now(timezone.utc)
    print(
        f"{now:%Y-%m-%d}, OpenCV {cv2.__version__}, Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}"
    )
    if "age" in args.parts:
        measure_age(args.seconds)
    if "unplug" in args.parts:
        for how in ("unplug", "stall"):
            measure_returns(how, args.cycles)
    if "load" in args.parts:
        measure_load(args.rounds)
    return 0


def measure_age(seconds: float) -> None:
    """Read one source twice, each reader slowed to one answer in SLOW_S."""
    ages: dict[str, list[float]] = {"ours": [], "read(); classify()": []}
    with mjpeg_server() as (url, _), Reader(url) as reader:
        video = cv2.VideoCapture(url)

        def ours() -> Any:
            frame = reader.take(5)
            return None if frame is None else frame.pixels

        takers: dict[str, Callable[[], Any]] = {"ours": ours, "read(); classify()": lambda: video.read()[1]}
        threads = [threading.Thread(target=_take, args=(takers[name], ages[name], seconds)) for name in takers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        video.release()
    print(
        f"\nage of the frame when its answer is there, ms, {seconds:g} s at 30 frames/s, {SLOW_S * 1000:g} ms an answer"
    )
    print(f"{'':20}{'p50':>8}{'p95':>8}{'max':>8}   at each tenth of the time")
    for name, row in ages.items():
        tenths = " ".join(f"{row[len(row) * k // 10 - 1]:.0f}" for k in range(1, 11))
        print(f"{name:20}{np.percentile(row, 50):8.0f}{np.percentile(row, 95):8.0f}{max(row):8.0f}   {tenths}")


def measure_returns(how: str, cycles: int) -> None:
    """Stop the source for 0.3 to 3 s; measure from its return until a frame made after it is taken."""
    times_s: list[float] = []
    with mjpeg_server() as (url, tell):
        before = held()
        with Reader(url) as reader:
            assert reader.take(30) is not None
            running = held()
            for cycle in range(cycles):
                tell(how)
                time.sleep(random.Random(cycle).uniform(0.3, 3))
                tell("restore")
                returned_s = time.monotonic()
                while (frame := reader.take(30)) is None or frame.captured_s < returned_s:
                    pass
                times_s.append(time.monotonic() - returned_s)
            settled = held()
            reconnects = reader.counters.reconnects
        after = held()
    print(f"\n{how}, {cycles} times: back after p50 {statistics.median(times_s):.2f} s, most {max(times_s):.2f} s")
    print(f"  {sum(t <= 2 for t in times_s)} of {cycles} within 2 s; {reconnects} reconnects")
    print(
        f"  (descriptors, threads, processes): before {before}, running {running}, after all {settled}, closed {after}"
    )


def measure_load(rounds: int) -> None:
    """Measure the share of one core that a run takes in addition to decoding, alternately."""
    with tempfile.TemporaryDirectory() as folder:
        video, model = Path(folder) / "hd.mp4", Path(folder) / "model.onnx"
        write_video(video, seconds=14)
        export: list[str | Path] = [sys.executable, ROOT / "export" / "to_onnx.py", CHECKPOINT, "-o", model]
        subprocess.run(export, check=True, stdout=subprocess.DEVNULL)
        runner: list[str | Path] = [
            sys.executable,
            ROOT / "runtime" / "camera.py",
            model,
            "--source",
            video,
            "--realtime",
        ]
        variants: dict[str, list[str | Path]] = {
            "decoding only": [sys.executable, "-c", DECODE_ONLY, video],
            "camera.py": [*runner, "--jsonl", "-"],
            "camera.py --save": [*runner, "--jsonl", "-", "--save", Path(folder) / "out.mp4"],
            "camera.py --threads 2": [*runner, "--jsonl", "-", "--threads", "2"],
        }
        shares: dict[str, list[float]] = {name: [] for name in variants}
        rates: dict[str, list[float]] = {name: [] for name in variants}
        for _ in range(rounds):
            for name, command in variants.items():
                share, rate_hz = share_of_a_core(command, seconds=8)
                shares[name].append(share)
                rates[name].append(rate_hz)
    decoding = statistics.median(shares["decoding only"])
    print(f"\n1920 x 1080 at 30 frames/s, YYNet Small 16: % of one core, median of {rounds} rounds of 8 s alternately")
    for name, row in shares.items():
        middle = statistics.median(row)
        beyond = "" if name == "decoding only" else f"   beyond decoding {middle - decoding:5.1f}"
        rate_hz = statistics.median(rates[name])
        print(f"{name:24}{middle:6.1f} ({min(row):5.1f} to {max(row):5.1f}) at {rate_hz:4.1f} frames/s{beyond}")


def share_of_a_core(command: list[str | Path], seconds: float) -> tuple[float, float]:
    """Measure CPU time of a command and its children for `seconds`, after WARM_S, in % of one core.

    And its lines per second.
    """
    with tempfile.TemporaryFile() as lines:
        running = subprocess.Popen(list(map(str, command)), stdout=lines, stderr=subprocess.DEVNULL)
        time.sleep(WARM_S)
        began_s, spent, count = time.monotonic(), cpu_seconds(running.pid), count_lines(lines)
        time.sleep(seconds)
        took_s = time.monotonic() - began_s
        share, rate_hz = (cpu_seconds(running.pid) - spent) / took_s, (count_lines(lines) - count) / took_s
        running.terminate()
        running.wait()
    return 100 * share, rate_hz


def count_lines(file: IO[bytes]) -> int:
    """Count the lines that other processes have written so far."""
    return os.pread(file.fileno(), 1 << 24, 0).count(b"\n")


def cpu_seconds(pid: int) -> float:
    """Return the CPU time so far of a process and its present children."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    own = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return own + sum(map(cpu_seconds, children(pid)))


def children(pid: int) -> list[int]:
    """Return the child processes of this process that still run."""
    lists = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for found in lists for child in found.read_text().split()]


def held() -> tuple[int, int, int]:
    """Return the descriptors, threads and child processes of this process."""
    return len(os.listdir("/proc/self/fd")), threading.active_count(), len(children(os.getpid()))


def write_video(path: Path, seconds: int) -> None:
    """Write a video of a moving photograph, 1920 x 1080 at 30 frames/s."""
    photograph = cv2.resize(cv2.imread(str(PHOTOGRAPH)), (2120, 1280))  # type: ignore[arg-type]  # it is there
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 30, (1920, 1080))
    for index in range(30 * seconds):
        at = abs(index % 400 - 200)
        writer.write(np.ascontiguousarray(photograph[at : at + 1080, at : at + 1920]))
    writer.release()


@contextmanager
def mjpeg_server() -> Iterator[tuple[str, Callable[[str], None]]]:
    """Start a live source in a process of its own; yield its URL, and a function that sends it commands."""
    command = [sys.executable, "-m", SERVER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        stdin, stdout = server.stdin, server.stdout
        assert stdin is not None
        assert stdout is not None

        def tell(what: str) -> None:
            stdin.write(what + "\n")
            stdin.flush()
            stdout.readline()

        yield f"http://127.0.0.1:{int(stdout.readline())}/stream.mjpg", tell
        stdin.close()


def age_ms(frame: Any) -> float:
    """Return how long ago the server made this frame."""
    middles = frame[BLOCK // 2, BLOCK // 2 : BITS * BLOCK : BLOCK].mean(axis=1) > 127
    number = sum(1 << bit for bit, white in enumerate(middles) if white)
    return float((round(1000 * time.monotonic()) - number) % 2**BITS)


def _take(take: Callable[[], Any], ages: list[float], seconds: float) -> None:
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s:
        frame = take()
        time.sleep(SLOW_S)  # the classifier
        ages.append(age_ms(frame))


if __name__ == "__main__":
    raise SystemExit(main())
