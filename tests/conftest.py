"""Fixtures that several packages' tests share."""

from __future__ import annotations

import os

# Before torch is imported, here and by children: networks of tests are small, and threads that wait for one another at
# each layer cost a factor of ten where the machine has other work, such as a second test.
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
    """Why there is no GPU to run engines on here, or None where there is one."""
    try:
        Gpu().close()
    except TaijituError as error:
        return str(error)
    return None


@pytest.fixture(scope="session", autouse=True)
def signals_of_a_terminal() -> Iterator[None]:
    """What `nohup make test &` and some CI runners ignore reaches tests and their children as in a terminal.

    The tests themselves still outlive the terminal.
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
    """What the mark `gpu` promises."""
    if request.node.get_closest_marker("gpu") and (reason := request.getfixturevalue("why_no_gpu")):
        pytest.skip(reason)


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository's root, where the documented scripts lie."""
    return ROOT


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Real pictures that are not part of the repository: TAIJITU_DATA, or ../shared/data."""
    folder = Path(os.environ.get("TAIJITU_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no pictures in {folder}; set TAIJITU_DATA to a folder with photos/ and cifar10-jpeg.tar.xz")
    return folder


@pytest.fixture(scope="session")
def shipped_checkpoint(root: Path) -> Path:
    """The trained checkpoint that the repository carries."""
    return root / "checkpoints" / "yynet_small_16_cifar10.pt"


@pytest.fixture(scope="session")
def shipped_onnx(shipped_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped checkpoint as ONNX, made by the exporter."""
    from taijitu_export.onnx.cli import main

    path = tmp_path_factory.mktemp("shipped") / "model.onnx"
    assert main([str(shipped_checkpoint), "-o", str(path)]) == 0
    return path


@pytest.fixture(scope="session")
def photograph() -> Path:
    """A real photograph of a cat, 451 x 300 pixels, PNG."""
    import skimage

    return Path(skimage.__file__).parent / "data" / "chelsea.png"


@pytest.fixture(scope="session")
def compiler() -> list[str]:
    """The C++ compiler that the build would take."""
    found = build.find_compiler()
    if found is None:
        pytest.skip("no C++ compiler: the native Nish cannot be built here")
    return found


@pytest.fixture(scope="session")
def nish_library(compiler: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library of Nish's kernels, built from the sources as they are now."""
    return build.build_library(compiler, tmp_path_factory.mktemp("native"))


@pytest.fixture
def with_nish_library(nish_library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, as the one that OrtBackend takes, and a cache folder of its own that does not exist yet."""
    monkeypatch.setattr(native, "LIBRARY", nish_library)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return nish_library
