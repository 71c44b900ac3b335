"""Nish as a plugin of TensorRT, as far as it can be tested without TensorRT, which needs a GPU.

TensorRT-RTX has the classes of plugins, and a registry for them, though no network takes one; so it is used instead.
"""

from __future__ import annotations

import ctypes
import inspect
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from taijitu_runtime import native
from taijitu_runtime.backends.cuda import Gpu
from taijitu_runtime.backends.trt import nish_plugin
from taijitu_runtime.errors import DeviceError

SURFACE = json.loads(Path(__file__).with_name("plugin_surface.json").read_text())["classes"]
OPTIONAL = {"destroy", "get_valid_tactics", "get_workspace_size"}  # for these TensorRT's Python has what to do without


@pytest.fixture
def trt() -> Any:
    return pytest.importorskip("tensorrt_rtx", reason="no TensorRT-RTX, whose classes of plugins are TensorRT's too")


@pytest.fixture
def launches() -> list[tuple[Any, ...]]:
    """Return the arguments of the kernel's calls."""
    return []


@pytest.fixture
def plugin(trt: Any, launches: list[tuple[Any, ...]]) -> Any:
    creator = nish_plugin.nish_creator(trt, lambda *arguments: launches.append(arguments))
    return creator.create_plugin("start", trt.PluginFieldCollection([]), trt.TensorRTPhase.BUILD)


def described(trt: Any, dtype: Any, form: Any, *shape: int) -> Any:
    found = trt.PluginTensorDesc()
    found.type, found.format, found.dims = dtype, form, trt.Dims(shape)
    return found


def parameters(documented: Any) -> list[str] | None:
    """Return the arguments, except self, of a method; None for an attribute."""
    found = re.match(r"\w+\((.*)\) -> ", (documented.__doc__ or "").splitlines()[0] if documented.__doc__ else "")
    return re.findall(r"(\w+): ", found[1])[1:] if found else None


@pytest.mark.parametrize("name", SURFACE)
def test_the_classes_here_are_those_of_tensorrt_10_7_to_11(trt: Any, name: str) -> None:
    members = SURFACE[name]
    assert {member: parameters(getattr(getattr(trt, name), member)) for member in members} == members


def test_every_method_that_tensorrt_calls_is_there_with_its_arguments(trt: Any, plugin: Any) -> None:
    creator = nish_plugin.nish_creator(trt, None)
    wanted = {}
    for name, members in SURFACE.items():
        own = vars(type(creator if name == "IPluginCreatorV3One" else plugin))
        for member, arguments in members.items():
            if arguments is not None and member not in OPTIONAL:
                assert member in own, f"{name}.{member}"
                wanted[member] = len(arguments)
                assert len(inspect.signature(own[member]).parameters) - 1 == len(arguments), f"{name}.{member}"
    assert len(wanted) == 12
    extra = {member for member in vars(type(plugin)) if not member.startswith("_")} - set(wanted)
    assert extra == set(), "methods that TensorRT never calls"


def test_tensorrts_registry_finds_it_by_the_nodes_domain_and_operator(trt: Any) -> None:
    registry = trt.get_plugin_registry()
    creator = nish_plugin.nish_creator(trt, None)
    assert registry.register_creator(creator, nish_plugin.NAMESPACE)
    try:
        assert registry.get_creator("Nish", "1", "taijitu") is creator
    finally:
        registry.deregister_creator(creator)  # the parser of TensorRT-RTX must not find one


def test_it_is_one_object_for_every_capability_and_its_copies_are_like_it(trt: Any, plugin: Any) -> None:
    for kind in trt.PluginCapabilityType.__members__.values():
        assert plugin.get_capability_interface(kind) is plugin
    for copy in (plugin.clone(), plugin.attach_to_context(None)):
        assert copy is not plugin
        assert (copy.plugin_name, copy.plugin_namespace, copy.plugin_version) == ("Nish", "taijitu", "1")
        assert copy.num_outputs == 1
    assert plugin.get_output_data_types([trt.float16]) == [trt.float16]
    assert type(plugin.get_fields_to_serialize()) is trt.PluginFieldCollection_  # a list is not always taken


@pytest.mark.parametrize(
    ("first", "second", "form", "taken"),
    [
        ("float32", "float32", "LINEAR", True),
        ("float16", "float16", "LINEAR", True),
        ("float16", "float32", "LINEAR", False),
        ("int8", "int8", "LINEAR", False),
        ("float16", "float16", "HWC8", False),
    ],
)
def test_it_takes_float32_and_float16_in_their_plain_order(
    trt: Any, plugin: Any, first: str, second: str, form: str, taken: bool
) -> None:
    tensors = []
    for dtype in (first, second):
        tensors.append(trt.DynamicPluginTensorDesc())
        tensors[-1].desc = described(trt, getattr(trt, dtype), getattr(trt.TensorFormat, form), -1, 3, 4)
    assert plugin.supports_format_combination(1, tensors, 1) == taken


