"""`taijitu doctor` as a whole: its output and exit code, and how it tests libraries in child processes."""

from __future__ import annotations

import ast
import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from taijitu_runtime.doctor.child import ask, try_import
from taijitu_runtime.doctor.cli import build_parser
from taijitu_runtime.doctor.cures import cure
from taijitu_runtime.doctor.libraries import LIBRARIES
from tests.helpers.environments import fresh_environment

DOCTOR = "import sys; from taijitu_runtime.doctor.cli import main; sys.exit(main(sys.argv[1:]))"
FOREIGN = "/opt/ros/lib/python3.2/site-packages"


def doctor(
    root: Path, *arguments: str, python: Path | str = sys.executable, path: str = ""
) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": f"{root / 'runtime'}:{path}"}
    command = [python, "-c", DOCTOR, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def test_json_is_one_object_and_agrees_with_the_exit_code(root: Path) -> None:
    done = doctor(root, "--json")
    document = json.loads(done.stdout)
    assert done.stderr == ""
    levels = [check["level"] for check in document["checks"]]
    assert (document["problems"], document["warnings"]) == (levels.count("problem"), levels.count("warning"))
    assert done.returncode == (1 if "problem" in levels else 0)
    assert all(bool(check["cure"]) == (check["level"] != "ok") for check in document["checks"])
    sections = {check["section"] for check in document["checks"]}
    assert {"Python and packages", "GPU", "Libraries", "Camera", "taijitu"} <= sections
    (runtime,) = (check for check in document["checks"] if check["subject"].startswith("ONNX Runtime"))
    assert runtime["level"] == "ok"
    assert re.fullmatch(r"ONNX Runtime \d+\.\d+\.\d+", runtime["subject"])


def test_a_problem_is_on_the_page_with_its_cure_and_the_exit_code_is_1(root: Path) -> None:
    done = doctor(root, path=FOREIGN)
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    (number,) = (number for number, line in enumerate(lines) if line.startswith("  ✗ PYTHONPATH "))
    assert FOREIGN in lines[number]
    column = lines[number].index(FOREIGN)
    assert lines[number + 1] == f"{' ' * column}do: unset PYTHONPATH, and look for it in ~/.bashrc"
    assert re.match(r"1 problem( and \d+ warnings?)?, \d+ checks ok$", lines[-1])
    assert "\033" not in done.stdout


def test_a_terminal_gets_colours_and_lines_that_fit(root: Path) -> None:
    def page(**settings: str) -> str:
        main_end, terminal = pty.openpty()
        environment = {**os.environ, "PYTHONPATH": f"{root / 'runtime'}:{FOREIGN}", "COLUMNS": "70", **settings}
        with subprocess.Popen([sys.executable, "-c", DOCTOR], stdout=terminal, env=environment):
            os.close(terminal)
            printed = b""
            while chunk := _read(main_end):
                printed += chunk
        os.close(main_end)
        return printed.decode()

    coloured = page(TERM="xterm", NO_COLOR="")
    assert "\033[31m✗\033[0m PYTHONPATH" in coloured
    plain = page(TERM="xterm", NO_COLOR="1")
    assert re.sub(r"\033\[\d+m", "", coloured) == plain
    assert max(len(line) for line in plain.splitlines() if "/" not in line) <= 70


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:  # how Linux says that the other end was closed
        return b""


def test_wrong_usage_is_one_line(root: Path) -> None:
    done = doctor(root, "--fix")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "taijitu doctor: unrecognized arguments: --fix; see taijitu doctor --help\n"


@pytest.mark.slow
def test_an_install_with_numpy_only_has_a_doctor_too(root: Path, tmp_path: Path) -> None:
    done = doctor(root, "--json", python=fresh_environment(tmp_path / "venv", "numpy"))
    assert done.returncode == 1, done.stderr
    found = {check["subject"]: check for check in json.loads(done.stdout)["checks"]}
    assert "[ort]" in found["backends"]["cure"]
    assert found["OpenCV"]["text"].startswith("not installed")


@pytest.fixture
def libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make modules that fail to load as real ones do."""
    sources = {
        "sound": "__version__ = '1.2'\nprint('noise on stdout')",
        "unfinished": "__version__ = '1.2'\nprint('no end of line', end='')",
        "gone": "import ctypes\nctypes.CDLL('libno-such.so.7')",
        "abort": "import os, sys\nprint('terminate called', file=sys.stderr, flush=True)\nos.abort()",
        "leave": "raise SystemExit(3)",
        "hang": "import time\ntime.sleep(60)",
        "lines": "raise ImportError('first line\\n  second line\\nthird')",
    }
    for name, source in sources.items():
        (tmp_path / f"pretend_{name}.py").write_text(source)
    (tmp_path / "pretend_uninstalled").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "state", "error"),
    [
        ("pretend_sound", "loaded", ""),
        ("pretend_unfinished", "loaded", ""),
        ("pretend_absent", "absent", ""),
        ("pretend_uninstalled", "absent", ""),
        (
            "pretend_gone",
            "broken",
            "libno-such.so.7: cannot open shared object file: No such file or directory",
        ),
        ("pretend_abort", "broken", "the process died of SIGABRT (terminate called)"),
        ("pretend_leave", "broken", "the process ended with exit code 3"),
        ("pretend_lines", "broken", "first line third"),
    ],
)
def test_the_outcome_of_an_import(libraries: Path, name: str, state: str, error: str) -> None:
    imported = try_import(name)
    assert (imported.state, imported.error) == (state, error)
    if state == "loaded":
        assert (imported.version, imported.file) == ("1.2", str(libraries / f"{name}.py"))


def test_a_pillow_without_its_binary_part_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "PIL").mkdir()
    (tmp_path / "PIL" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    assert try_import("PIL").error == "No module named 'PIL._imaging'"


def test_the_cure_names_the_variant_that_is_installed(root: Path, tmp_path: Path) -> None:
    (tmp_path / "cv2").mkdir()
    (tmp_path / "cv2" / "__init__.py").write_text("raise ImportError('cv2.abi3.so: file too short')")
    metadata = tmp_path / "opencv_contrib_python-4.10.0.84.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text("Metadata-Version: 2.1\nName: opencv-contrib-python\nVersion: 4.10.0.84\n")
    checks = json.loads(doctor(root, "--json", path=str(tmp_path)).stdout)["checks"]
    (found,) = (check for check in checks if check["subject"] == "OpenCV" and check["section"] == "Libraries")
    assert found["cure"] == "pip install --force-reinstall --no-cache-dir opencv-contrib-python"


@pytest.mark.usefixtures("libraries")
def test_an_import_that_hangs_is_given_up() -> None:
    assert ask("library", "pretend_hang", timeout_s=1).error == "no answer within 1 s"


def test_a_folder_of_the_project_is_not_taken_for_a_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "PIL.py").write_text("raise ImportError('the working directory was searched')")
    monkeypatch.chdir(tmp_path)
    assert try_import("PIL").state == "loaded"


def test_a_provider_is_tried_with_a_real_session() -> None:
    assert ask("provider", "cpu").value is None
    assert ask("provider", "cpu").error == ""
    answer: Any = ask("provider", "no-such")
    assert "no-such" in answer.error


@pytest.mark.parametrize(
    ("error", "expected"),
    [  # as the libraries say it
        ("libcuda.so.1: cannot open shared object file: No such file or directory", "install NVIDIA's driver; "),
        ("libGL.so.1: cannot open shared object file: No such file or directory", "apt-get install libgl1 "),
        ("libnvinfer.so.8: cannot open shared object file: No such file or directory", "install TensorRT's libraries"),
        ("libcudnn.so.8: cannot open shared object file: No such file", "install what brings libcudnn.so.8, or "),
        (
            "/usr/lib/aarch64-linux-gnu/libgomp.so.1: cannot allocate memory in static TLS block",
            "export LD_PRELOAD=/usr/lib/aarch64-linux-gnu/libgomp.so.1",
        ),
        ("numpy.core.multiarray failed to import", 'it was built for NumPy 1: pip install "numpy<2", or a newer lib'),
        ("/lib/libc.so.6: version `GLIBC_2.38' not found (required by x.so)", "it was built for a newer system"),
        ("x.so: invalid ELF header", "it was built for another processor: pip install --force-reinstall"),
        ("the process died of SIGILL", "it uses instructions that this processor lacks"),
        ("something else", "pip install --force-reinstall --no-cache-dir lib"),
    ],
)
def test_the_text_decides_the_cure(error: str, expected: str) -> None:
    assert cure(error, "lib").startswith(expected)


def test_every_line_and_flag_is_documented(root: Path) -> None:
    page = (root / "docs" / "doctor.md").read_text()
    subjects = set()
    for file in sorted((root / "runtime" / "taijitu_runtime" / "doctor").glob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            is_call = isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
            if (
                is_call
                and node.func.id in ("ok", "warning", "problem", "found")
                and isinstance(node.args[0], ast.Constant)
            ):
                subjects.add(node.args[0].value)
    subjects |= {library.title for library in LIBRARIES.values()}
    assert {"cache", "CSI cameras", "GPU files"} <= subjects
    assert [subject for subject in sorted(subjects) if f"`{subject}`" not in page] == []
    flags = {flag for action in build_parser()._actions for flag in action.option_strings if flag.startswith("--")}
    assert [flag for flag in sorted(flags - {"--help"}) if f"`{flag}`" not in page] == []
