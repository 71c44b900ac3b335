"""Build docker/*.Dockerfile and test the images, with Docker and compose.yaml.

python -m tools.docker_images [server ...]

Parts that need a GPU are left out (tools/compose.yaml). The Jetson's image is built for arm64, under qemu, on Debian 12
with a stand-in for the metadata of JetPack's TensorRT. It takes many minutes and 40 GB, and needs Docker with its
compose plugin; for arm64 `apt-get install qemu-user-static binfmt-support`; debootstrap and root if Debian's images
cannot be pulled. Parts that this machine cannot run are skipped with a message.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import skimage
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
CHECKPOINT = ROOT / "checkpoints" / "yynet_small_16_cifar10.pt"
PHOTOGRAPH = Path(skimage.__file__).parent / "data" / "chelsea.png"
STARTS_WITHIN_S = 300  # under qemu Python takes half a minute to import the server's packages
CAMERA_S = 60
PIPELINE = (
    "videotestsrc is-live=true ! videoconvert ! video/x-raw,format=BGR ! appsink drop=true max-buffers=1 sync=false"
)
TENSORRT = "/usr/lib/python3/dist-packages/tensorrt-10.3.0.dist-info/METADATA"
METADATA = "Metadata-Version: 2.1\nName: tensorrt\nVersion: 10.3.0\n"


@dataclass(frozen=True)
class Recipe:
    """One service of compose.yaml: the Debian release of its image, and the processor."""

    service: str
    release: str
    machine: str

    @property
    def platform(self) -> str:
        """Its name for Docker."""
        return f"linux/{self.machine}"


RECIPES = (
    Recipe("server", "trixie", "amd64"),
    Recipe("server-cuda", "trixie", "amd64"),
    Recipe("train", "trixie", "amd64"),
    Recipe("jetson", "bookworm", "arm64"),
)


class Service:
    """A service of compose.yaml, its image built; `folder` holds models/, data/ and runs/."""

    def __init__(self, name: str, folder: Path, base: str) -> None:
        self.name = name
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        self.address = f"http://127.0.0.1:{port}"
        self._environment = {
            "PORT": port,
            "BASE": base,
            "BASE_IMAGE": base,
            **{variable: str(folder / variable.lower()) for variable in ("MODELS", "DATA", "RUNS")},
        }
        self.compose("build", name)

    def compose(self, *words: str) -> str:
        """Return the output of `docker compose`."""
        files = ("--file", ROOT / "docker" / "compose.yaml", "--file", ROOT / "tools" / "compose.yaml")
        project = ("--project-name", "taijitu-test", "--project-directory", ROOT / "docker", "--profile", self.name)
        return run("docker", "compose", "--ansi=never", *files, *project, *words, **self._environment)

    def taijitu(self, *words: str) -> str:
        """Return the output of a command in a container of its own."""
        return self.compose("run", "--rm", "--no-TTY", self.name, *words)

    def shell(self, script: str) -> str:
        """Return the output of a line of shell in a container of its own."""
        return self.compose("run", "--rm", "--no-TTY", "--entrypoint", "sh", self.name, "-c", script)

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Start the server until its own check calls it healthy.

        On exit, end it with SIGTERM and expect exit code 0.
        """
        try:
            self.compose("up", "--detach", "--no-build", "--wait", f"--wait-timeout={STARTS_WITHIN_S}", self.name)
            yield
            self.compose("stop", self.name)
            code = self.compose("ps", "--all", "--format", "{{.ExitCode}}", self.name).strip()
        finally:
            print(self.compose("logs", "--no-log-prefix", self.name))
            self.compose("down")
        expect(code == "0", f"exit code {code} after SIGTERM")


def check_server(service: Service) -> None:
    """Check that it answers, cannot write, caches in memory, and has neither torch nor, on x86-64, a compiler."""
    said = service.shell("id --user; touch /opt/taijitu/file 2>&1 || true; python3 -c 'import torch' 2>&1 || true")
    expect(said.startswith("10001\n"), f"it runs as {said}")
    expect("Read-only file system" in said, "its root is writable")
    expect("No module named 'torch'" in said, "torch is installed")
    if service.name != "jetson":
        expect(not service.shell("command -v c++ g++ gcc cc clang || true"), "it has a compiler")
    checks = json.loads(service.taijitu("doctor", "--json"))["checks"]
    levels = {re.sub(r" [\d.]+$", "", check["subject"]): check["level"] for check in checks}  # without versions
    for subject in ("cache", "native Nish", "ONNX Runtime", "OpenCV"):
        expect(levels.get(subject) == "ok", f"taijitu doctor reports for {subject}: {levels.get(subject)}\n{checks}")
    with service.serving():
        reply = httpx.post(f"{service.address}/classify", content=PHOTOGRAPH.read_bytes(), timeout=60)
        print(f"{service.name}: {reply.status_code} {reply.text}")
        expect(reply.status_code == 200 and reply.json()["answers"][0]["label"] == "cat", "the answer is wrong")


def check_jetson(service: Service) -> None:
    """Check it like a server, and that frames come from GStreamer through the system's OpenCV."""
    check_server(service)
    camera = f"taijitu camera /models/model.onnx --source '{PIPELINE}' --jsonl -"
    lines = service.shell(f"timeout --preserve-status --signal=TERM {CAMERA_S} {camera}").splitlines()
    expect(bool(lines) and "answers" in json.loads(lines[-1]), f"the camera gave {lines}")


