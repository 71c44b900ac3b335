"""No command lets ONNX Runtime send anything: it leaves no identifier of the machine in the user's cache either."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


def identifiers(home: Path, root: Path, *arguments: str | Path) -> list[Path]:
    """Return the files that ONNX Runtime's telemetry leaves for a user with an empty home; it is off if CI is set."""
    home.mkdir()
    subprocess.run(
        [sys.executable, *map(str, arguments)],
        env={"HOME": str(home), "PATH": "/usr/bin:/bin"},
        cwd=root,
        check=True,
        capture_output=True,
    )
    return list(home.rglob("deviceid"))


@pytest.fixture(scope="module")
def plain_onnxruntime(tmp_path_factory: pytest.TempPathFactory, root: Path) -> None:
    """Skip the test if ONNX Runtime by itself leaves nothing."""
    if not identifiers(tmp_path_factory.mktemp("plain") / "home", root, "-c", "import onnxruntime"):
        pytest.skip("this ONNX Runtime has no telemetry")


@pytest.mark.usefixtures("plain_onnxruntime")
@pytest.mark.parametrize("script", ["runtime/classify.py", "export/verify.py"])
def test_no_command_sends_anything(
    script: str, tmp_path: Path, root: Path, shipped_onnx: Path, photograph: Path
) -> None:
    others = [photograph] if script == "runtime/classify.py" else ["--reference", shipped_onnx]
    assert not identifiers(tmp_path / "home", root, script, shipped_onnx, *others)


@pytest.mark.usefixtures("plain_onnxruntime")
def test_telemetry_can_be_turned_on(tmp_path: Path, root: Path) -> None:
    program = "import os; os.environ['ORT_DISABLE_TELEMETRY'] = '0'; import taijitu, onnxruntime"
    assert identifiers(tmp_path / "home", root, "-c", program)


@pytest.mark.usefixtures("plain_onnxruntime")
def test_importing_the_public_name_turns_it_off(tmp_path: Path, root: Path) -> None:
    assert not identifiers(tmp_path / "home", root, "-c", "import taijitu, onnxruntime")
