"""Fixtures that several packages' tests share."""

from __future__ import annotations

import os

# Before torch is imported, here and by children: networks of tests are small, and threads that wait for each other at
# each layer cost a factor of ten if the machine has other work, such as a second test.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from taijitu_runtime import native
from taijitu_runtime.backends.cuda import Gpu
from taijitu_runtime.errors import TaijituError
from taijitu_runtime.native import build

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def why_no_gpu() -> str | None:
    """Return why no GPU can run engines here, or None if one can."""
    try:
        Gpu().close()
    except TaijituError as error:
        return str(error)
    return None


@pytest.fixture(scope="session", autouse=True)
def signals_of_a_terminal() -> Iterator[None]:
    """Restore the signals that `nohup make test &` and some CI runners ignore, for the tests and their children.

    The test process itself still ignores the end of the terminal.
    """
    handlers = {signal.SIGINT: signal.default_int_handler, signal.SIGHUP: lambda *_: None}
    ignored = [number for number in handlers if signal.getsignal(number) is signal.SIG_IGN]
    for number in ignored:
        signal.signal(number, handlers[number])
    yield
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)


@pytest.fixture(autouse=True)
def skipped_without_a_gpu(request: pytest.FixtureRequest) -> None:
    """Skip tests with the mark `gpu` where there is no GPU."""
    if request.node.get_closest_marker("gpu") and (reason := request.getfixturevalue("why_no_gpu")):
        pytest.skip(reason)


@pytest.fixture(scope="session")
def root() -> Path:
    """Return the repository's root, the folder of the documented scripts."""
    return ROOT


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Return the folder of real pictures that are not part of the repository: TAIJITU_DATA, or ../shared/data."""
    folder = Path(os.environ.get("TAIJITU_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no pictures in {folder}; set TAIJITU_DATA to a folder with photos/ and cifar10-jpeg.tar.xz")
    return folder


@pytest.fixture(scope="session")
def shipped_checkpoint(root: Path) -> Path:
    """Return the trained checkpoint in the repository."""
    return root / "checkpoints" / "yynet_small_16_cifar10.pt"


@pytest.fixture(scope="session")
def shipped_onnx(shipped_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Export the shipped checkpoint to ONNX."""
    from taijitu_export.to_onnx.cli import main

    path = tmp_path_factory.mktemp("shipped") / "model.onnx"
    assert main([str(shipped_checkpoint), "-o", str(path)]) == 0
    return path


@pytest.fixture(scope="session")
def photograph() -> Path:
    """Return a real photograph of a cat, 451 x 300 pixels, PNG."""
    import skimage

    return Path(skimage.__file__).parent / "data" / "chelsea.png"


@pytest.fixture(scope="session")
def compiler() -> list[str]:
    """Return the C++ compiler that the build would use."""
    found = build.find_compiler()
    if found is None:
        pytest.skip("no C++ compiler: the native Nish cannot be built here")
    return found


@pytest.fixture(scope="session")
def nish_library(compiler: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the library of Nish's kernels from the present sources."""
    return build.build_library(compiler, tmp_path_factory.mktemp("native"))


@pytest.fixture
def with_nish_library(nish_library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make OrtBackend use that library, with a cache folder of its own that does not exist yet."""
    monkeypatch.setattr(native, "LIBRARY", nish_library)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return nish_library
