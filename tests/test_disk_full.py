"""Every command that writes a file, on a full disk: one line, and no partial file."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from taijitu_export.comparison.cli import main as verify
from taijitu_export.engine.cli import main as engine
from taijitu_export.to_onnx.cli import main as onnx
from taijitu_server.deploy.ray_app import main as ray_app
from taijitu_server.deploy.triton_repo import main as triton_repo
from taijitu_training.figures.cli import main as visualize
from tests.helpers.full_disk import full_disk

ROOM_BYTES = 100


def files_in(folder: Path) -> set[Path]:
    """Return all files below, without folders."""
    return {path for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("main", "arguments"),
    [
        (onnx, ["{checkpoint}", "-o", "{out}/new.onnx"]),
        (onnx, ["{checkpoint}", "-o", "{out}/new.onnx", "--precision", "fp16"]),
        (engine, ["{onnx}", "--saveEngine={out}/new.engine"]),
        (verify, ["{onnx}", "--reference", "{checkpoint}", "--report", "{out}/new.html"]),
        (visualize, ["{checkpoint}", "--out", "{out}"]),
        (triton_repo, ["{onnx}", "--out", "{out}"]),
        (ray_app, ["{onnx}", "--out", "{out}/app"]),
    ],
)
def test_a_full_disk_is_one_line_and_leaves_no_file(
    main: Callable[[list[str]], int],
    arguments: list[str],
    shipped_checkpoint: Path,
    shipped_onnx: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out, scratch = tmp_path / "out", tmp_path / "scratch"
    out.mkdir()
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    paths = {"checkpoint": shipped_checkpoint, "onnx": shipped_onnx, "out": out}
    command = [argument.format(**paths) for argument in arguments]
    with full_disk(ROOM_BYTES):
        code = main(command)
    lines = capsys.readouterr().err.splitlines()
    assert code == 2
    assert str(tmp_path) in lines[-1]
    assert os.strerror(errno.EFBIG) in lines[-1]
    assert "Traceback" not in "\n".join(lines)
    assert files_in(tmp_path) == set()
