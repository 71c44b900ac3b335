"""Test a real server for a long time.

python -m tools.soak_server [--seconds 600]

Good, bad, slow and disconnecting clients at once, half of the disconnecting ones with a reset, and clients that watch a
camera, while the model's file is replaced again and again; in parallel a second server is started and drained
repeatedly. Every response is checked. Exit code 1 for a wrong or lost response, a 500, a log line that is not JSON, a
drain that loses a response, or memory or descriptors that grow.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import os
import random
import shutil
import socket
import statistics
import struct
import tempfile
import time
from collections import Counter
from pathlib import Path

import httpx
import skimage
from PIL import Image

from taijitu_export.to_onnx.cli import main as to_onnx
from taijitu_runtime.classifier import Classifier
from tests.helpers.mjpeg_server import MjpegServer
from tests.helpers.server_process import ROOT, Server

NAME, CAMERA = "small", "door"
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close with a reset
SAMPLES = 100  # of memory and descriptors, evenly over the time
PRINTED = 5  # every such sample
COMPARED = 20  # samples after the warm-up, and as many at the end: pictures in work move memory up and down
WARM_UP = 20  # samples before growth counts
ALLOWED_GROWTH_BYTES = 5_000_000
ALLOWED_DESCRIPTORS = 2
DRAIN_S = 0.5
SETTLES_S = 2.0  # until the resources of the last clients are released


class Soak:
    """The clients' common state: where the server is, the expected answers, and the responses so far."""

    def __init__(self, url: str, pictures: dict[bytes, str], seconds: float) -> None:
        self.url = url
        self.pictures = pictures
        self.until = time.monotonic() + seconds
        self.seen: Counter[str] = Counter()
        self.wrong: list[str] = []

    @property
    def is_on(self) -> bool:
        """Return whether the time is not over, and nothing is wrong."""
        return time.monotonic() < self.until and len(self.wrong) < 10

    async def good(self) -> None:
        """Post pictures and check their labels."""
        async with httpx.AsyncClient(base_url=self.url, timeout=60) as client:
            while self.is_on:
                picture, label = random.choice(list(self.pictures.items()))
                form = random.random() < 0.3
                sent = {"files": {"file": ("a.jpg", picture)}} if form else {"content": picture}
                reply = await client.post("/classify", params={"model": NAME}, **sent)
                self.seen[f"good {reply.status_code}"] += 1
                if reply.status_code != 503 and (
                    reply.status_code != 200 or reply.json()["answers"][0]["label"] != label
                ):
                    self.wrong.append(f"expected {label}, got {reply.status_code} {reply.text[:200]}")

    async def bad(self) -> None:
        """Post damaged pictures and malformed requests: none may get a 500."""
        async with httpx.AsyncClient(base_url=self.url, timeout=60) as client:
            while self.is_on:
                picture = bytearray(random.choice(list(self.pictures)))
                for _ in range(random.randint(1, 20)):
                    picture[random.randrange(len(picture))] = random.randrange(256)
                cut = bytes(picture[: random.randrange(1, len(picture))])
                path = random.choice(["/classify", f"/v2/models/{NAME}/infer", "/classify?top=0", "/nowhere"])
                kind = random.choice(["image/jpeg", "application/json", "multipart/form-data; boundary=b", "text/html"])
                reply = await client.post(path, content=cut, headers={"Content-Type": kind})
                self.seen[f"bad {reply.status_code}"] += 1
                if reply.status_code == 500:
                    self.wrong.append(f"500 for {path} {kind}")

    async def leaving(self) -> None:
        """Stall in the middle of a body, or disconnect before the response."""
        host, port = self.url.removeprefix("http://").split(":")
        while self.is_on:
            _, writer = await asyncio.open_connection(host, int(port))
            picture = random.choice(list(self.pictures))
            head = b"POST /classify HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(picture)
            writer.write(head + picture[: random.choice([10, len(picture)])])
            await asyncio.sleep(random.choice([0.0, 0.01, 0.5]))
            if random.random() < 0.5:
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                self.seen["left with a reset"] += 1
            else:
                self.seen["left"] += 1
            writer.close()

    async def idle(self) -> None:
        """Reset idle connections that have sent large headers."""
        host, port = self.url.removeprefix("http://").split(":")
        while self.is_on:
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nX-Large: " + b"x" * 60_000 + b"\r\n\r\n")
            await reader.readuntil(b"\r\n\r\n")
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            writer.close()
            self.seen["idle with a reset"] += 1
            await asyncio.sleep(0.01)

    async def viewer(self) -> None:
        """Watch the camera for a while, again and again."""
        async with httpx.AsyncClient(base_url=self.url, timeout=60) as client:
            while self.is_on:
                async with client.stream("GET", f"/cameras/{CAMERA}/stream") as reply:
                    async for part in reply.aiter_bytes():
                        self.seen["camera parts"] += part.count(b"Content-Type: image/jpeg")
                        if not self.is_on or random.random() < 0.02:
                            break

    async def drains(self, source: Path) -> None:
        """Start another server and send it requests while it is ready; each must be answered."""
        while self.is_on:
            server = await asyncio.to_thread(Server, str(source), "--port", "0", "--drain-s", str(DRAIN_S))
            await asyncio.to_thread(server.wait_until_ready)
            drained = asyncio.create_task(self._use_while_ready(server.url))
            await asyncio.sleep(0.5)
            code, log = await asyncio.to_thread(server.stop)
            await drained
            self.seen[f"drain {code}"] += 1
            if code or any(map(is_error, log.splitlines())):
                self.wrong.append(f"drain: exit code {code}, {log[-500:]}")

    async def _use_while_ready(self, url: str) -> None:
        """Send requests as a load balancer does: on new connections, for as long as the server says 'ready'."""
        picture, label = next(iter(self.pictures.items()))
        while True:
            async with httpx.AsyncClient(base_url=url, timeout=60) as client:
                if (await client.get("/health/ready")).status_code != 200:
                    return
                reply = await client.post("/classify", content=picture)
            self.seen[f"drained {reply.status_code}"] += 1
            if reply.status_code != 200 or reply.json()["answers"][0]["label"] != label:
                self.wrong.append(f"drain: expected {label}, got {reply.status_code} {reply.text[:200]}")

    async def reloads(self, model: Path, source: Path) -> None:
        """Replace the model by itself, and sometimes by half of itself."""
        content = source.read_bytes()
        while self.is_on:
            await asyncio.sleep(1)
            new = model.with_suffix(".new")
            new.write_bytes(content if random.random() < 0.7 else content[: len(content) // 2])
            new.replace(model)
            self.seen["replaced"] += 1


def main() -> int:
    """Print the responses by kind, and whether all were right."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=600.0, help="duration in seconds (default: 600)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source, models = Path(folder, "source.onnx"), Path(folder, "models")
        models.mkdir()
        assert to_onnx([str(ROOT / "checkpoints" / "yynet_small_16_cifar10.pt"), "-o", str(source)]) == 0
        shutil.copy(source, models / f"{NAME}.onnx")
        with MjpegServer(rate_hz=15) as door:
            camera = f"{CAMERA}=http://127.0.0.1:{door.port}/"
            server = Server("--models", str(models), "--reload-s", "0.5", "--camera", camera)
            server.wait_until_ready()
            soak = Soak(server.url, labelled_pictures(source), args.seconds)
            growth = asyncio.run(run(soak, server.process.pid, models / f"{NAME}.onnx", source, args.seconds))
            code, log = server.stop()
    errors = [line for line in log.splitlines() if is_error(line)]
    print(f"{args.seconds:.0f} s: {dict(sorted(soak.seen.items()))}")
    print(f"growth: {growth[0] / 1e6:+.1f} MB, {growth[1]:+d} descriptors; exit code {code}")
    for text in soak.wrong + errors[:10]:
        print(text)
    is_right = not soak.wrong and not errors and code == 0
    return 0 if is_right and growth[0] < ALLOWED_GROWTH_BYTES and growth[1] <= ALLOWED_DESCRIPTORS else 1


def is_error(line: str) -> bool:
    """Return whether a line of the log is not JSON, or an error other than that a bad model was refused."""
    try:
        return bool(json.loads(line)["level"] == "error") and "stays as it was" not in line
    except ValueError:
        return True


async def run(soak: Soak, process: int, model: Path, source: Path, seconds: float) -> tuple[int, int]:
    """Run all clients until the end.

    Return the growth of memory in bytes since the warm-up, between medians, and of descriptors since the start.
    """
    start_descriptors = resources(process)[1]
    clients = [soak.good() for _ in range(8)] + [soak.bad() for _ in range(4)] + [soak.leaving() for _ in range(4)]
    clients += [soak.idle() for _ in range(2)] + [soak.viewer() for _ in range(2)] + [soak.drains(source)]
    tasks = [asyncio.create_task(client) for client in [*clients, soak.reloads(model, source)]]
    samples = []
    for number in range(1, SAMPLES + 1):
        await asyncio.sleep(seconds / SAMPLES)
        samples.append(resources(process))
        memory, descriptors = samples[-1]
        if number % PRINTED == 0:
            print(f"{seconds * number / SAMPLES:6.0f} s: {memory / 1e6:.1f} MB, {descriptors} descriptors", flush=True)
    await asyncio.gather(*tasks)
    await asyncio.sleep(SETTLES_S)
    memory_bytes = [memory for memory, _ in samples]
    before = statistics.median(memory_bytes[WARM_UP : WARM_UP + COMPARED])
    after = statistics.median(memory_bytes[-COMPARED:])
    return round(after - before), resources(process)[1] - start_descriptors


def labelled_pictures(model: Path) -> dict[bytes, str]:
    """Return JPEGs of scikit-image's pictures, and the runtime's label for each."""
    found = {}
    with Classifier.from_file(model) as classifier:
        for name in ("chelsea", "coffee", "astronaut", "motorcycle_left"):
            out = io.BytesIO()
            Image.open(Path(skimage.__file__).parent / "data" / f"{name}.png").convert("RGB").save(out, "JPEG")
            found[out.getvalue()] = classifier.predict(out.getvalue()).best.label
    return found


def resources(process: int) -> tuple[int, int]:
    """Return resident memory in bytes, and open descriptors."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE"), len(os.listdir(f"/proc/{process}/fd"))


if __name__ == "__main__":
    raise SystemExit(main())
