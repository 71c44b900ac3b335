"""The content of the wheel, and that it is enough: a fresh environment with two extras classifies a picture."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from taijitu_runtime.native import build
from tests.helpers.environments import UV, clean_environment, fresh_environment, run


@pytest.fixture(scope="module")
def wheel(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel by hatchling as pip would."""
    out = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", out, cwd=root)
    (built,) = out.glob("*.whl")
    return built


def test_the_wheel_holds_the_public_name_and_its_four_parts(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    top = {name.split("/")[0] for name in names}
    assert top - {name for name in top if name.endswith(".dist-info")} == {
        "taijitu",
        "taijitu_export",
        "taijitu_runtime",
        "taijitu_server",
        "taijitu_training",
    }
    packages = ("taijitu", "taijitu_export", "taijitu_runtime", "taijitu_server", "taijitu_training")
    assert all(f"{package}/py.typed" in names for package in packages)
    assert "taijitu/__init__.pyi" in names


def test_the_wheel_brings_the_native_nish_where_there_is_a_compiler(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        built = f"taijitu_runtime/native/{build.LIBRARY}" in archive.namelist()
    compiler = build.find_compiler()
    assert built == (compiler is not None)
    platform = "none-any" if compiler is None else f"none-linux_{build.target_machine(compiler)}"
    assert wheel.name.endswith(f"-py3-{platform}.whl")


def test_without_a_compiler_the_wheel_is_pure_and_says_what_is_lost(root: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "CXX": "no-such-compiler"}
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path]
    done = run(*command, cwd=root, env=environment)
    (built,) = tmp_path.glob("*.whl")
    assert built.name.endswith("-py3-none-any.whl")
    with zipfile.ZipFile(built) as archive:
        assert not [name for name in archive.namelist() if name.endswith(".so")]
    assert "no C++ compiler found: Nish will run without its native kernel" in done.stdout + done.stderr


def test_the_source_archive_holds_what_its_readme_and_tests_speak_of(root: Path, tmp_path: Path) -> None:
    run(sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", tmp_path, cwd=root)
    (built,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(built) as archive:
        held = {name.partition("/")[2].split("/")[0] for name in archive.getnames()}
    assert held >= {"Makefile", "constraints.txt", "demo.py", "checkpoints", "docker", "docs", "hatch_build.py"}
    assert not held & {".git", ".venv", "dist", "runs"}


def test_no_module_has_the_name_of_another_package(root: Path) -> None:
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
def test_an_editable_install_has_the_native_nish_next_to_its_sources(root: Path, tmp_path: Path) -> None:
    if build.find_compiler() is None:
        pytest.skip("no C++ compiler: the native Nish cannot be built here")
    source = tmp_path / "source"
    for name in ("training", "export", "runtime", "server"):
        shutil.copytree(root / name, source / name, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    for name in ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE"):
        shutil.copy(root / name, source / name)
    fresh_environment(tmp_path / "venv", "--no-deps", "--editable", source)
    native = source / "runtime" / "taijitu_runtime" / "native"
    sources = {".py", ".h", ".cpp", ".cu"}
    others = {path.name for path in native.iterdir() if path.is_file() and path.suffix not in sources}
    assert others == {build.LIBRARY}


@pytest.mark.slow
def test_an_edge_install_classifies_a_picture_and_shows_only_what_it_has(
    root: Path, wheel: Path, shipped_onnx: Path, photograph: Path, tmp_path: Path
) -> None:
    requirement = f"taijitu[ort,camera] @ {wheel.as_uri()}"
    python = fresh_environment(tmp_path / "edge", "--constraints", root / "constraints.txt", requirement)
    environment = clean_environment()
    command = python.parent / "taijitu"
    done = run(command, "classify", shipped_onnx, photograph, "--json", env=environment, cwd=tmp_path)
    assert json.loads(done.stdout)["results"][0]["answers"][0]["label"] == "cat"
    overview = run(command, env=environment, cwd=tmp_path).stdout
    installed, missing = overview.split("not installed here:")
    assert "classify" in installed
    assert "doctor" in installed
    # Its exit code is about the machine.
    doctor = subprocess.run([command, "doctor", "--json"], capture_output=True, check=False, env=environment)
    native = {check["subject"]: check["level"] for check in json.loads(doctor.stdout)["checks"]}["native Nish"]
    assert native == ("warning" if build.find_compiler() is None else "ok")
    assert "pip install 'taijitu[train]'" in missing
    assert not run(UV, "pip", "list", "--python", python, env=environment).stdout.count("torch")
    usual = ["--model", "yynet_small_16", "--data", tmp_path, "--out", tmp_path / "run"]
    refused = subprocess.run([command, "train", *usual], capture_output=True, text=True, check=False, env=environment)
    assert refused.returncode == 2
    assert "taijitu[train]" in refused.stderr
    assert refused.stderr.count("\n") == 1


@pytest.mark.parametrize(("python", "cuda"), [("3.10", "12"), ("3.12", "13")], ids=["JetPack 6", "JetPack 7"])
def test_every_package_for_boards_has_a_wheel(root: Path, python: str, cuda: str) -> None:
    command = [
        UV, "pip", "compile", "--quiet", "--no-annotate", "--no-header", "pyproject.toml",
        "--extra", "jetson", "--extra", "server", "--extra", "server-jetson", "--python-version", python,
        "--python-platform", "aarch64-manylinux_2_28", "--only-binary", ":all:",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode and re.search("connect|dns|timed out|network", done.stderr, re.IGNORECASE):
        pytest.skip(f"no package index can be reached: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    found = dict(line.split("==") for line in done.stdout.splitlines() if "==" in line)
    assert found["cuda-bindings"].split(".")[0] == cuda
    assert found["numpy"].split(".")[0] == "1"
    assert "onnxruntime" in found
