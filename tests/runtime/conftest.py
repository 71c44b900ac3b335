"""The tiny model, pictures for it, and the library with the CUDA kernels."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from taijitu_runtime.native import build
from tests.helpers.machine_tree import Files, Tree, write_tree
from tests.helpers.tiny_model import card_dict, make_tiny_onnx, plain


@pytest.fixture
def card() -> dict[str, Any]:
    """Return a correct card in its plain form."""
    return card_dict()


@pytest.fixture
def make_onnx(tmp_path: Path) -> Callable[..., Path]:
    """Return `make_tiny_onnx` with a path of its own for every call."""
    made: list[Path] = []

    def make(**options: Any) -> Path:
        made.append(make_tiny_onnx(tmp_path / f"model{len(made)}.onnx", **options))
        return made[-1]

    return make


@pytest.fixture(scope="session")
def tiny_onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the colour model, uint8 input, dynamic batch; labels red, green, blue."""
    return make_tiny_onnx(tmp_path_factory.mktemp("model") / "colours.onnx")


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder: red.png, deep/blue.jpg, deep/er/green.PNG, and files that are not pictures."""
    folder = tmp_path_factory.mktemp("pictures")
    for name, colour in (("red.png", (255, 0, 0)), ("deep/blue.jpg", (0, 0, 255)), ("deep/er/green.PNG", (0, 255, 0))):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(plain(colour, 20, 30)).save(folder / name)
    (folder / "notes.txt").write_text("no picture")
    (folder / ".thumbnails").mkdir()
    (folder / ".thumbnails" / "red.png").write_bytes((folder / "red.png").read_bytes())
    return folder


@pytest.fixture(scope="session")
def photographs(data_folder: Path) -> list[Path]:
    """Return real photographs, JPEG; at least one."""
    found = sorted((data_folder / "photos").glob("*.JPEG"))
    if not found:
        pytest.skip(f"no photographs in {data_folder}/photos")
    return found


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """Return a function that writes files below a folder that stands for the root of a file system.

    Later calls add to it.
    """

    def write(files: Files) -> Path:
        return write_tree(tmp_path / "root", files)

    return write


@pytest.fixture(scope="session")
def nvcc() -> str:
    """Return NVIDIA's compiler: the machine's, or that of the development environment."""
    found = build.find_nvcc() or packaged("nvcc")
    if found is None:
        pytest.skip("no nvcc: the CUDA kernels cannot be compiled here")
    return found


@pytest.fixture(scope="session")
def cuobjdump() -> str:
    """Return the program that lists the GPUs that a library has code for."""
    found = shutil.which("cuobjdump") or packaged("cuobjdump")
    if found is None:
        pytest.skip("no cuobjdump: what a CUDA library was compiled for cannot be told here")
    return found


def packaged(program: str) -> str | None:
    """Return a program of NVIDIA's wheels, which are in a namespace package."""
    spec = importlib.util.find_spec("nvidia")
    folders = (spec.submodule_search_locations or []) if spec else []
    return next((str(file) for folder in folders for file in Path(folder).glob(f"cu*/bin/{program}")), None)


@pytest.fixture(scope="session")
def cuda_library(compiler: list[str], nvcc: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the library of Nish's kernels with those for NVIDIA GPUs, from the present sources."""
    return build.build_cuda_library(compiler, nvcc, tmp_path_factory.mktemp("cuda"))
