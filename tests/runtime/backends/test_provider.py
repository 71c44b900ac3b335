"""--provider: the requested provider, or one line that says why not; never the CPU silently."""

from __future__ import annotations

import functools
import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest

from taijitu_runtime import cache
from taijitu_runtime.backends import OrtBackend
from taijitu_runtime.backends.ort import plugin
from taijitu_runtime.backends.ort.backend import open_model
from taijitu_runtime.backends.ort.provider import open_on_provider, why_not_built_in, why_not_loaded
from taijitu_runtime.classifier import Classifier
from taijitu_runtime.classify import cli
from taijitu_runtime.errors import ProviderError, UnknownNameError
from taijitu_runtime.providers import PROVIDERS
from tests.helpers.environments import UV
from tests.helpers.tiny_model import plain
from tests.helpers.tiny_nish_model import make_nish_onnx

INSTALL = 'pip install "onnxruntime-gpu[cuda,cudnn]"'


@pytest.fixture
def cpu_build() -> None:
    """Install onnxruntime as `pip install taijitu[ort]` does."""
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this is a build with CUDA")


def test_the_cpu_is_the_default(tiny_onnx: Path) -> None:
    picture = plain((200, 10, 10))
    with Classifier.from_file(tiny_onnx) as usual, Classifier.from_file(tiny_onnx, provider="cpu") as asked:
        np.testing.assert_array_equal(usual.predict(picture).logits, asked.predict(picture).logits)


def test_an_unknown_provider_is_refused_with_the_known_ones(tiny_onnx: Path) -> None:
    with pytest.raises(UnknownNameError, match="tensorrt"):
        OrtBackend(tiny_onnx, provider="tensort")


@pytest.mark.usefixtures("cpu_build")
@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_a_build_for_cpus_names_the_package_to_install(tiny_onnx: Path, provider: str) -> None:
    with pytest.raises(ProviderError) as caught:
        Classifier.from_file(tiny_onnx, provider=provider)
    assert repr(provider) in str(caught.value)
    assert str(caught.value).endswith(f"do: pip uninstall -y onnxruntime && {INSTALL}")


@pytest.mark.usefixtures("cpu_build")
def test_a_model_that_was_trained_again_gets_no_engine_of_the_old_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    offered = [name for provider in PROVIDERS.values() for name in provider]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: offered)
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda *_, providers: asked.append(dict(providers)) or given)
    given = SimpleNamespace(get_providers=lambda: offered, disable_fallback=lambda: None)
    asked: list[dict[str, dict[str, str]]] = []

    def folder_of(model: Path) -> Path:
        open_model(model, provider="tensorrt")
        options = asked[-1]["TensorrtExecutionProvider"]
        assert options["trt_timing_cache_path"] == str(tmp_path / "taijitu" / "onnxruntime-tensorrt")
        return Path(options["trt_engine_cache_path"])

    model = make_nish_onnx(tmp_path / "model.onnx")
    first = folder_of(model)
    (first / "some.engine").touch()
    assert folder_of(make_nish_onnx(model, seed=1)) != first
    assert folder_of(make_nish_onnx(model)) == first
    assert (first / "some.engine").exists()


def test_the_kernels_of_a_model_are_kept_as_long_as_it_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(cache, "keep_newest", functools.partial(cache.keep_newest, count=1))
    monkeypatch.setattr(plugin, "_registered", lambda *_: None)
    monkeypatch.setitem(sys.modules, plugin.MODULE, SimpleNamespace(get_library_path=lambda: "plugin.so"))
    ort = SimpleNamespace(register_execution_provider_library=None, get_ep_devices=list)
    model = make_nish_onnx(tmp_path / "model.onnx")

    def folder() -> Path:
        ((_, options),) = plugin.rtx_provider(ort, model)
        return Path(options["nv_runtime_cache_path"])

    os.utime(folder(), (1, 1))
    (folder().parent / "of another model").mkdir()
    assert folder().is_dir()


