"""No Python that the packages start runs files in the working directory."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.tiny_model import make_tiny_onnx

NAMES = ("json", "argparse", "runpy", "socket", "numpy", "cv2", "dataclasses", "typing", "ctypes")
TRAP = (
    "import pathlib\npathlib.Path(__file__).with_suffix('.ran').touch()\nraise SystemExit('a file of the folder ran')\n"
)
START = """
import os, subprocess, sys
sys.path[:] = {path!r}
from taijitu_runtime.child_python import python_command
os.chdir({folder!r})
sys.path.insert(0, "")  # as in an interactive Python
code = "import json, argparse, runpy, socket, numpy, taijitu_runtime; print(sys.argv[1], os.getcwd())"
raise SystemExit(subprocess.run(python_command("import os; " + code, "word")).returncode)
"""


@pytest.fixture
def trapped(tmp_path: Path) -> Path:
    """Make a folder of files with the names of modules, which report when they run."""
    folder = tmp_path / "trapped"
    folder.mkdir()
    for name in NAMES:
        (folder / f"{name}.py").write_text(TRAP)
    return folder


def ran(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.ran"))


def test_a_child_finds_what_its_parent_finds_and_not_the_working_directory(trapped: Path, root: Path) -> None:
    code = START.format(path=[*sys.path, str(root / "runtime")], folder=str(trapped))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"word {trapped}\n"), done.stderr
    assert ran(trapped) == []


def test_a_camera_that_is_started_among_such_files_runs_none(trapped: Path, root: Path, photograph: Path) -> None:
    model = make_tiny_onnx(trapped.parent / "tiny.onnx")
    (trapped.parent / "pictures").mkdir()
    (trapped.parent / "pictures" / "a.png").write_bytes(photograph.read_bytes())
    command = [sys.executable, root / "runtime" / "camera.py", model, "--source", trapped.parent / "pictures" / "*.png"]
    done = subprocess.run(
        list(map(str, [*command, "--jsonl", "-"])), capture_output=True, text=True, check=False, cwd=trapped
    )
    assert done.returncode == 0, done.stderr
    assert "a.png" in done.stdout
    assert ran(trapped) == []


def test_python_is_started_in_one_place(root: Path) -> None:
    places = [root / "runtime", root / "server" / "taijitu_server", root / "export"]
    starts = [
        path.name
        for place in places
        for path in place.rglob("*.py")
        if re.search(r"\[\s*sys\.executable", path.read_text(encoding="utf-8"))
    ]
    assert starts == ["child_python.py"]


def test_this_package_is_found_in_the_working_directory(root: Path) -> None:
    code = "from taijitu_runtime.child_python import search_path; print(search_path()[-1])"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root / "runtime", env=environment
    )
    assert done.stdout.strip() == str(root / "runtime")