@pytest.mark.parametrize(("dtype", "is_float16"), [("float32", False), ("float16", True)])
def test_a_run_is_one_launch_over_all_values_on_tensorrts_stream(
    trt: Any, plugin: Any, launches: list[tuple[Any, ...]], dtype: str, is_float16: bool
) -> None:
    tensor = described(trt, getattr(trt, dtype), trt.TensorFormat.LINEAR, 2, 3, 4)
    plugin.enqueue([tensor], [tensor], [0x100], [0x200], 0, 0x300)
    assert launches == [(0x100, 0x200, 24, is_float16, 0x300)]


DRIVEN = """\
taijitu Nish 1
taijitu Nish 1
outputs 1, tactics 0
takes float16: 1 1
takes two types: 0
types: 0, 1
shapes: 0, 1
configure: 0, workspace 0
tactic: 0, fields 0
shape: 0
enqueue: 0
"""


def test_it_answers_calls_from_cpp_as_tensorrt_makes_them(
    trt: Any,
    launches: list[tuple[Any, ...]],
    compiler: list[str],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    source, library = Path(__file__).with_name("nish_plugin_driver.cpp"), tmp_path / "driver.so"
    subprocess.run([*compiler, "-std=c++17", "-shared", "-fPIC", source, "-o", library], check=True)
    creator = nish_plugin.nish_creator(trt, lambda *arguments: launches.append(arguments))
    # pybind11 keeps the address of its C++ object behind the head that every Python object has.
    address = ctypes.c_void_p.from_address(id(creator) + object.__basicsize__)
    ctypes.CDLL(str(library)).drive(address)
    printed = capfd.readouterr()
    assert (printed.out, printed.err) == (DRIVEN, "")
    assert launches == [(0x100, 0x200, 120, True, 0x300)]


def test_without_the_cuda_library_it_says_how_to_build_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(native, "CUDA_LIBRARY", tmp_path / "none.so")
    with pytest.raises(DeviceError) as error:
        nish_plugin.register_nish_plugin(object())
    assert f"{tmp_path}/none.so" in str(error.value)
    assert str(error.value).endswith("do: python -m taijitu_runtime.native.build --cuda")


def test_a_library_without_the_kernel_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, nish_library: Path
) -> None:
    (tmp_path / "text.so").write_text("no library")
    for library in (tmp_path / "text.so", nish_library):
        monkeypatch.setattr(native, "CUDA_LIBRARY", library)
        with pytest.raises(DeviceError, match=r"that cannot be used \(.+\), expected one built here; do: python -m"):
            nish_plugin.cuda_launcher()


@pytest.fixture
def launcher(cuda_library: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Compile and return the real kernel."""
    monkeypatch.setattr(native, "CUDA_LIBRARY", cuda_library)
    return nish_plugin.cuda_launcher()


@pytest.mark.slow
def test_cudas_error_reaches_tensorrt(trt: Any, launcher: Any, why_no_gpu: str | None) -> None:
    if why_no_gpu is None:
        pytest.skip("there is a GPU here: what happens without one cannot be seen")
    plugin = nish_plugin.nish_creator(trt, launcher).create_plugin("", None, trt.TensorRTPhase.RUNTIME)
    tensor = described(trt, trt.float32, trt.TensorFormat.LINEAR, 4)
    with pytest.raises(DeviceError, match=r"^Nish: (CUDA driver version is insufficient|no CUDA-capable device)"):
        plugin.enqueue([tensor], [tensor], [0], [0], 0, 0)


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_the_kernel_computes_nish_in_place(launcher: Any, dtype: type[Any]) -> None:
    gpu = Gpu()
    try:
        x = np.linspace(-12, 4, 100_001).astype(dtype)
        values, stream = gpu.pinned(x.shape, dtype), gpu.stream()
        values[:] = x
        address = gpu.memory(values.nbytes)
        gpu.upload(address, values, stream)
        assert launcher(address, address, len(x), dtype is np.float16, stream) is None
        gpu.download(values, address, stream)
        gpu.synchronise(stream)
        n = np.minimum(x, 0).astype(np.float64)
        expected = np.maximum(x, 0) + (n + np.sin(n)) / (1 + np.exp(-n))
        np.testing.assert_allclose(values, expected, rtol=1e-3 if dtype is np.float16 else 1e-6, atol=1e-6)
    finally:
        gpu.close()