def test_two_threads_that_open_models_leave_stdout_as_it_was() -> None:
    names = [name for provider in PROVIDERS.values() for name in provider]
    session = SimpleNamespace(get_providers=lambda: names, disable_fallback=lambda: None)
    ort = SimpleNamespace(get_available_providers=lambda: names, set_default_logger_severity=lambda level: None)
    is_in = [threading.Event(), threading.Event()]

    def first(_: object) -> object:
        is_in[0].set()
        is_in[1].wait(0.3)
        return session

    def second(_: object) -> object:
        is_in[1].set()
        threads[0].join(30)  # the first one leaves before the second
        return session

    before = sys.stdout
    threads = [threading.Thread(target=open_on_provider, args=(ort, "cuda", one)) for one in (first, second)]
    threads[0].start()
    assert is_in[0].wait(30)
    threads[1].start()
    for thread in threads:
        thread.join()
    assert sys.stdout is before


def test_without_the_plugin_of_tensorrt_rtx_its_package_is_named(
    tiny_onnx: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, plugin.MODULE, None)
    with pytest.raises(ProviderError, match=rf"pip install {plugin.PACKAGE}-cu13"):
        OrtBackend(tiny_onnx, provider="rtx").load()


@pytest.mark.parametrize(
    ("devices", "error", "reason"),
    [
        ([], None, "no usable GPU"),
        (
            [],
            # as onnxruntime 1.31.1 said it of the plugin 0.5.0 on a machine without a driver
            "[ONNXRuntimeError] : 1 : FAIL : Failed to load library /x/libonnxruntime_providers_nv_tensorrt_rtx.so "
            "with error: libcuda.so.1: cannot open shared object file: No such file or directory",
            "libcuda.so.1 is missing: no NVIDIA driver",
        ),
    ],
)
def test_a_plugin_that_does_not_load_is_one_line(
    devices: list[object], error: str | None, reason: str, tiny_onnx: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def register(name: str, library: str) -> None:
        if error is not None:
            raise RuntimeError(error)

    plugin._registered.cache_clear()
    monkeypatch.setitem(sys.modules, plugin.MODULE, SimpleNamespace(get_library_path=lambda: "plugin.so"))
    monkeypatch.setattr(onnxruntime, "register_execution_provider_library", register)
    monkeypatch.setattr(onnxruntime, "get_ep_devices", lambda: devices)
    with pytest.raises(ProviderError) as caught:
        OrtBackend(tiny_onnx, provider="rtx").load()
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_the_real_plugin_of_tensorrt_rtx_says_one_line_without_a_driver(
    root: Path, tiny_onnx: Path, photograph: Path, tmp_path: Path
) -> None:
    if Path("/dev/nvidia0").exists():
        pytest.skip("this machine has an NVIDIA GPU")
    python = environment_with(tmp_path / "venv", f"{plugin.PACKAGE}-cu13", "onnxruntime", "pillow")
    command = [python, root / "runtime" / "classify.py", tiny_onnx, photograph, "--json", "--provider", "rtx"]
    environment = {**os.environ, "PYTHONPATH": str(root / "runtime")}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.match(r"^taijitu classify: got no provider 'rtx' \(libcuda.so.1 is missing.*; do: .+\n$", done.stderr)


@pytest.mark.usefixtures("cpu_build")
def test_classify_ends_with_one_line(tiny_onnx: Path, photograph: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([str(tiny_onnx), str(photograph), "--provider", "cuda", "--json"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("taijitu classify: got no provider 'cuda' (")
    assert printed.err.count("\n") == 1


@pytest.mark.parametrize(
    ("packages", "is_jetson", "reason", "cure"),
    [
        ({"onnxruntime"}, False, "is the build for CPUs only", f"pip uninstall -y onnxruntime && {INSTALL}"),
        (
            {"onnxruntime", "onnxruntime-gpu"},
            False,
            "are both installed and overwrite each other's files",
            f"pip uninstall -y onnxruntime onnxruntime-gpu && {INSTALL}",
        ),
        ({"onnxruntime-gpu"}, False, "was built without it", "install another build"),
        (
            {"onnxruntime"},
            True,
            "was built without it",
            "the onnxruntime-gpu wheel that NVIDIA publishes for your JetP",
        ),
    ],
)
def test_the_cure_depends_on_what_is_installed(packages: set[str], is_jetson: bool, reason: str, cure: str) -> None:
    got = why_not_built_in(packages, is_jetson)
    assert reason in got[0]
    assert cure in got[1]


@pytest.mark.parametrize(
    ("error", "reason", "cure"),
    [  # as ONNX Runtime 1.31.1 and the loader of glibc say it
        (
            "libcublasLt.so.13: cannot open shared object file: No such file or directory",
            "libcublasLt.so.13 is missing",
            INSTALL,
        ),
        (
            "libcuda.so.1: cannot open shared object file: No such file or directory",
            "libcuda.so.1 is missing: no NVIDIA driver",
            "install the driver; a container takes --gpus all",
        ),
        (
            "libnvinfer.so.10: cannot open shared object file: No such file or directory",
            "libnvinfer.so.10 is missing",
            "install TensorRT 10 and name the folder of its libraries in LD_LIBRARY_PATH",
        ),
        (
            "/x/libonnxruntime_providers_cuda.so: undefined symbol: cuTensorMapEncodeTiled",
            "NVIDIA's driver is too old for it: undefined symbol: cuTensorMapEncodeTiled",
            "update the driver",
        ),
        (
            "CUDA failure 100: no device;\n GPU=-1",
            "CUDA failure 100: no device; GPU=-1",
            "look at the GPU lines of: taijitu doctor",
        ),
        ("", "its libraries load, but it found no usable GPU", "look at the GPU lines of: taijitu doctor"),
    ],
)
def test_the_missing_library_decides_the_cure(error: str, reason: str, cure: str) -> None:
    assert why_not_loaded(error) == (reason, cure)


def environment_with(folder: Path, *packages: str) -> Path:
    """Make a virtual environment with `packages` from uv's cache, one after the other; return its Python."""
    subprocess.run([UV, "venv", "--quiet", "--python", sys.executable, folder], check=True)
    python = folder / "bin" / "python"
    for package in packages:
        command = [UV, "pip", "install", "--quiet", "--offline", "--python", python, package]
        if subprocess.run(command, capture_output=True, check=False).returncode != 0:
            pytest.skip(f"{package} is not in uv's cache; to fill it: {UV} pip install --reinstall {package}")
    return python


@pytest.mark.slow
@pytest.mark.parametrize(
    ("packages", "reason"),
    [
        (("onnxruntime-gpu",), r"(lib\w+.so.\d+ is missing|its libraries load)"),
        (("onnxruntime-gpu", "onnxruntime"), "onnxruntime and onnxruntime-gpu are both installed"),
    ],
)
@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_the_real_gpu_build_without_a_gpu_says_one_line(
    root: Path, tiny_onnx: Path, photograph: Path, tmp_path: Path, packages: tuple[str, ...], reason: str, provider: str
) -> None:
    if Path("/dev/nvidia0").exists():
        pytest.skip("this machine has an NVIDIA GPU")
    python = environment_with(tmp_path / "venv", *packages, "pillow")
    command = [python, root / "runtime" / "classify.py", tiny_onnx, photograph, "--json", "--provider", provider]
    environment = {**os.environ, "PYTHONPATH": str(root / "runtime")}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, done.stdout) == (2, "")
    pattern = rf"^taijitu classify: got no provider '{provider}' \({reason}.*\), expected .*; do: .+\n$"
    assert re.match(pattern, done.stderr), done.stderr
