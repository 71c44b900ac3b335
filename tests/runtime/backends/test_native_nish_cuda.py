"""The CUDA kernels of Nish: compiled if nvcc is installed, run if there is a GPU."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from taijitu_runtime import native
from taijitu_runtime.backends import OrtBackend
from taijitu_runtime.native import build
from tests.helpers.tiny_nish_model import make_nish_onnx, nish_pictures

HERE = Path(__file__).parent


# What NVIDIA's documentation lists for CUDA 11.4, 12.6 and 13.0; the last is also that of the development environment.
CODES = {
    "11.4": (35, 37, 50, 52, 53, 60, 61, 62, 70, 72, 75, 80, 86, 87),
    "12.6": (50, 52, 53, 60, 61, 62, 70, 72, 75, 80, 86, 87, 89, 90),
    "13.0": (75, 80, 86, 87, 88, 89, 90, 100, 103, 110, 120, 121),
}


def fake_nvcc(folder: Path, *codes: int) -> Path:
    """Make a program in place of nvcc that supports these GPUs."""
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / "nvcc"
    program.write_text("#!/bin/sh\n" + "\n".join(f"echo sm_{code}" for code in codes) + "\n")
    program.chmod(0o755)
    return program


@pytest.mark.parametrize(
    ("cuda", "compiled", "oldest"),
    [
        ("11.4", {35, 50, 60, 70, 80, 87}, 35),
        ("12.6", {50, 60, 70, 80, 87, 90}, 50),
        ("13.0", {75, 80, 87, 90, 100, 110, 120}, 75),
    ],
)
def test_without_a_gpu_it_is_compiled_for_the_boards_too(
    cuda: str, compiled: set[int], oldest: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "_gpu_is_here", lambda: False)
    targets = " ".join(build.cuda_targets(str(fake_nvcc(tmp_path, *CODES[cuda]))))
    assert set(map(int, re.findall(r"code=sm_(\d+)", targets))) == compiled
    assert re.findall(r"code=compute_(\d+)", targets) == [str(oldest)]


def test_on_a_gpu_it_is_compiled_for_that(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "_gpu_is_here", lambda: True)
    assert build.cuda_targets("nvcc") == ["-arch=native"]


def test_nvcc_is_found_where_jetpack_puts_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_path, usual, own = (fake_nvcc(tmp_path / name / "bin", 87) for name in ("path", "cuda", "own"))
    monkeypatch.delenv("CUDA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(build, "CUDA_FOLDER", usual.parent.parent)
    assert build.find_nvcc() == str(usual)
    monkeypatch.setenv("PATH", str(on_path.parent))
    assert build.find_nvcc() == str(on_path)
    monkeypatch.setenv("CUDA_HOME", str(own.parent.parent))
    assert build.find_nvcc() == str(own)


def test_a_cuda_home_without_nvcc_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], compiler: list[str]
) -> None:
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    assert build.main(["--cuda"]) == 2
    printed = capsys.readouterr().err
    assert f"CUDA_HOME={tmp_path}" in printed
    assert printed.count("\n") == 1


@pytest.mark.parametrize(
    ("script", "fact"),
    [
        ("#!/bin/sh\necho \"nvcc fatal   : Unsupported gpu architecture 'compute_110'\" >&2\nexit 1\n", "compute_110"),
        ("#!/bin/sh\nexit 3\n", "3"),
        ("#!/bin/sh\nexit 0\n", "--list-gpu-code"),
        ("#!/nowhere/sh\n", "No such file"),
    ],
)
def test_an_nvcc_that_fails_is_one_line_that_names_cuda(
    script: str, fact: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(build, "_gpu_is_here", lambda: False)
    monkeypatch.setattr(build, "compile_passes", lambda *_: [])
    monkeypatch.setattr(build, "find_compiler", lambda: ["true"])
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    fake_nvcc(tmp_path / "bin").write_text(script)
    assert build.main(["--cuda"]) == 2
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1
    assert fact in printed
    assert "CUDA" in printed.partition(";")[2]
    assert "CXX" not in printed


@pytest.mark.slow
def test_the_library_has_code_for_orin_and_thor(cuda_library: Path, nvcc: str, cuobjdump: str) -> None:
    if build.cuda_targets(nvcc) == ["-arch=native"]:
        pytest.skip("a GPU is here: the library was compiled for it alone")
    environment = {**os.environ, "PATH": f"{Path(cuobjdump).parent}:{os.environ['PATH']}"}
    told = {
        flag: subprocess.run(
            [cuobjdump, flag, cuda_library], capture_output=True, text=True, check=True, env=environment
        ).stdout
        for flag in ("--list-elf", "--list-ptx")
    }
    known = subprocess.run([nvcc, "--list-gpu-code"], capture_output=True, text=True, check=True).stdout.split()
    for board in ("sm_87", "sm_110"):
        assert (board in told["--list-elf"]) == (board in known)
    oldest = min(known, key=lambda code: int(code.removeprefix("sm_")))
    assert set(re.findall(r"sm_\d+", told["--list-ptx"])) == {oldest}


@pytest.mark.slow
def test_the_library_with_cuda_kernels_serves_the_cpu_as_well(
    cuda_library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "LIBRARY", cuda_library)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    model = make_nish_onnx(tmp_path / "model.onnx")
    with OrtBackend(model) as ours, OrtBackend(model, native=False) as plain:
        np.testing.assert_allclose(ours.infer(nish_pictures(2)), plain.infer(nish_pictures(2)), rtol=1e-5, atol=1e-5)
    assert list((tmp_path / "cache" / "taijitu").iterdir())  # it did use the library


@pytest.mark.gpu
@pytest.mark.slow
def test_the_gpu_is_within_4_ulp_or_1e_7(compiler: list[str], nvcc: str, tmp_path: Path) -> None:
    objects = build.compile_passes(compiler, tmp_path)
    sources = [HERE / "nish_accuracy.cpp", HERE / "nish_accuracy_cuda.cu", build.SOURCES / "nish_cuda.cu"]
    program = tmp_path / "nish_accuracy"
    command = [nvcc, "-std=c++17", "-O2", "-DTAIJITU_CUDA", f"-I{build.SOURCES}", *sources, *objects, "-o", program]
    subprocess.run(list(map(str, command)), check=True)
    done = subprocess.run([program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "CUDA" in done.stdout


@pytest.mark.gpu
@pytest.mark.slow
def test_onnx_runtimes_cuda_provider_answers_as_the_cpu_does(
    cuda_library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has no CUDA provider: it takes onnxruntime-gpu")
    monkeypatch.setattr(native, "CUDA_LIBRARY", cuda_library)
    model = make_nish_onnx(tmp_path / "model.onnx")
    with OrtBackend(model, provider="cuda") as ours, OrtBackend(model, native=False) as plain:
        np.testing.assert_allclose(ours.infer(nish_pictures(2)), plain.infer(nish_pictures(2)), rtol=1e-2, atol=1e-2)
