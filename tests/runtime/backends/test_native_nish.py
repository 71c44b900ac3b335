"""The native Nish: right on every instruction set, and the same answers from one ONNX file with it and without."""

from __future__ import annotations

import logging
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import helper

from taijitu_runtime import native
from taijitu_runtime.backends import OrtBackend
from taijitu_runtime.native import build
from tests.helpers.tiny_model import make_tiny_onnx
from tests.helpers.tiny_nish_model import make_nish_onnx, nish_pictures

HERE = Path(__file__).parent
CROSS_COMPILER = "aarch64-linux-gnu-g++"


def nish64(x: NDArray[Any]) -> NDArray[np.float64]:
    """Compute Nish in double precision."""
    wide = np.asarray(x, np.float64)
    n = np.clip(wide, -700.0, 0.0)
    return np.where(wide < 0, (n + np.sin(n)) / (1 + np.exp(-n)), wide)


def build_accuracy_program(compiler: list[str], folder: Path, *flags: str) -> Path:
    objects = build.compile_passes(compiler, folder)
    program = folder / "nish_accuracy"
    source = HERE / "nish_accuracy.cpp"
    include = f"-I{build.SOURCES}"
    command = [*compiler, "-std=c++17", "-O2", include, *flags, str(source), *map(str, objects), "-o", str(program)]
    subprocess.run(command, check=True)
    return program


