"""What the wheel holds, and that it is enough: a fresh environment with two extras answers about a picture."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest


def run(*command: str | Path, **kwargs: object) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, **kwargs)  # type: ignore[call-overload]
    assert done.returncode == 0, done.stderr
    return done  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def wheel(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built by hatchling as pip would."""
    out = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", out, cwd=root)
    (built,) = out.glob("*.whl")
    return built


def test_the_wheel_holds_the_four_packages_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    top = {name.split("/")[0] for name in names}
    assert top - {name for name in top if name.endswith(".dist-info")} == {
        "taijitu_export",
        "taijitu_runtime",
        "taijitu_server",
        "taijitu_training",
    }
    assert all(f"taijitu_{package}/py.typed" in names for package in ("export", "runtime", "server", "training"))


def test_no_module_is_named_like_somebody_elses(root: Path) -> None:
    ours = {
        path.stem for folder in ("training", "export", "runtime", "server") for path in (root / folder).glob("*.py")
    }
    assert ours
    assert not ours & (set(sys.stdlib_module_names) | {"torch", "onnx", "onnxruntime", "tensorrt", "cv2", "PIL"})


def test_pins_and_requirements_name_no_registry(root: Path) -> None:
    for name in ("constraints.txt", "pyproject.toml", "Makefile", ".ci/run"):
        text = (root / name).read_text()
        assert not re.search(r"https?://|--(extra-)?index-url|--find-links", text), name


@pytest.mark.slow
def test_an_edge_install_classifies_a_picture_and_shows_only_what_it_has(
    root: Path, wheel: Path, shipped_onnx: Path, photograph: Path, tmp_path: Path
) -> None:
    uv = Path(sys.executable).parent / "uv"
    venv = tmp_path / "edge"
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "UV_PYTHON")}
    run(uv, "venv", "--quiet", "--python", sys.executable, venv, env=environment)
    python = venv / "bin" / "python"
    requirement = f"taijitu[ort,camera] @ {wheel.as_uri()}"
    constraints = root / "constraints.txt"
    install = [uv, "pip", "install", "--quiet", "--python", python, "--constraints", constraints, requirement]
    try:
        run(*install, "--offline", env=environment)  # what make installed is in uv's cache
    except AssertionError:
        run(*install, env=environment)
    command = venv / "bin" / "taijitu"
    done = run(command, "classify", shipped_onnx, photograph, "--json", env=environment, cwd=tmp_path)
    assert json.loads(done.stdout)["results"][0]["answers"][0]["label"] == "cat"
    overview = run(command, env=environment, cwd=tmp_path).stdout
    installed, missing = overview.split("not installed here:")
    assert "classify" in installed
    assert 'pip install "taijitu[train]"' in missing
    assert not run(uv, "pip", "list", "--python", python, env=environment).stdout.count("torch")
    refused = subprocess.run([command, "train"], capture_output=True, text=True, check=False, env=environment)
    assert refused.returncode == 2
    assert "taijitu[train]" in refused.stderr
    assert refused.stderr.count("\n") == 1