def check_train(service: Service) -> None:
    """Check that it exports the checkpoint, compared with PyTorch, and trains through torch.compile with its tools."""
    said = service.taijitu("onnx", f"/checkpoints/{CHECKPOINT.name}", "-o", "/runs/model.onnx")
    expect("checked against PyTorch" in said, f"no export: {said}")
    words = ["--model", "yynet_small_16", "--option", "act=nish", "--set", "epochs=1", "--set", "batch_size=8"]
    said = service.taijitu("train", "--data", "/data", "--out", "/runs/a", "--compile", *words)
    expect("epoch   1/1" in said, f"no training: {said}")


CHECKS = {"server": check_server, "server-cuda": check_server, "train": check_train, "jetson": check_jetson}


def base_of(recipe: Recipe, copies: list[str]) -> str:
    """Return the name of its base image: Debian with `copies`, each FILE:PATH, and a stand-in for JetPack."""
    name = f"taijitu-base:{recipe.service}"
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        pairs = [copy.split(":") for copy in copies]
        if recipe.service == "jetson":
            (folder / "METADATA").write_text(METADATA)
            pairs.append([str(folder / "METADATA"), TENSORRT])
        lines = [f"FROM {debian(recipe)}"]
        for number, (file, path) in enumerate(pairs):
            shutil.copy(file, folder / str(number))
            lines.append(f"COPY {number} {path}")
        (folder / "Dockerfile").write_text("\n".join(lines))
        run("docker", "build", "--platform", recipe.platform, "--tag", name, folder)
    return name


def debian(recipe: Recipe) -> str:
    """Return Debian's own image, or if it cannot be pulled, one made by debootstrap."""
    official, ours = f"debian:{recipe.release}-slim", f"taijitu-debian:{recipe.release}-{recipe.machine}"
    if works("docker", "pull", "--platform", recipe.platform, official):
        return official
    if not works("docker", "image", "inspect", ours):
        with tempfile.TemporaryDirectory(dir="/var/tmp") as tree, tempfile.NamedTemporaryFile(suffix=".tar") as archive:
            run("debootstrap", f"--arch={recipe.machine}", "--variant=minbase", recipe.release, tree)
            run("tar", "-C", tree, "-cf", archive.name, ".")
            run("docker", "import", "--platform", recipe.platform, archive.name, ours)
    return ours


def pictures(folder: Path) -> None:
    """Write light and dark pictures to train on."""
    for split, label, brightness in itertools.product(("train", "test"), ("dark", "light"), range(8)):
        place = folder / split / label
        place.mkdir(parents=True, exist_ok=True)
        grey = brightness + (200 if label == "light" else 0)
        Image.new("RGB", (32, 32), (grey, grey, grey)).save(place / f"{brightness}.png")


def run(*command: str | Path, **environment: str) -> str:
    """Return the output of `command`; its messages go to stderr. SystemExit if it fails."""
    words = list(map(str, command))
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=False, env={**os.environ, **environment})
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(words)}: exit code {done.returncode}\n{done.stdout[-2000:]}")
    return done.stdout


def works(*command: str) -> bool:
    """Return whether `command` succeeds."""
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def expect(is_so: bool, otherwise: str) -> None:
    """Raise SystemExit with the reason, unless the condition holds."""
    if not is_so:
        raise SystemExit(f"FAILED: {otherwise}")


def why_not(recipe: Recipe) -> str | None:
    """Return what this machine lacks for it, with the cure; None if it can be built."""
    if shutil.which("docker") is None or not works("docker", "compose", "version"):
        return "no docker with its compose plugin; install them"
    if not works("docker", "info"):
        return "the Docker daemon does not answer; start it, or ask for its group"
    handler = {"arm64": "qemu-aarch64", "amd64": "qemu-x86_64"}[recipe.machine]
    is_foreign = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine()) != recipe.machine
    if is_foreign and not Path("/proc/sys/fs/binfmt_misc", handler).exists():
        return f"no {handler}: apt-get install qemu-user-static binfmt-support; update-binfmts --enable {handler}"
    return None


def main() -> int:
    """Run the checks; exit code 0: everything that can run here is right."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("services", nargs="*", help=f"any of {', '.join(CHECKS)} (default: all)")
    parser.add_argument(
        "--copy",
        action="append",
        default=[],
        metavar="FILE:PATH",
        help="copy a file into the base image, such as certificates",
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir="/var/tmp") as text:
        folder = Path(text)
        folder.chmod(0o755)
        for name, mode in (("models", 0o755), ("runs", 0o777)):
            (folder / name).mkdir()
            (folder / name).chmod(mode)
        run(sys.executable, ROOT / "export" / "to_onnx.py", CHECKPOINT, "-o", folder / "models" / "model.onnx")
        pictures(folder / "data")
        for recipe in RECIPES:
            if options.services and recipe.service not in options.services:
                continue
            if reason := why_not(recipe):
                print(f"{recipe.service}: SKIPPED: {reason}")
                continue
            CHECKS[recipe.service](Service(recipe.service, folder, base_of(recipe, options.copy)))
            print(f"{recipe.service}: passed")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