def test_every_instruction_set_of_this_machine_is_within_4_ulp_or_1e_7(compiler: list[str], tmp_path: Path) -> None:
    program = build_accuracy_program(compiler, tmp_path)
    done = subprocess.run([program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "baseline" in done.stdout


def test_it_is_as_accurate_on_aarch64(tmp_path: Path) -> None:
    emulator = shutil.which("qemu-aarch64") or shutil.which("qemu-aarch64-static")
    if not shutil.which(CROSS_COMPILER) or not emulator:
        pytest.skip("no aarch64 here: it takes Debian's g++-aarch64-linux-gnu and qemu-user")
    library = build.build_library([CROSS_COMPILER], tmp_path)
    assert library.read_bytes()[18] == 183  # EM_AARCH64 in the header of the ELF file
    program = build_accuracy_program([CROSS_COMPILER], tmp_path, "-static")
    done = subprocess.run([emulator, program, "1999"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def run_nish(library: Path | None, x: NDArray[Any], threads: int = 1) -> NDArray[Any]:
    """Run one node on ONNX Runtime; `x` of float32 or float16."""
    element = helper.np_dtype_to_tensor_dtype(x.dtype)
    values = [helper.make_tensor_value_info(name, element, [None] * x.ndim) for name in ("x", "y")]
    node = helper.make_node("Nish", ["x"], ["y"], domain="taijitu")
    graph = helper.make_graph([node], "one", values[:1], values[1:])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("taijitu", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    if library is not None:
        options.register_custom_ops_library(str(library))
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    y: NDArray[Any] = session.run(None, {"x": x})[0]
    return y


@pytest.mark.parametrize("shape", [(), (1,), (0, 3), (5,), (2, 3, 5, 7), (1, 1, 1, 1, 1, 1, 2, 33), (70_001,)])
def test_every_shape_comes_back_with_its_own_answers(nish_library: Path, shape: tuple[int, ...]) -> None:
    x = np.asarray(np.random.default_rng(0).normal(-1, 4, shape), np.float32)
    y = run_nish(nish_library, x)
    assert (y.shape, y.dtype) == (x.shape, np.dtype(np.float32))
    np.testing.assert_allclose(y, nish64(x), rtol=0, atol=1.2e-7)


def test_the_number_of_threads_changes_no_bit(nish_library: Path) -> None:
    x = np.random.default_rng(0).normal(-1, 4, 300_007).astype(np.float32)
    np.testing.assert_array_equal(run_nish(nish_library, x, threads=3), run_nish(nish_library, x, threads=1))


def test_half_precision_is_the_exact_value_rounded(nish_library: Path) -> None:
    x = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    y = run_nish(nish_library, x)
    assert y.dtype == np.float16
    below = x < 0
    np.testing.assert_array_equal(y[~below].view(np.uint16), x[~below].view(np.uint16))  # NaN's bits too
    exact = nish64(x[below])
    unit = np.spacing(np.abs(exact).astype(np.float16)).astype(np.float64)
    assert (np.abs(y[below] - exact) / unit).max() <= 0.55


def test_the_kernel_takes_precedence_over_the_definition_in_the_file(nish_library: Path, tmp_path: Path) -> None:
    model = make_nish_onnx(tmp_path / "model.onnx")
    operators = {}
    for library in (None, nish_library):
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
        options.log_severity_level = 3
        if library is not None:
            options.register_custom_ops_library(str(library))
        onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        operators[library] = [node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node]
    assert operators[nish_library].count("Nish") == 8
    assert operators[None].count("Sin") == 8
    assert "Sin" not in operators[nish_library]


@pytest.mark.parametrize("count", [1, 5])
def test_one_file_answers_the_same_with_the_kernel_and_without(
    with_nish_library: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, count: int
) -> None:
    caplog.set_level(logging.INFO, "taijitu_runtime")
    model = make_nish_onnx(tmp_path / "model.onnx")
    images = nish_pictures(count)
    with OrtBackend(model) as ours, OrtBackend(model, native=False) as plain:
        assert ours.card == plain.card
        np.testing.assert_allclose(ours.infer(images), plain.infer(images), rtol=1e-5, atol=1e-5)
    assert caplog.messages == []


def test_without_the_library_a_log_line_says_what_is_lost_and_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "taijitu_runtime")
    monkeypatch.setattr(native, "LIBRARY", tmp_path / "gone.so")
    model = make_nish_onnx(tmp_path / "model.onnx")
    with OrtBackend(model) as ours, OrtBackend(model, native=False) as plain:
        np.testing.assert_array_equal(ours.infer(nish_pictures(2)), plain.infer(nish_pictures(2)))
    with OrtBackend(model):
        pass
    (record,) = caplog.records  # one warning a process
    assert record.levelname == "WARNING"
    assert str(tmp_path / "gone.so") in record.message
    assert "python -m taijitu_runtime.native.build" in record.message


def test_a_library_that_cannot_be_loaded_is_ignored_with_a_log_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "taijitu_runtime")
    broken = tmp_path / "libtaijitu_nish.so"
    broken.write_bytes(b"\x7fELF for another machine")
    monkeypatch.setattr(native, "LIBRARY", broken)
    model = make_nish_onnx(tmp_path / "model.onnx")
    with OrtBackend(model) as ours, OrtBackend(model, native=False) as plain:
        np.testing.assert_array_equal(ours.infer(nish_pictures(2)), plain.infer(nish_pictures(2)))
    (message,) = caplog.messages
    assert "libtaijitu_nish.so that cannot be loaded (" in message


def test_a_model_without_nish_needs_no_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "taijitu_runtime")
    monkeypatch.setattr(native, "LIBRARY", tmp_path / "gone.so")
    with OrtBackend(make_tiny_onnx(tmp_path / "model.onnx")):
        assert caplog.messages == []


def test_the_builders_refusal_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert build.main([]) == 2
    error = capsys.readouterr().err
    assert ("CXX=no-such-compiler" in error, error.count("\n")) == (True, 1)
    monkeypatch.setenv("CXX", 'false "')
    assert build.main([]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    failing = tmp_path / "failing"
    failing.write_text('#!/bin/sh\necho "fatal error: cstdint not found" >&2\nexit 1\n')
    failing.chmod(0o755)
    monkeypatch.setenv("CXX", str(failing))
    assert build.main([]) == 2
    error = capsys.readouterr().err
    assert "fatal error: cstdint not found" in error
    assert error.count("\n") == 1
