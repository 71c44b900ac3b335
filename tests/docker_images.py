"""Build docker/*.Dockerfile and answer pictures in them, without a Docker engine: python tests/docker_images.py

buildah runs the very Dockerfiles, in a chroot, on base images made by debootstrap; the server then starts as the image
says, as its user, with everything read-only but /tmp and /cache. For the Jetson's image that is arm64 by qemu, on
Debian 12 with a stand-in for the metadata of JetPack's TensorRT: no GPU, no TensorRT. It takes root, many minutes, and
`apt-get install buildah debootstrap qemu-user-static binfmt-support`; what this machine cannot do is skipped, said so.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import skimage
from PIL import Image as Picture

ROOT = Path(__file__).resolve().parent.parent
CHECKPOINT = ROOT / "checkpoints" / "yynet_small_16_cifar10.pt"
PHOTOGRAPH = Path(skimage.__file__).parent / "data" / "chelsea.png"
STARTS_WITHIN_S = 300  # under qemu Python takes half a minute to import what the server needs
CAMERA_S = 60
PIPELINE = (
    "videotestsrc is-live=true ! videoconvert ! video/x-raw,format=BGR ! appsink drop=true max-buffers=1 sync=false"
)
COMPILERS = ("c++", "g++", "gcc", "cc", "clang")

# ONNX Runtime reads it, and crashes on what it finds of the other machine under qemu; for that there is no /sys either.
CPUINFO = "processor\t: 0\nFeatures\t: fp asimd\nCPU implementer\t: 0x41\nCPU architecture: 8\nCPU part\t: 0xd42\n"
TENSORRT = "usr/lib/python3/dist-packages/tensorrt-10.3.0.dist-info/METADATA"

# $1 the root, $2 the folder at /models, $3 the user, $4 exec or noexec for what is writable, as in compose.yaml, $5 a
# file for /proc/cpuinfo or nothing; the rest is the command.
ENTER = """
root=$1 models=$2 user=$3 options=nosuid,nodev,$4 cpuinfo=$5; shift 5
mount --bind -o ro "$root" "$root"; mount -o remount,bind,ro "$root"
mount -t proc proc "$root/proc"; mount --rbind /dev "$root/dev"
mount -t tmpfs -o "$options,mode=1777" tmp "$root/tmp"
mount -t tmpfs -o "$options,mode=700,uid=$user,gid=$user" cache "$root/cache"
mount --bind "$models" "$root/models"; mount -o remount,bind,ro "$root/models"
if [ -n "$cpuinfo" ]; then mount --bind "$cpuinfo" "$root/proc/cpuinfo"; fi
exec chroot "$root" setpriv --reuid "$user" --regid "$user" --clear-groups --no-new-privs --bounding-set -all "$@"
"""


@dataclass(frozen=True)
class Recipe:
    """One image: its Dockerfile, Debian's release that stands for its base, and the processor."""

    name: str
    release: str
    machine: str
    arguments: tuple[str, ...] = ()
    stand_in: str | None = None
    """A package's metadata that the base has to bring, as a path in it."""

    @property
    def dockerfile(self) -> Path:
        """Its path; `server-cuda` is of server.Dockerfile."""
        return ROOT / "docker" / f"{self.name.partition('-')[0]}.Dockerfile"


RECIPES = (
    Recipe("server", "trixie", "amd64"),
    Recipe("server-cuda", "trixie", "amd64", arguments=("EXTRA=server-cuda",)),
    Recipe("train", "trixie", "amd64"),
    Recipe("jetson", "bookworm", "arm64", stand_in=TENSORRT),
)


