"""A model proves itself before it takes traffic: one that fails is not served, and the reason is given."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests.helpers.changed_model import with_weights
from tests.helpers.server_process import Server
from tests.helpers.waiting import eventually


@pytest.fixture
def broken(shipped_onnx: Path, tmp_path: Path) -> Path:
    return with_weights(shipped_onnx, tmp_path / "broken.onnx", np.negative)


def get(server: Server, path: str) -> tuple[int, Any]:
    reply = httpx.get(f"{server.url}{path}", timeout=30)
    return reply.status_code, reply.json()


def test_one_that_fails_at_the_start_keeps_the_server_from_being_ready(
    shipped_onnx: Path, broken: Path, tmp_path: Path
) -> None:
    models = tmp_path / "models"
    models.mkdir()
    shutil.copy(shipped_onnx, models / "good.onnx")
    shutil.copy(broken, models / "other.onnx")
    running = Server("--models", str(models), "--reload-s", "0.1")
    eventually(lambda: get(running, "/health/live")[0] == 200)
    assert get(running, "/health/ready")[0] == 503
    listed = {served["model"]: served for served in get(running, "/models")[1]}
    assert listed["good"]["proof"]["outcome"] == "proven"
    assert "proof" not in listed["good"]["card"], "kilobytes of logits that no client reads"
    assert "not proven" in listed["other"]["failure"]

    shutil.copy(shipped_onnx, models / "new.part")
    (models / "new.part").replace(models / "other.onnx")
    eventually(lambda: get(running, "/health/ready")[0] == 200)
    assert set(get(running, "/health/ready")[1]["proofs"]) == {"good/1", "other/1"}

    shutil.copy(broken, models / "new.part")
    (models / "new.part").replace(models / "other.onnx")
    eventually(lambda: "other/1" in get(running, "/health/ready")[1]["failures"])
    assert get(running, "/health/ready")[1]["proofs"]["other/1"].startswith("proven"), "the old one continues"
    assert running.stop()[0] == 0


def test_one_that_fails_at_the_start_can_be_unloaded(shipped_onnx: Path, broken: Path, tmp_path: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()
    shutil.copy(shipped_onnx, models / "good.onnx")
    shutil.copy(broken, models / "other.onnx")
    running = Server("--models", str(models), "--reload-by-post")
    eventually(lambda: get(running, "/health/ready")[0] == 503)
    assert httpx.post(f"{running.url}/v2/repository/models/other/unload").status_code == 200
    assert get(running, "/health/ready")[0] == 200
    assert running.stop()[0] == 0


def test_the_only_model_failing_is_exit_code_1(broken: Path) -> None:
    assert Server(str(broken)).ended()[0] == 1


def test_with_warn_it_is_served_with_a_warning(start_server: Callable[..., Server], broken: Path) -> None:
    running = start_server(str(broken), "--prove", "warn")
    assert get(running, "/models")[1][0]["proof"]["outcome"] == "failed"
    code, log = running.stop()
    assert (code, '"warning"' in log) == (0, True)
