"""Nothing is made of an ONNX file that does not answer as its passport says: what was made would be proven."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
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

MAKERS = [
    (to_onnx, ["-o", "made.onnx", "--precision", "fp16"]),
    (calibrate, ["-o", "made.onnx", "--data", "pictures"]),
    (engine, ["--saveEngine=made.engine"]),
    (engine, ["--saveEngine=made.engine", "--fp16"]),
    (triton_repo, ["--out", "made"]),
    (ray_app, ["--out", "made"]),
    (deepstream, ["--out", "made"]),
]


@pytest.mark.parametrize(("main", "arguments"), MAKERS)
def test_nothing_is_made_of_a_file_that_fails_its_proof(
    main: Callable[[list[str]], int],
    arguments: list[str],
    shipped_onnx: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    with_weights(shipped_onnx, Path("damaged.onnx"), lambda weights: weights + 0.05 * np.abs(weights).max())
    make_pictures(tmp_path / "pictures")
    assert main(["damaged.onnx", *arguments]) == 1
    error = capsys.readouterr().err
    assert "damaged.onnx: not proven" in error
    assert error.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["damaged.onnx", "pictures"]


@pytest.mark.parametrize(("main", "arguments"), MAKERS)
def test_nothing_is_made_of_a_file_that_is_replaced_while_it_is_proven(
    main: Callable[[list[str]], int],
    arguments: list[str],
    shipped_onnx: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copyfile(shipped_onnx, "model.onnx")
    with_weights(shipped_onnx, Path("other.onnx"), lambda weights: weights + 0.05 * np.abs(weights).max())
    make_pictures(tmp_path / "pictures")
    run = prove.proof_of

    def proof_of(classifier: Classifier) -> prove.Proof:
        found = run(classifier)
        Path("other.onnx").replace("model.onnx")
        return found

    monkeypatch.setattr(prove, "proof_of", proof_of)
    assert main(["model.onnx", *arguments]) == 2
    error = capsys.readouterr().err
    assert "model.onnx: got another file" in error
    assert error.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx", "pictures"]


def make_pictures(folder: Path) -> None:
    """Write three pictures each of two labels."""
    for label in ("cat", "dog"):
        (folder / label).mkdir(parents=True)
        for number in range(3):
            (folder / label / f"{number}.ppm").write_bytes(b"P6 32 32 255\n" + bytes([number]) * 3072)
