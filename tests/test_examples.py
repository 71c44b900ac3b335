"""Every example under examples/, run as in its README."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import pytest
import yaml
from PIL import Image

from tests.helpers.tiny_model import make_tiny_onnx

COLOURS = ("red", "green", "blue")
EXAMPLES = (
    "1_classify",
    "2_train_and_serve",
    "3_verify_in_ci",
    "4_camera",
    "5_engine_for_a_jetson",
    "6_triton_and_ray",
)

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def environment(root: Path) -> dict[str, str]:
    """Return an environment with installed commands before all others, the packages of this repository, one thread."""
    folders = [str(root / folder) for folder in ("training", "export", "runtime", "server")]
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    return os.environ | {"PATH": path, "PYTHONPATH": os.pathsep.join(folders), "OMP_NUM_THREADS": "1", "EPOCHS": "1"}


@pytest.fixture
def run(root: Path, environment: dict[str, str], tmp_path: Path) -> Run:
    """Return a function that runs a file of examples/ in an empty folder."""

    def run_file(file: str, *arguments: object) -> subprocess.CompletedProcess[str]:
        program = "bash" if file.endswith(".sh") else sys.executable
        command = [program, str(root / "examples" / file), *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)

    return run_file


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write train/ and test/, with three colours as labels."""
    folder, random = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for split, count in (("train", 8), ("test", 4)):
        for channel, label in enumerate(COLOURS):
            (folder / split / label).mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(0, 60, (40, 40, 3), np.uint8)
                pixels[..., channel] += 150
                Image.fromarray(pixels).save(folder / split / label / f"{number}.png")
    return folder


def test_each_is_a_readme_and_a_file_that_the_readme_runs(root: Path) -> None:
    assert sorted(path.name for path in (root / "examples").iterdir() if path.is_dir()) == sorted(EXAMPLES)
    overview = (root / "examples" / "README.md").read_text()
    for name in EXAMPLES:
        assert f"({name})" in overview
        text = (root / "examples" / name / "README.md").read_text()
        named = re.findall(rf"examples/{name}/([\w.]+)", text)
        assert named
        assert all((root / "examples" / name / file).is_file() for file in named)


def test_classify(run: Run, tmp_path: Path, pictures: Path) -> None:
    files = [pictures / "test" / label / "0.png" for label in COLOURS]
    done = run("1_classify/classify.py", make_tiny_onnx(tmp_path / "model.onnx"), *files)
    assert done.returncode == 0, done.stderr
    assert [line.split()[:2] for line in done.stdout.splitlines()] == [
        [str(file), label] for file, label in zip(files, COLOURS, strict=True)
    ]


@pytest.mark.slow
def test_train_and_serve(root: Path, environment: dict[str, str], tmp_path: Path, pictures: Path) -> None:
    script, picture = root / "examples" / "2_train_and_serve" / "train_and_serve.sh", pictures / "test/red/0.png"
    command = ["bash", str(script), str(pictures), str(tmp_path / "run"), "0"]
    with (
        (tmp_path / "stderr").open("w+") as stderr,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True, env=environment) as process,
    ):
        try:
            assert process.stdout is not None
            url = next((found[0] for line in process.stdout if (found := re.search(r"http://\S+", line))), None)
            assert url, (tmp_path / "stderr").read_text()
            deadline = time.monotonic() + 60
            while True:
                try:
                    reply = httpx.post(f"{url}/classify", content=picture.read_bytes(), timeout=30)
                    break
                except httpx.TransportError:
                    assert time.monotonic() < deadline
                    time.sleep(0.1)
        finally:
            process.terminate()
    assert {answer["label"] for answer in reply.json()["answers"]} == set(COLOURS)
    assert (tmp_path / "run" / "report.html").is_file()


@pytest.mark.slow
def test_verify_in_ci(run: Run, root: Path, shipped_checkpoint: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pictures" / "test"
    for number, label in enumerate(("cat", "dog")):
        (folder / label).mkdir(parents=True)
        pixels = np.random.default_rng(number).integers(0, 256, (32, 32, 3), np.uint8)
        Image.fromarray(pixels).save(folder / label / "0.png")
    done = run("3_verify_in_ci/verify.sh", shipped_checkpoint, folder.parent, tmp_path / "models")
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (tmp_path / "models").iterdir()} >= {"model.onnx", "model.html"}
    workflow = yaml.safe_load((root / "examples" / "3_verify_in_ci" / "workflow.yml").read_text())
    lines = [step["run"] for step in workflow["jobs"]["verify"]["steps"] if "run" in step]
    assert any("examples/3_verify_in_ci/verify.sh" in line for line in lines)


def test_camera(run: Run, tmp_path: Path, pictures: Path) -> None:
    for label in COLOURS:
        for number in range(2):
            source = pictures / "test" / label / f"{number}.png"
            (tmp_path / f"{COLOURS.index(label)}{number}.png").write_bytes(source.read_bytes())
    model = make_tiny_onnx(tmp_path / "model.onnx")
    done = run("4_camera/watch.py", model, f"{tmp_path}/*.png")
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == list(COLOURS)


def test_engine(run: Run, shipped_onnx: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="no TensorRT-RTX here: pip install '.[rtx]'")
    done = run("5_engine_for_a_jetson/build.py", shipped_onnx, tmp_path / "model.engine")
    assert done.returncode == 0, done.stderr
    assert "float16" in done.stdout
    card = json.loads((tmp_path / "model.engine.json").read_text())
    assert card["precision"]["asked"] == "fp16"
    assert (tmp_path / "model.engine").stat().st_size > 0


def test_triton_and_ray(run: Run, tmp_path: Path) -> None:
    done = run("6_triton_and_ray/write.sh", make_tiny_onnx(tmp_path / "model.onnx"), tmp_path / "out")
    assert done.returncode == 0, done.stderr
    repository = tmp_path / "out" / "triton" / "classifier"
    assert (repository / "config.pbtxt").is_file()
    assert (repository / "1" / "model.onnx").is_file()
    application = yaml.safe_load((tmp_path / "out" / "ray" / "serve.yaml").read_text())["applications"][0]
    assert Path(application["args"]["model"]).is_file()