class Workshop:
    """buildah with a storage of its own below `folder`, and the volumes that each build step sees."""

    def __init__(self, folder: Path, volumes: list[str]) -> None:
        self.folder = folder
        self.volumes = volumes

    def buildah(self, *arguments: str | Path) -> str:
        """Run it; what it prints."""
        return run("buildah", "--root", self.folder / "storage", "--runroot", self.folder / "run", *arguments)

    def base(self, recipe: Recipe) -> str:
        """The name of an image of a bare Debian."""
        name = f"localhost/{recipe.release}-{recipe.machine}"
        if name in self.buildah("images", "--format", "{{.Name}}").split():
            return name
        tree, archive = self.folder / name, self.folder / f"{name}.tar"
        shutil.rmtree(tree, ignore_errors=True)
        tree.mkdir(parents=True)
        run("debootstrap", f"--arch={recipe.machine}", "--variant=minbase", recipe.release, tree)
        if recipe.stand_in:
            metadata = tree / recipe.stand_in
            metadata.parent.mkdir(parents=True)
            package, version = metadata.parent.stem.split("-")
            metadata.write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
        run("tar", "-C", tree, "-cf", archive, ".")
        container = self.buildah("from", "--arch", recipe.machine, "scratch").strip()
        self.buildah("add", "--quiet", container, archive, "/")
        self.buildah("commit", "--quiet", "--rm", container, name)
        shutil.rmtree(tree)
        archive.unlink()
        return name

    def build(self, recipe: Recipe) -> Image:
        """Every step of the Dockerfile."""
        tag = f"localhost/taijitu-{recipe.name}"
        command = ["build", "--isolation", "chroot", "--format", "docker", "--layers", "--pull-never"]
        command += ["--arch", recipe.machine, "--tag", tag, "--file", recipe.dockerfile]
        command += [part for volume in self.volumes for part in ("--volume", volume)]
        base = self.base(recipe)
        self.buildah(*command, *(f"--build-arg={one}" for one in (f"BASE={base}", *recipe.arguments)), ROOT)
        config = json.loads(self.buildah("inspect", "--type", "image", tag))["Docker"]["config"]
        self.buildah("rm", "--all")
        container = self.buildah("from", "--pull-never", tag).strip()
        tree = Path(self.buildah("mount", container).strip())
        cpuinfo = self.folder / "cpuinfo"
        cpuinfo.write_text(CPUINFO)
        return Image(recipe, tree, config, cpuinfo if is_foreign(recipe.machine) else None)


