"""The checks between an engine's file and TensorRT: all ways in which it may be the wrong one, with real plans."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from taijitu_runtime import native
from taijitu_runtime.backends import TrtBackend, open_backend
from taijitu_runtime.backends.cuda import GpuModel
from taijitu_runtime.backends.trt.logger import logger_of
from taijitu_runtime.backends.trt.preflight import check_gpu, check_validity, load_library
from taijitu_runtime.backends.trt.rebuild import arguments_for, rebuild_engine
from taijitu_runtime.classifier import Classifier
from taijitu_runtime.classify import cli
from taijitu_runtime.engine_card import EngineCard, sidecar_of
from taijitu_runtime.errors import ArtefactError, DeviceError, EngineError, MissingDependencyError, UsageError
from tests.helpers.tiny_engine import make_tiny_engine
from tests.helpers.tiny_model import make_tiny_onnx

AGAIN = r"; add --rebuild \(rebuild=True\), or build it here: taijitu engine .*model\.onnx --saveEngine="


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build a folder with model.engine, its sidecar and model.onnx."""
    return make_tiny_engine(tmp_path_factory.mktemp("engine") / "model.engine").parent


@pytest.fixture
def engine(built: Path, tmp_path: Path) -> Path:
    """Copy the engine, so that the test may damage it."""
    for file in built.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path / "model.engine"


@pytest.fixture
def no_gpu(why_no_gpu: str | None) -> None:
    """Skip the test if there is a GPU."""
    if why_no_gpu is None:
        pytest.skip("there is a GPU here: what happens without one cannot be seen")


def edit(engine: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the sidecar's JSON."""
    sidecar = json.loads(sidecar_of(engine).read_text())
    change(sidecar)
    sidecar_of(engine).write_text(json.dumps(sidecar))


@pytest.mark.parametrize(
    "damage",
    [
        lambda plan: plan[: len(plan) // 2],
        lambda plan: plan[:-1],
        lambda plan: plan[:100] + bytes([plan[100] ^ 1]) + plan[101:],
        lambda plan: b"",
        lambda plan: b"ftrt another engine" * 1000,
    ],
    ids=["half", "a byte short", "a bit flipped", "empty", "another's"],
)
def test_a_plan_that_is_not_the_sidecars_never_reaches_tensorrt(engine: Path, damage: Callable[[bytes], bytes]) -> None:
    engine.write_bytes(damage(engine.read_bytes()))
    with pytest.raises(EngineError, match=rf"model\.engine.*\d+ bytes.*sha256 \w+\.\.\..*{AGAIN[2:]}"):
        open_backend(engine).load()


def test_an_engine_without_its_sidecar_says_what_is_missing(engine: Path) -> None:
    sidecar_of(engine).unlink()
    with pytest.raises(ArtefactError, match=r"model\.engine\.json"):
        open_backend(engine).load()


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("library", {"name": "tensorrt_rtx", "version": "1.6.9"}, r"TensorRT-RTX 1\.6\.9,.*TensorRT-RTX \d"),
        ("built_for", "linux_aarch64", r"linux_aarch64,.*linux_x86_64"),
    ],
)
def test_another_version_or_platform_is_named_with_what_to_type(
    engine: Path, field: str, value: Any, message: str
) -> None:
    if field == "built_for":
        edit(engine, lambda card: card["built_for"].update(platform=value))
    else:
        edit(engine, lambda card: card.update({field: value}))
    with pytest.raises(EngineError, match=rf"model\.engine.*{message}.*{AGAIN}"):
        open_backend(engine).load()


def test_a_missing_tensorrt_is_named_with_what_to_install(engine: Path) -> None:
    edit(engine, lambda card: card.update(library={"name": "tensorrt", "version": "10.3.0"}))
    try:
        import tensorrt  # noqa: F401
    except ImportError:
        with pytest.raises(MissingDependencyError, match=r"TensorRT 10\.3\.0.*\[gpu\]"):
            open_backend(engine).load()
    else:
        pytest.skip("there is a tensorrt here")


