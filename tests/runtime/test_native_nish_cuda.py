"""The CUDA kernels of Nish: compiled where nvcc is, run where a GPU is."""

from __future__ import annotations

import shutil
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


@pytest.fixture
def gpu() -> None:
    smi = shutil.which("nvidia-smi")
    if smi is None or subprocess.run([smi, "-L"], capture_output=True, check=False).returncode != 0:
        pytest.skip("no NVIDIA GPU: the CUDA kernels were compiled, and not run")


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


@pytest.mark.slow
def test_the_gpu_is_within_4_ulp_or_1e_7(compiler: list[str], nvcc: str, gpu: None, tmp_path: Path) -> None:
    objects = build.compile_passes(compiler, tmp_path)
    sources = [HERE / "nish_accuracy.cpp", HERE / "nish_accuracy_cuda.cu", build.SOURCES / "nish_cuda.cu"]
    program = tmp_path / "nish_accuracy"
    command = [nvcc, "-std=c++17", "-O2", "-DTAIJITU_CUDA", f"-I{build.SOURCES}", *sources, *objects, "-o", program]
    subprocess.run(list(map(str, command)), check=True)
    done = subprocess.run([program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "CUDA" in done.stdout


@pytest.mark.slow
def test_onnx_runtimes_cuda_provider_answers_as_the_cpu_does(
    cuda_library: Path, gpu: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has no CUDA provider: it takes onnxruntime-gpu")
    monkeypatch.setattr(native, "CUDA_LIBRARY", cuda_library)
    model = make_nish_onnx(tmp_path / "model.onnx")
    with OrtBackend(model, provider="cuda") as ours, OrtBackend(model, native=False) as plain:
        np.testing.assert_allclose(ours.infer(nish_pictures(2)), plain.infer(nish_pictures(2)), rtol=1e-2, atol=1e-2)
