"""Compile the native Nish in place.

python -m taijitu_runtime.native.build [--cuda]

It takes a C++17 compiler (CXX, or c++, g++ or clang++ on the PATH), and nvcc for --cuda (CUDA_HOME, the PATH, or
/usr/local/cuda). None of our modules is imported here: the wheel's build hook runs this file without its package.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

SOURCES = Path(__file__).parent
LIBRARY = "libtaijitu_nish.so"
CUDA_LIBRARY = "libtaijitu_nish_cuda.so"

# Contraction gives fused multiply-add, where the processor has it. The code neither throws nor uses libstdc++.
FLAGS = ["-std=c++17", "-O3", "-ffp-contract=fast", "-fno-exceptions", "-fno-rtti", "-fPIC", "-fvisibility=hidden"]
AVX2 = ["-mavx2", "-mfma"]
AVX512 = [*AVX2, "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl"]

CUDA_FOLDER = Path("/usr/local/cuda")
"""The folder of CUDA's packages; JetPack does not add its bin to the PATH."""

BOARDS = (87, 110)
"""Jetson Orin and Thor. Code for another GPU of their generation, 8.0 or 10.0, does not run there."""


class CompileError(Exception):
    """A compiler that is missing or failed, in one line."""


def find_compiler() -> list[str] | None:
    """Return the C++ compiler as the start of a command: CXX, or the first of c++, g++ and clang++; or None."""
    wanted = os.environ.get("CXX", "").split()
    if wanted:
        return wanted if shutil.which(wanted[0]) else None
    return next(([name] for name in ("c++", "g++", "clang++") if shutil.which(name)), None)


def find_nvcc() -> str | None:
    """Return NVIDIA's compiler: that of CUDA_HOME if set, otherwise on the PATH or in CUDA_FOLDER; or None."""
    home = os.environ.get("CUDA_HOME")
    if home:
        return shutil.which("nvcc", path=str(Path(home, "bin")))
    return shutil.which("nvcc") or shutil.which("nvcc", path=str(CUDA_FOLDER / "bin"))


def cuda_targets(nvcc: str) -> list[str]:
    """Return the GPUs that `nvcc` compiles for, as its arguments: the present one, or all kinds that it knows.

    All kinds means code for the first GPU of each generation, which the later ones run, and for the boards; and PTX of
    the oldest, which the driver of any other GPU compiles. (PTX of a later one would not load on an earlier GPU.)
    Raises CompileError where `nvcc` names none.
    """
    if _gpu_is_here():
        return ["-arch=native"]
    known = sorted(map(int, re.findall(r"\bsm_(\d+)\b", _run([nvcc, "--list-gpu-code"]))))
    if not known:
        raise CompileError(f"{nvcc}: got no architecture from --list-gpu-code, expected such as sm_87; update CUDA")
    oldest = known[0]
    chosen = [number for number in known if number == oldest or number % 10 == 0 or number in BOARDS]
    pairs = [f"-gencode=arch=compute_{number},code=sm_{number}" for number in chosen]
    return [*pairs, f"-gencode=arch=compute_{oldest},code=compute_{oldest}"]


def target_machine(compiler: Sequence[str]) -> str:
    """Return the processor that `compiler` compiles for, such as "x86_64" or "aarch64". Raises CompileError."""
    # By its macros: zig c++ does not take -dumpmachine together with a release of glibc in its -target.
    macros = _run([*compiler, "-dM", "-E", "-x", "c++", os.devnull])
    named = next((name for name in ("x86_64", "aarch64") if f"#define __{name}__ 1" in macros), None)
    return named or _run([*compiler, "-dumpmachine"]).partition("-")[0].strip()


