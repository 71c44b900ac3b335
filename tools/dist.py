"""Build the published files: the source archive, a pure wheel, and wheels with the native Nish.

python -m tools.dist [--out DIR]

The wheels are built from the source archive, so that it is known to be complete. Zig, from the package ziglang,
compiles the native Nish; it contains a C++ compiler for both processors and an old enough glibc: manylinux_2_28. Then
twine, check-wheel-contents and auditwheel check each file. No network is needed.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parent.parent
PLATFORMS = {
    "manylinux_2_28_x86_64": "x86_64-linux-gnu.2.28",
    "manylinux_2_28_aarch64": "aarch64-linux-gnu.2.28",
}
"""The tags of the wheels with the native Nish, and zig's names for their targets."""


def main(argv: list[str] | None = None) -> int:
    """Build and check everything; raises an exception if anything is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tools.dist", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "dist", metavar="DIR", help="emptied first (default: dist/)")
    out = parser.parse_args(argv).out
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    archive = build_sdist(out)
    with tempfile.TemporaryDirectory() as scratch:
        with tarfile.open(archive) as packed:
            packed.extractall(scratch, filter="data")
        (source,) = Path(scratch).iterdir()
        build_wheel(source, out, {"TAIJITU_WHEEL": "any"})
        for tag, target in PLATFORMS.items():
            compiler = f"{sys.executable} -m ziglang c++ -target {target}"
            build_wheel(source, out, {"TAIJITU_WHEEL": tag, "CXX": compiler})
    check(out)
    for file in sorted(out.iterdir()):
        print(f"{file}: {file.stat().st_size / 1e3:.0f} kB")
    return 0


def build_sdist(out: Path) -> Path:
    """Build the source archive of this tree."""
    run(sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", out, cwd=ROOT)
    (archive,) = out.glob("*.tar.gz")
    return archive


def build_wheel(source: Path, out: Path, variables: Mapping[str, str]) -> None:
    """Build a wheel from an unpacked source archive; environment variables select its kind."""
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", out, cwd=source, variables=variables)


def check(out: Path) -> None:
    """Raise RuntimeError unless the files are fit to be published."""
    files = sorted(out.iterdir())
    wheels = [file for file in files if file.suffix == ".whl"]
    run(sys.executable, "-m", "twine", "check", "--strict", *files)
    run(sys.executable, "-m", "check_wheel_contents", *wheels)
    for wheel in wheels:
        tag = wheel.stem.rpartition("-")[2]
        if tag == "any":
            continue
        told = run(sys.executable, "-m", "auditwheel", "show", wheel)
        found = re.search(r'tag:\s+"manylinux_2_(\d+)_(\w+)"', " ".join(told.split()))
        if found is None or int(found[1]) > 28 or not tag.endswith(f"_{found[2]}"):
            raise RuntimeError(
                f"{wheel}: got this report of auditwheel: {told}; expected a wheel that conforms to {tag}"
            )


def run(*command: str | Path, cwd: Path | None = None, variables: Mapping[str, str] | None = None) -> str:
    """Return a program's output. RuntimeError if it fails."""
    environment = {**os.environ, **(variables or {})}
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    raise SystemExit(main())
