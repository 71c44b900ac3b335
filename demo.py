"""The whole way with the shipped checkpoint: export, check, build an engine, classify, serve, post. `make demo`."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taijitu_runtime.console import run
from taijitu_runtime.errors import require

if TYPE_CHECKING:
    import httpx

ROOT = Path(__file__).parent
CHECKPOINT = Path("checkpoints/yynet_small_16_cifar10.pt")
FOLDER = Path("build/demo")
PHOTOGRAPHS = ("chelsea.png", "motorcycle_left.png", "rocket.jpg")  # from scikit-image, under free licences


@run("demo.py")
def main() -> int:
    """Exit code 0 when every step did what the README says."""
    os.chdir(ROOT)
    photographs = Path(require("skimage", "taijitu[demo]").__file__).parent / "data"
    FOLDER.mkdir(parents=True, exist_ok=True)
    model = FOLDER / "yynet_small_16.onnx"
    pictures = [Path(shutil.copy(photographs / name, FOLDER)) for name in PHOTOGRAPHS]
    exported = call("export/to_onnx.py", str(CHECKPOINT), "-o", str(model))
    engine = build_engine(model)
    call("runtime/classify.py", str(model), *map(str, pictures), "--top", "3")
    answers = json.loads(call("runtime/classify.py", str(model), *map(str, pictures), "--json", quiet=True))
    served, stopped = serve_and_post(model, pictures)
    agree = [a["answers"][0]["label"] == s["answers"][0]["label"] for a, s in zip(answers["results"], served)]
    table(model, exported, pictures, served)
    if engine is not None:
        engine_row(engine)
    if not all(agree):
        print("the server's answers differ from the command line's", file=sys.stderr)
    return 0 if all(agree) and stopped == 0 else 1


def call(script: str, *arguments: str, quiet: bool = False) -> str:
    """Run one of the documented scripts as a user would, show it, and return what it printed."""
    command = ["python", script, *arguments]
    if not quiet:
        print(f"\n$ {shlex.join(command)}", flush=True)
    done = subprocess.run([sys.executable, *command[1:]], stdout=subprocess.PIPE, text=True, check=False)
    if not quiet:
        print(done.stdout, end="", flush=True)
    if done.returncode:
        raise SystemExit(done.returncode)
    return done.stdout


def build_engine(model: Path) -> Path | None:
    """A float16 engine for RTX cards, which takes no GPU to build; None where TensorRT-RTX is not installed."""
    if importlib.util.find_spec("tensorrt_rtx") is None:
        print("\nno engine: there are TensorRT-RTX wheels for Linux on x86-64 only")
        return None
    engine = model.with_suffix(".engine")
    call("export/to_engine.py", str(model), "--backend=rtx", "--fp16", f"--saveEngine={engine}")
    return engine


def serve_and_post(model: Path, pictures: list[Path]) -> tuple[list[dict[str, Any]], int]:
    """Start the server on a free port, post each picture, stop it; the server's answers and its exit code."""
    print(f"\n$ python server/serve.py {model} --port 0 --no-access-log", flush=True)
    command = [sys.executable, "server/serve.py", str(model), "--port", "0", "--no-access-log"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        line = server.stdout.readline()
        print(line, end="")
        url = re.search(r"http://\S+", line)
        if url is None:
            raise SystemExit("the server did not start")
        with require("httpx", "taijitu[demo]").Client(base_url=url[0], timeout=30) as client:
            wait_until_ready(client)
            answers = [post(client, picture) for picture in pictures]
    finally:
        server.send_signal(signal.SIGTERM)
        try:
            server.wait(timeout=30)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
    print(f"server stopped with exit code {server.returncode}")
    return answers, server.returncode


def wait_until_ready(client: httpx.Client) -> None:
    for _ in range(200):
        try:
            if client.get("/health/ready").status_code == 200:
                return
        except require("httpx", "taijitu[demo]").TransportError:
            pass
        time.sleep(0.05)
    raise SystemExit("the server was not ready within 10 s")


def post(client: httpx.Client, picture: Path) -> dict[str, Any]:
    """POST /classify with the file's bytes; the reply with `http_ms`, the fastest of five round trips."""
    kind = {".png": "image/png", ".jpg": "image/jpeg"}[picture.suffix]
    times = []
    for _ in range(5):
        began = time.perf_counter()
        reply = client.post("/classify", content=picture.read_bytes(), headers={"Content-Type": kind})
        times.append(1e3 * (time.perf_counter() - began))
        reply.raise_for_status()
    return {**reply.json(), "http_ms": min(times)}


def table(model: Path, exported: str, pictures: list[Path], served: list[dict[str, Any]]) -> None:
    """The summary, a row a photograph; the latency is the fastest of five round trips."""
    parity = re.search(r"top-1 the same on (\d+) of (\d+) pictures", exported)
    assert parity is not None
    print(f"\n{'artefact':<21} {'size':>7}  {'parity':<12} {'photograph':<20} {'top answer':<18} {'HTTP latency':>12}")
    for picture, reply in zip(pictures, served):
        best = reply["answers"][0]
        print(
            f"{model.name:<21} {model.stat().st_size / 1e3:>4.0f} kB  {parity[1]:>2} of {parity[2]:<6} "
            f"{picture.name:<20} {best['label']:<10} {best['probability']:>7.1%} {reply['http_ms']:>9.1f} ms"
        )


def engine_row(engine: Path) -> None:
    """The engine's line of the table, from its sidecar; there may be no GPU here to run it on."""
    sidecar = json.loads(engine.with_name(f"{engine.name}.json").read_text())
    layers, seconds = sidecar["precision"]["layers"], sidecar["built"]["seconds"]
    half = f"{layers['float16']:>2} of {sum(layers.values())}"
    print(
        f"{engine.name:<21} {engine.stat().st_size / 1e3:>4.0f} kB  {half:<12} "
        f"{'layers in float16, for RTX cards':<39} {f'built in {seconds:.1f} s':>12}"
    )


if __name__ == "__main__":
    raise SystemExit(main())
