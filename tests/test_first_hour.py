"""The report of `make test-gpu`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from taijitu_runtime.backends import cuda
from tools.first_hour import GPU_TESTS, Here, Step, engine_steps, provider_steps, write_report


class Driver:
    """CUDA's driver of a machine with a GPU: every call succeeds."""

    CUresult = SimpleNamespace(CUDA_SUCCESS=0)
    CUdevice_attribute = SimpleNamespace(
        CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR=8,
        CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR=7,
        CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT=16,
    )

    def __init__(self) -> None:
        self.released = 0

    def cuDeviceGetName(self, length: int, device: int) -> tuple[int, bytes]:  # noqa: N802
        return 0, b"Orin\0"

    def cuDeviceGetAttribute(self, kind: int, device: int) -> tuple[int, int]:  # noqa: N802
        return 0, kind

    def cuDeviceTotalMem(self, device: int) -> tuple[int, int]:  # noqa: N802
        return 0, 8 << 30

    def cuDriverGetVersion(self) -> tuple[int, int]:  # noqa: N802
        return 0, 12060

    def cuDevicePrimaryCtxRelease(self, device: int) -> tuple[int]:  # noqa: N802
        self.released += 1
        return (0,)

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments: (0, 0)


def test_a_gpu_is_found_named_and_freed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    driver = Driver()
    monkeypatch.setattr(cuda, "require", lambda module, install: driver)
    here = Here.look()
    assert here.no_gpu is None
    assert here.without_provider("cpu") is None
    assert driver.released == 1
    write_report(tmp_path, here, [])
    for fact in ("Orin", "16 multiprocessors", "8.7", "CUDA 12.6"):
        assert fact in json.loads((tmp_path / "report.json").read_text())["gpu"]
        assert fact in (tmp_path / "report.md").read_text()


def test_the_int8_that_tensorrt_rtx_lacks_is_not_a_failure(tmp_path: Path) -> None:
    here = Here(no_gpu="no driver", providers=())
    outcomes = {step.subject: step.outcome for step in engine_steps("small int8", tmp_path / "small.int8.onnx", here)}
    assert outcomes["small int8: rtx engine --int8"] == "not here"


def test_every_test_that_needs_a_gpu_is_run(root: Path) -> None:
    marked = [path for path in (root / "tests").rglob("test_*.py") if "@pytest.mark.gpu\n" in path.read_text()]
    assert len(marked) > len(GPU_TESTS)
    for path in marked:
        assert any(path.is_relative_to(root / folder) for folder in GPU_TESTS), path


def test_the_report_has_what_ran_what_failed_and_what_is_not_here(shipped_onnx: Path, tmp_path: Path) -> None:
    here = Here(no_gpu="no driver", providers=("CPUExecutionProvider",))
    steps = [
        *provider_steps("small", shipped_onnx, here),
        Step.run("broken", sys.executable, "-c", "print('why'); raise SystemExit('got x | y')"),
    ]
    write_report(tmp_path, here, steps)
    outcomes = {step.subject: step.outcome for step in steps}
    assert outcomes["small: ONNX Runtime, cpu"] == "ran"
    assert outcomes["small: ONNX Runtime, cuda"] == "not here"
    assert outcomes["broken"] == "failed"
    rows = {line.split(" | ")[0]: line for line in (tmp_path / "report.md").read_text().splitlines()}
    measured = float(rows["| small: ONNX Runtime, cpu"].split(" | ")[2])
    assert measured > 0
    assert "got x \\| y" in rows["| broken"]
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["no_gpu"] == "no driver"
    assert "why" in report["steps"][-1]["printed"]
    assert [step["outcome"] for step in report["steps"]] == [step.outcome for step in steps]