def test_an_engine_with_the_plugin_for_nish_takes_its_cuda_library(
    engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit(engine, lambda card: card["flags"].append("NISH_PLUGIN"))
    monkeypatch.setattr(native, "CUDA_LIBRARY", tmp_path / "none.so")
    with pytest.raises(DeviceError, match=r"model\.engine.*none\.so"):
        open_backend(engine).load()


def test_a_machine_without_a_driver_is_one_clear_line(engine: Path, no_gpu: None) -> None:
    backend = TrtBackend(engine)
    for _ in range(2):
        with pytest.raises(DeviceError, match="nvidia-smi"):
            backend.load()
    with pytest.raises(DeviceError, match="nvidia-smi"):
        Classifier.from_file(engine, rebuild=True)  # building again would not help


def test_classify_says_it_in_one_line_and_exit_code_2(
    engine: Path, photograph: Path, capsys: pytest.CaptureFixture[str], no_gpu: None
) -> None:
    assert cli.main([str(engine), str(photograph)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("taijitu classify: ")
    assert "nvidia-smi" in printed.err
    assert printed.err.count("\n") == 1


def test_flags_of_one_kind_of_file_are_refused_for_the_other(engine: Path) -> None:
    with pytest.raises(UsageError, match=r"model\.engine.*provider='cuda'"):
        open_backend(engine, provider="cuda")
    with pytest.raises(UsageError, match=r"model\.onnx.*rebuild"):
        open_backend(engine.with_suffix(".onnx"), rebuild=True)


@pytest.mark.gpu
def test_what_tensorrt_rtx_compiled_is_kept_for_the_next_start(
    engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    answers = []
    for _ in range(2):
        with open_backend(engine) as backend:
            answers.append(backend.infer(np.zeros(backend.input.shape(1), backend.input.dtype)))
    (file,) = (tmp_path / "cache" / "taijitu" / "rtx").iterdir()
    assert file.stat().st_size > 0
    assert file.stat().st_mode & 0o777 == 0o600
    np.testing.assert_array_equal(*answers)


@pytest.mark.parametrize(
    ("library", "built_for", "here", "message"),
    [
        ("tensorrt_rtx", {"compute_capabilities": []}, "8.6", None),
        (
            "tensorrt_rtx",
            {"compute_capabilities": []},
            "7.5",
            r"8\.0.*7\.5 \(card\)",
        ),
        ("tensorrt_rtx", {"compute_capabilities": ["7.5"]}, "7.5", None),
        (
            "tensorrt_rtx",
            {"compute_capabilities": ["8.6", "12.0"]},
            "8.9",
            r"8\.6, 12\.0,.*8\.9 \(card\)",
        ),
        ("tensorrt", {"compute_capabilities": ["8.7"], "gpu": "Orin"}, "8.7", None),
        ("tensorrt", {"compute_capabilities": ["8.7"], "gpu": "Orin"}, "8.9", r"8\.7 \(Orin\),.*8\.9 \(card\)"),
        ("tensorrt", {"compute_capabilities": ["8.7"], "hardware_compatibility": "ampere+"}, "12.0", None),
        (
            "tensorrt",
            {"compute_capabilities": ["8.7"], "hardware_compatibility": "ampere+"},
            "7.5",
            r"8\.0.*7\.5 \(card\)",
        ),
        ("tensorrt", {"compute_capabilities": ["8.9"], "hardware_compatibility": "sameComputeCapability"}, "8.9", None),
    ],
)
def test_the_gpu_has_to_be_one_that_it_was_built_for(
    engine: Path, library: str, built_for: dict[str, Any], here: str, message: str | None
) -> None:
    edit(engine, lambda card: (card["library"].update(name=library), card["built_for"].update(built_for)))
    card = EngineCard.read(engine)
    if message is None:
        check_gpu(engine, card, GpuModel("card", here, 8, 1 << 33))
    else:
        with pytest.raises(EngineError, match=message):
            check_gpu(engine, card, GpuModel("card", here, 8, 1 << 33))


@pytest.mark.parametrize(
    ("here", "facts"),
    [
        ({}, None),
        ({"memory_bytes": 60 << 30}, None),  # another share of it kept by the firmware
        ({"multiprocessors": 8}, ("16 multiprocessors", "8")),
        ({"memory_bytes": 30 << 30}, ("64.0 GiB", "30.0 GiB")),
        ({"board": "NVIDIA Jetson Orin NX"}, ("NVIDIA Jetson AGX Orin", "NVIDIA Jetson Orin NX")),
        ({"board": ""}, None),  # in a container that hides it
        ({"name": "Thor"}, ("Orin", "Thor")),
    ],
)
def test_an_engine_of_a_larger_orin_is_a_warning_on_a_smaller_one(
    engine: Path, here: dict[str, Any], facts: tuple[str, str] | None, caplog: pytest.LogCaptureFixture
) -> None:
    agx = GpuModel("Orin", "8.7", 16, 64 << 30, "NVIDIA Jetson AGX Orin")
    built_for = {
        "compute_capabilities": ["8.7"],
        "gpu": agx.name,
        "multiprocessors": agx.multiprocessors,
        "memory_bytes": agx.memory_bytes,
        "board": agx.board,
    }
    edit(engine, lambda card: (card["library"].update(name="tensorrt"), card["built_for"].update(built_for)))
    check_gpu(engine, EngineCard.read(engine), dataclasses.replace(agx, **here))
    assert [all(fact in record.getMessage() for fact in facts or ()) for record in caplog.records] == [True] * bool(
        facts
    )


def test_a_sidecar_that_does_not_say_how_large_the_gpu_was_is_read(
    engine: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def unsized(card: dict[str, Any]) -> None:
        card["library"].update(name="tensorrt")
        unknown = dict.fromkeys(("multiprocessors", "memory_bytes", "board"))
        card["built_for"].update(unknown, compute_capabilities=["8.7"], gpu="Orin")

    edit(engine, unsized)
    check_gpu(engine, EngineCard.read(engine), GpuModel("Orin", "8.7", 8, 1 << 33))
    assert caplog.records == []


@pytest.mark.parametrize(
    ("version", "flags", "fits"),
    [
        ("1.7.1.116", (), True),
        ("1.7.1.2", (), True),
        ("1.7.0.1", (), False),
        ("1.7.0.1", ("VERSION_COMPATIBLE",), True),
        ("1.9.0.1", ("VERSION_COMPATIBLE",), False),
        ("2.0.0.1", ("VERSION_COMPATIBLE",), False),
    ],
)
def test_versions_fit_by_their_first_three_numbers(
    engine: Path, version: str, flags: tuple[str, ...], fits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    trt = pytest.importorskip("tensorrt_rtx")
    monkeypatch.setattr(trt, "__version__", "1.7.1.116")
    edit(engine, lambda card: card.update(library={"name": "tensorrt_rtx", "version": version}, flags=list(flags)))
    card = EngineCard.read(engine)
    if fits:
        assert load_library(engine, card) is trt
    else:
        with pytest.raises(EngineError, match="TensorRT-RTX"):
            load_library(engine, card)


def test_tensorrt_rtx_is_asked_about_bytes_that_are_not_an_engine(engine: Path) -> None:
    trt = pytest.importorskip("tensorrt_rtx")
    runtime = trt.Runtime(logger_of(trt))
    for plan in (b"", engine.read_bytes()[:20], engine.with_suffix(".onnx").read_bytes(), b"ftrt" + bytes(5000)):
        with pytest.raises(EngineError, match=r"model\.engine.*--rebuild"):
            check_validity(engine, EngineCard.read(engine), runtime, trt, plan)


def test_tensorrt_rtx_cannot_be_asked_without_a_driver(engine: Path, no_gpu: None) -> None:
    trt = pytest.importorskip("tensorrt_rtx")
    with pytest.raises(DeviceError):
        check_validity(engine, EngineCard.read(engine), trt.Runtime(logger_of(trt)), trt, engine.read_bytes())


def test_it_is_only_built_again_from_the_same_onnx(engine: Path) -> None:
    card = EngineCard.read(engine)
    before = engine.read_bytes()
    make_tiny_onnx(engine.with_suffix(".onnx"), scale=2.0)
    with pytest.raises(ArtefactError, match=r"model\.onnx \(sha256 \w+\.\.\.\)") as refused:
        rebuild_engine(engine, dataclasses.replace(card, arguments=("--fp16",)))
    assert f"{engine.with_suffix('.onnx')} --saveEngine={engine} --fp16" in str(
        refused.value
    )  # the same kind of engine
    engine.with_suffix(".onnx").unlink()
    with pytest.raises(ArtefactError, match=r"model\.onnx"):
        rebuild_engine(engine, card)
    assert engine.read_bytes() == before


@pytest.mark.parametrize(
    ("recorded", "here", "expected"),
    [
        (("--fp16",), "12.0", ["--fp16"]),
        (("--fp16",), "7.5", ["--fp16", "--computeCapabilities=7.5"]),  # the default is Ampere and later
        (("--computeCapabilities=8.6,8.9", "--fp16"), "12.0", ["--fp16", "--computeCapabilities=12.0"]),
    ],
)
def test_it_is_built_again_for_the_local_gpu(
    engine: Path, recorded: tuple[str, ...], here: str, expected: list[str]
) -> None:
    card = dataclasses.replace(EngineCard.read(engine), arguments=recorded)
    assert arguments_for(card, here) == expected
    assert arguments_for(card, None) == list(recorded)


@pytest.mark.parametrize(("capabilities", "here"), [(["8.6"], "8.9"), ([], "7.5")])
def test_the_command_to_type_builds_for_the_local_gpu(engine: Path, capabilities: list[str], here: str) -> None:
    recorded = [f"--computeCapabilities={','.join(capabilities)}"] if capabilities else []
    edit(
        engine,
        lambda card: (card["built_for"].update(compute_capabilities=capabilities), card.update(arguments=recorded)),
    )
    with pytest.raises(EngineError, match=rf" --saveEngine=\S+ --computeCapabilities={here}$"):
        check_gpu(engine, EngineCard.read(engine), GpuModel("card", here, 8, 1 << 33))


def test_a_damaged_engine_is_built_again_with_the_recorded_arguments(
    engine: Path, monkeypatch: pytest.MonkeyPatch, root: Path, no_gpu: None
) -> None:
    pytest.importorskip("taijitu_export.engine.cli")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(str(root / name) for name in ("export", "runtime", "training")))
    engine.write_bytes(engine.read_bytes()[:-1])
    with pytest.raises(DeviceError):  # it came that far: the new one is whole, and would be loaded
        open_backend(engine, rebuild=True).load()
    assert EngineCard.read(engine).arguments == ("--backend=rtx",)
    with pytest.raises(DeviceError):
        open_backend(engine).load()


def test_the_owning_thread_ends_even_where_freeing_fails(engine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise DeviceError("the GPU is gone")

    backend = TrtBackend(engine)
    owner = backend._owner = ThreadPoolExecutor(1)
    monkeypatch.setattr(backend, "_close_here", fail)
    with pytest.raises(DeviceError):
        backend._free()
    with pytest.raises(RuntimeError, match="shutdown"):
        owner.submit(fail)
