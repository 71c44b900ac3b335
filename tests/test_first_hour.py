"""The report of `make test-gpu`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tools.first_hour import Here, Step, provider_steps, write_report


def test_the_report_has_what_ran_what_failed_and_what_is_not_here(shipped_onnx: Path, tmp_path: Path) -> None:
    here = Here(no_gpu="no driver", providers=("CPUExecutionProvider",))
    steps = [
        *provider_steps("small", shipped_onnx, here),
        Step.run("broken", sys.executable, "-c", "raise SystemExit('got x | y')"),
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
    assert [step["outcome"] for step in report["steps"]] == [step.outcome for step in steps]
