"""Nothing is made of an ONNX file that does not answer as its passport says: what was made would be proven."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from taijitu_export.decision.cli import main as calibrate
from taijitu_export.engine.cli import main as engine
from taijitu_export.to_onnx.cli import main as to_onnx
from taijitu_runtime.classifier import Classifier
from taijitu_runtime.proof import prove
from taijitu_server.deploy.deepstream import main as deepstream
from taijitu_server.deploy.ray_app import main as ray_app
from taijitu_server.deploy.triton_repo import main as triton_repo
from tests.helpers.changed_model import with_weights

COMMANDS: list[tuple[Callable[[list[str]], int], list[str]]] = [
    (to_onnx, ["-o", "made.onnx", "--precision", "fp16"]),
    (calibrate, ["-o", "made.onnx", "--data", "pictures"]),
    (engine, ["--saveEngine=made.engine"]),
    (engine, ["--saveEngine=made.engine", "--fp16"]),
    (triton_repo, ["--out", "made"]),
    (ray_app, ["--out", "made"]),
    (deepstream, ["--out", "made"]),
]
Fault = Callable[..., tuple[int, str]]


@pytest.fixture(params=COMMANDS, ids=lambda command: f"{command[0].__module__} {command[1][-1]}")
def fault(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Fault:
    """Give what a command says of model.onnx, in a folder with pictures of two labels, where it makes nothing.

    It is called with the names of further files there.
    """
    monkeypatch.chdir(tmp_path)
    for label in ("cat", "dog"):
        (tmp_path / "pictures" / label).mkdir(parents=True)
        for number in range(3):
            picture = tmp_path / "pictures" / label / f"{number}.ppm"
            picture.write_bytes(b"P6 32 32 255\n" + bytes([number]) * 3072)
    main, arguments = request.param

    def made(*more: str) -> tuple[int, str]:
        code = main(["model.onnx", *arguments])
        assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx", "pictures", *more]
        return code, capsys.readouterr().err

    return made


def damaged(model: Path, path: Path) -> Path:
    """Write a copy with other weights."""
    return with_weights(model, path, lambda weights: weights + 0.05 * np.abs(weights).max())


def test_nothing_is_made_of_a_file_that_fails_its_proof(fault: Fault, shipped_onnx: Path) -> None:
    damaged(shipped_onnx, Path("model.onnx"))
    code, error = fault()
    assert (code, error.count("\n")) == (1, 1)
    assert "model.onnx: not proven" in error


def test_nothing_is_made_of_a_file_that_is_replaced_while_it_is_proven(
    fault: Fault, shipped_onnx: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copyfile(shipped_onnx, "model.onnx")
    other, run = damaged(shipped_onnx, Path("other.onnx")), prove.proof_of

    def proof_of(classifier: Classifier) -> prove.Proof:
        found = run(classifier)
        other.replace("model.onnx")
        return found

    monkeypatch.setattr(prove, "proof_of", proof_of)
    code, error = fault()
    assert (code, error.count("\n")) == (2, 1)
    assert "model.onnx: got another file" in error


def test_nothing_is_made_of_a_file_whose_weights_are_replaced_while_it_is_proven(
    fault: Fault, shipped_onnx: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    onnx.save(onnx.load(shipped_onnx), "model.onnx", save_as_external_data=True, location="weights")
    run = prove.proof_of

    def proof_of(classifier: Classifier) -> prove.Proof:
        found = run(classifier)
        Path("other").write_bytes(bytes(Path("weights").stat().st_size))
        Path("other").replace("weights")
        return found

    monkeypatch.setattr(prove, "proof_of", proof_of)
    code, error = fault("weights")
    assert (code, error.count("\n")) == (2, 1)
    assert "model.onnx: got another file" in error or "weights in other files" in error  # the server's take one file
