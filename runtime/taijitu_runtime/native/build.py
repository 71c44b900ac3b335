"""Compile the native Nish in place.

python -m taijitu_runtime.native.build [--cuda]

It takes a C++17 compiler (CXX, or c++, g++ or clang++ on the PATH), and nvcc for --cuda. Nothing of ours is imported
here: the wheel's build hook runs this file without its package.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

SOURCES = Path(__file__).parent
LIBRARY = "libtaijitu_nish.so"
CUDA_LIBRARY = "libtaijitu_nish_cuda.so"

# Contraction is into fused multiply-add, where there is one. Nothing throws, and nothing of libstdc++ is used.
FLAGS = ["-std=c++17", "-O3", "-ffp-contract=fast", "-fno-exceptions", "-fno-rtti", "-fPIC", "-fvisibility=hidden"]
AVX2 = ["-mavx2", "-mfma"]
AVX512 = [*AVX2, "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl"]


class CompileError(Exception):
    """A compiler that is missing or failed, in one line."""


def find_compiler() -> list[str] | None:
    """The C++ compiler as the start of a command: CXX, else the first of c++, g++ and clang++; None without any."""
    wanted = os.environ.get("CXX", "").split()
    if wanted:
        return wanted if shutil.which(wanted[0]) else None
    return next(([name] for name in ("c++", "g++", "clang++") if shutil.which(name)), None)


def target_machine(compiler: Sequence[str]) -> str:
    """The kind of processor that `compiler` compiles for, such as "x86_64" or "aarch64". CompileError if it fails."""
    return _run([*compiler, "-dumpmachine"]).partition("-")[0].strip()


def compile_passes(compiler: Sequence[str], folder: Path) -> list[Path]:
    """Compile into `folder` what computes Nish, without what ONNX Runtime needs around it; the object files."""
    objects = [_compile([*compiler, *FLAGS], "nish_passes.cpp", folder, "nish_passes.o")]
    variants: dict[str, list[str]] = {"baseline": []}
    if target_machine(compiler) == "x86_64":
        variants |= {"avx2": AVX2, "avx512": AVX512}
    for name, flags in variants.items():
        objects.append(_compile([*compiler, *FLAGS, *flags], "nish_pass.cpp", folder, f"nish_pass_{name}.o"))
    return objects


def build_library(compiler: Sequence[str], folder: Path) -> Path:
    """Build LIBRARY in `folder`, appearing whole or not at all; its path. CompileError if the compiler fails."""
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        objects = compile_passes(compiler, Path(scratch))
        objects.append(_compile([*compiler, *FLAGS], "nish_ort.cpp", Path(scratch), "nish_ort.o"))
        return _link([*compiler, "-shared", "-Wl,--as-needed"], objects, folder / LIBRARY)


def build_cuda_library(compiler: Sequence[str], nvcc: str, folder: Path) -> Path:
    """Build CUDA_LIBRARY, which has the kernels for the CPU too, as `build_library` does."""
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        objects = compile_passes(compiler, Path(scratch))
        objects.append(_compile([*compiler, *FLAGS, "-DTAIJITU_CUDA"], "nish_ort.cpp", Path(scratch), "nish_ort.o"))
        cuda = [nvcc, "-std=c++17", "-O3", "-arch=all-major", "-Xcompiler=-fPIC,-fvisibility=hidden"]
        objects.append(_compile(cuda, "nish_cuda.cu", Path(scratch), "nish_cuda.o"))
        return _link([nvcc, "-shared"], objects, folder / CUDA_LIBRARY)


def main(argv: list[str] | None = None) -> int:
    """Build beside the sources, where the runtime looks. Exit code 2, and one line, where that is not possible."""
    name = "python -m taijitu_runtime.native.build"
    parser = argparse.ArgumentParser(prog=name, description="Compile the native Nish in place.")
    parser.add_argument("--cuda", action="store_true", help="with kernels for NVIDIA GPUs; takes nvcc")
    arguments = parser.parse_args(argv)
    compiler, nvcc = find_compiler(), shutil.which("nvcc")
    try:
        if compiler is None:
            named = f" (CXX={os.environ['CXX']})" if os.environ.get("CXX") else ""
            raise CompileError(
                f"got no C++ compiler{named}, expected c++, g++ or clang++ on the PATH, or CXX to name one; install g++"
            )
        if arguments.cuda and nvcc is None:
            raise CompileError("got no nvcc, expected it on the PATH; install NVIDIA's CUDA toolkit")
        if arguments.cuda and nvcc is not None:
            print(build_cuda_library(compiler, nvcc, SOURCES))
        else:
            print(build_library(compiler, SOURCES))
    except (CompileError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _compile(compiler: Sequence[str], source: str, folder: Path, target: str) -> Path:
    _run([*compiler, "-c", str(SOURCES / source), "-o", str(folder / target)])
    return folder / target


def _link(linker: Sequence[str], objects: Sequence[Path], target: Path) -> Path:
    whole = objects[0].with_name(target.name)
    _run([*linker, *map(str, objects), "-o", str(whole)])
    whole.replace(target)
    return target


def _run(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise CompileError(f"{command[0]}: got {error.strerror}, expected a compiler; set CXX to one") from error
    if done.returncode != 0:
        reasons = [line for line in done.stderr.splitlines() if "error" in line] or done.stderr.splitlines()
        reason = reasons[0] if reasons else f"exit code {done.returncode}"
        raise CompileError(f"{command[0]} failed: {reason}; try another compiler, named by CXX")
    return done.stdout


if __name__ == "__main__":
    raise SystemExit(main())