def compile_passes(compiler: Sequence[str], folder: Path) -> list[Path]:
    """Compile the computation of Nish into `folder`, without the parts for ONNX Runtime; return the object files."""
    objects = [_compile([*compiler, *FLAGS], "nish_passes.cpp", folder, "nish_passes.o")]
    variants: dict[str, list[str]] = {"baseline": []}
    if target_machine(compiler) == "x86_64":
        variants |= {"avx2": AVX2, "avx512": AVX512}
    for name, flags in variants.items():
        objects.append(_compile([*compiler, *FLAGS, *flags], "nish_pass.cpp", folder, f"nish_pass_{name}.o"))
    return objects


def build_library(compiler: Sequence[str], folder: Path) -> Path:
    """Build LIBRARY in `folder`, completely or not at all, and return its path. Raises CompileError."""
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        objects = compile_passes(compiler, Path(scratch))
        objects.append(_compile([*compiler, *FLAGS], "nish_ort.cpp", Path(scratch), "nish_ort.o"))
        return _link([*compiler, "-shared", "-s", "-Wl,--as-needed"], objects, folder / LIBRARY)


def build_cuda_library(compiler: Sequence[str], nvcc: str, folder: Path) -> Path:
    """Build CUDA_LIBRARY, which also has the kernels for the CPU, as `build_library` does."""
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        objects = compile_passes(compiler, Path(scratch))
        objects.append(_compile([*compiler, *FLAGS, "-DTAIJITU_CUDA"], "nish_ort.cpp", Path(scratch), "nish_ort.o"))
        cuda = [nvcc, "-std=c++17", "-O3", *cuda_targets(nvcc), "-Xcompiler=-fPIC,-fvisibility=hidden"]
        objects.append(_compile(cuda, "nish_cuda.cu", Path(scratch), "nish_cuda.o"))
        return _link([nvcc, "-shared"], objects, folder / CUDA_LIBRARY)


def main(argv: list[str] | None = None) -> int:
    """Build the library next to the sources, where the runtime looks; 0: built, 2: not possible, with one line why."""
    name = "python -m taijitu_runtime.native.build"
    parser = argparse.ArgumentParser(prog=name, description="Compile the native Nish in place.")
    parser.add_argument("--cuda", action="store_true", help="build kernels for NVIDIA GPUs too; needs nvcc")
    arguments = parser.parse_args(argv)
    compiler, nvcc = find_compiler(), find_nvcc()
    try:
        if compiler is None:
            named = f" (CXX={os.environ['CXX']})" if os.environ.get("CXX") else ""
            raise CompileError(
                f"got no C++ compiler{named}, expected c++, g++ or clang++ on the PATH, or CXX to name one; install g++"
            )
        if arguments.cuda and nvcc is None:
            named = f" in CUDA_HOME={os.environ['CUDA_HOME']}" if os.environ.get("CUDA_HOME") else ""
            raise CompileError(
                f"got no nvcc{named}, expected it in CUDA_HOME/bin, on the PATH or in {CUDA_FOLDER / 'bin'}; install "
                "NVIDIA's CUDA toolkit"
            )
        if arguments.cuda and nvcc is not None:
            print(build_cuda_library(compiler, nvcc, SOURCES))
        else:
            print(build_library(compiler, SOURCES))
    except (CompileError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _gpu_is_here() -> bool:
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    count = ctypes.c_int(0)
    return driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value > 0


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
        raise CompileError(f"{command[0]}: got {error.strerror}, expected a compiler; {_other(command)}") from error
    if done.returncode != 0:
        lines = done.stderr.splitlines()
        reasons = [line for line in lines if "error" in line or "fatal" in line] or lines
        reason = reasons[0] if reasons else f"exit code {done.returncode}"
        raise CompileError(f"{command[0]} failed: {reason}; {_other(command)}")
    return done.stdout


def _other(command: Sequence[str]) -> str:
    if Path(command[0]).name == "nvcc":
        return "try another CUDA toolkit, named by CUDA_HOME"
    return "try another compiler, named by CXX"


if __name__ == "__main__":
    raise SystemExit(main())