@dataclass(frozen=True)
class Image:
    """A built image as a folder, with what it says about running it."""

    recipe: Recipe
    tree: Path
    config: dict[str, Any]
    cpuinfo: Path | None

    def words(self, key: str) -> list[str]:
        """A command of the image's configuration."""
        return list(self.config[key] or [])

    def command(self, models: Path, words: list[str], **environment: str) -> list[str]:
        """What runs `words` in a container of it: its user, its variables and `environment`, nothing writable."""
        user = str(self.config["User"]).partition(":")[0]
        variables = [*self.words("Env"), *(f"{name}={value}" for name, value in environment.items())]
        inside = ["env", "--ignore-environment", "--chdir=/", *variables, *words]
        enter = ["unshare", "--mount", "--propagation", "private", "sh", "-euc", ENTER, "enter"]
        execution = "exec" if self.recipe.name == "train" else "noexec"
        return [*enter, str(self.tree), str(models), user, execution, str(self.cpuinfo or ""), *inside]

    def run(self, models: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """`words` in a container of it, to the end."""
        command = self.command(models, list(words), **environment)
        return subprocess.run(command, capture_output=True, text=True, check=False)

    @contextmanager
    def serving(self, models: Path) -> Iterator[str]:
        """The image's own command, started, and judged well by the image's own health check; its address."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        environment = {"TAIJITU_PORT": port}
        words = [*self.words("Entrypoint"), *self.words("Cmd")]
        check = self.config["Healthcheck"]["Test"][1:]
        process = subprocess.Popen(self.command(models, words, **environment))
        try:
            deadline_s = time.monotonic() + STARTS_WITHIN_S
            while (said := self.run(models, *check, **environment)).returncode != 0:
                expect(process.poll() is None, "the server ended")
                expect(time.monotonic() < deadline_s, f"not healthy: {said.stdout}{said.stderr}")
                time.sleep(1)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.send_signal(signal.SIGTERM)
            code = process.wait(60)
        expect(code == 0, f"exit code {code} after SIGTERM")


def check_server(image: Image, models: Path) -> None:
    """It answers, cannot write, keeps its cache in memory, and has neither a compiler (x86) nor torch."""
    expect(str(image.config["User"]) not in ("", "0", "root"), "it runs as root")
    touched = image.run(models, "touch", "/opt/taijitu/file")
    expect("Read-only file system" in touched.stderr, f"the root is writable: {touched}")
    expect(not list(image.tree.glob("opt/taijitu/lib/python3*/site-packages/torch")), "torch is installed")
    if image.recipe.dockerfile.stem == "server":
        found = [name for name in COMPILERS if (image.tree / "usr/bin" / name).exists()]
        expect(not found, f"it has compilers: {found}")
    doctor = image.run(models, "taijitu", "doctor", "--json")
    checks = json.loads(doctor.stdout)["checks"]
    levels = {re.sub(r" [\d.]+$", "", check["subject"]): check["level"] for check in checks}  # without versions
    for subject in ("cache", "native Nish", "ONNX Runtime", "OpenCV"):
        expect(levels.get(subject) == "ok", f"taijitu doctor says of {subject}: {levels.get(subject)}\n{doctor.stdout}")
    with image.serving(models) as address:
        reply = httpx.post(f"{address}/classify", content=PHOTOGRAPH.read_bytes(), timeout=60)
        print(f"{image.recipe.name}: {reply.status_code} {reply.text}")
        expect(reply.status_code == 200 and reply.json()["answers"][0]["label"] == "cat", "the answer is wrong")


def check_jetson(image: Image, models: Path) -> None:
    """All of a server's, and frames come from GStreamer through the system's OpenCV."""
    check_server(image, models)
    words = ["taijitu", "camera", "/models/model.onnx", "--source", PIPELINE, "--jsonl", "-"]
    watched = image.run(models, "timeout", "--preserve-status", "--signal=TERM", str(CAMERA_S), *words)
    print(f"{image.recipe.name}: {watched.stderr}")
    expect(watched.returncode == 0 and '"answers"' in watched.stdout, "the camera gave nothing")


def check_train(image: Image, models: Path) -> None:
    """It exports the checkpoint, compared with PyTorch, and trains through torch.compile, which finds what it calls."""
    shutil.copy(CHECKPOINT, models / "model.pt")
    done = image.run(models, "taijitu", "onnx", "/models/model.pt", "-o", "/tmp/model.onnx")
    print(f"{image.recipe.name}: {done.stdout}{done.stderr}")
    expect(done.returncode == 0 and "checked against PyTorch" in done.stdout, "no export")
    words = ["taijitu", "train", "--data", "/models", "--out", "/tmp/run", "--compile", "--model", "yynet_small_16"]
    words += ["--option", "act=nish", "--set", "epochs=1", "--set", "batch_size=8"]
    trained = image.run(pictures(models.parent / "pictures"), *words)
    print(f"{image.recipe.name}: {trained.stdout}{trained.stderr}")
    expect(trained.returncode == 0 and "epoch   1/1" in trained.stdout, "no training")


CHECKS = {"server": check_server, "server-cuda": check_server, "train": check_train, "jetson": check_jetson}


def pictures(folder: Path) -> Path:
    """A folder of light and dark pictures to train on."""
    for split, label, brightness in itertools.product(("train", "test"), ("dark", "light"), range(8)):
        place = folder / split / label
        place.mkdir(parents=True, exist_ok=True)
        grey = brightness + (200 if label == "light" else 0)
        Picture.new("RGB", (32, 32), (grey, grey, grey)).save(place / f"{brightness}.png")
    return folder


def run(*command: str | Path) -> str:
    """What `command` prints; its messages go to stderr. SystemExit if it fails."""
    done = subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, command))}: exit code {done.returncode}\n{done.stdout[-2000:]}")
    return done.stdout


def expect(is_so: bool, otherwise: str) -> None:
    """SystemExit with the reason, unless it is so."""
    if not is_so:
        raise SystemExit(f"FAILED: {otherwise}")


def is_foreign(machine: str) -> bool:
    """Whether Debian's `machine` is not this one's processor."""
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine()) != machine


def why_not(recipe: Recipe) -> str | None:
    """What this machine lacks for it, with the cure; None where it can be built."""
    if os.geteuid() != 0:
        return "it takes root"
    missing = [tool for tool in ("buildah", "debootstrap", "unshare") if shutil.which(tool) is None]
    if missing:
        return f"apt-get install {' '.join(missing)}"
    handler = {"arm64": "qemu-aarch64", "amd64": "qemu-x86_64"}[recipe.machine]
    if is_foreign(recipe.machine) and not Path("/proc/sys/fs/binfmt_misc", handler).exists():
        return f"no {handler}: apt-get install qemu-user-static binfmt-support; update-binfmts --enable {handler}"
    return None


def main() -> int:
    """Exit code 0: what could be run here is right."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("images", nargs="*", help=f"of {', '.join(one.name for one in RECIPES)}; all without")
    parser.add_argument("--work", type=Path, default=Path("/var/tmp/taijitu-images"), help="kept for the next time")
    parser.add_argument("--volume", action="append", default=[], help="as of buildah: your pip.conf or certificates")
    options = parser.parse_args()
    models = options.work / "models"
    models.mkdir(parents=True, exist_ok=True)
    run(sys.executable, ROOT / "export" / "to_onnx.py", CHECKPOINT, "-o", models / "model.onnx")
    workshop = Workshop(options.work, options.volume)
    for recipe in RECIPES:
        if options.images and recipe.name not in options.images:
            continue
        if reason := why_not(recipe):
            print(f"{recipe.name}: SKIPPED: {reason}")
            continue
        image = workshop.build(recipe)
        CHECKS[recipe.name](image, models)
        print(f"{recipe.name}: passed")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
