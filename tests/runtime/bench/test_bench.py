"""The command `bench` on real models, and its remarks about the machine."""

from __future__ import annotations

import dataclasses
import json
import re
import runpy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from taijitu_runtime.bench import ort_probe
from taijitu_runtime.bench.cli import main
from taijitu_runtime.bench.conditions import CpuTimes, clock_warnings, gpu_clock_warnings, load_warnings
from taijitu_runtime.bench.inputs import random_array
from taijitu_runtime.bench.onnx_network import OnnxNetwork
from tests.helpers.pretend_tensorrt import CHOSEN, COLOURS, SCALED, Network, pretend
from tests.helpers.tiny_engine import make_foreign_engine, make_tiny_engine
from tests.helpers.tiny_model import make_tiny_onnx
from tests.helpers.tiny_nish_model import make_nish_onnx

QUICK = ["--warmUp=0", "--duration=0", "--iterations=30"]
NUMBERS = r"min = \S+ ms, max = \S+ ms, mean = \S+ ms, median = \S+ ms, percentile\(90%\) = \S+ ms, .*"


def measured(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    assert main([*map(str, arguments), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert isinstance(printed, dict)
    return printed


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main(list(map(str, arguments))) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    return printed.err


def test_the_block_has_trtexecs_lines_and_no_transfers_on_a_cpu(
    tiny_onnx: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tiny_onnx), *QUICK]) == 0
    lines = capsys.readouterr().out.splitlines()
    patterns = [
        r"Throughput: \S+ qps",
        rf"Latency: {NUMBERS}",
        r"Enqueue Time: absent \(.*\)",
        r"H2D Latency: absent \(nothing is copied\)",
        rf"CPU Compute Time: {NUMBERS}",
        r"D2H Latency: absent \(nothing is copied\)",
        r"Total Host Walltime: \S+ s",
        r"Total CPU Compute Time: \S+ s",
    ]
    start = lines.index("=== Performance summary ===") + 1
    for line, pattern in zip(lines[start : start + len(patterns)], patterns, strict=True):  # warnings may follow
        assert re.fullmatch(pattern, line), line
    assert "Timing trace has 30 queries over " in "\n".join(lines)


def test_the_script_is_the_command(
    root: Path, tiny_onnx: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["bench.py", str(tiny_onnx), *QUICK])
    with pytest.raises(SystemExit, match="0"):
        runpy.run_path(str(root / "runtime" / "bench.py"), run_name="__main__")
    assert "=== Performance summary ===" in capsys.readouterr().out


def test_verbose_prints_averages_and_what_the_lines_mean(tiny_onnx: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tiny_onnx), *QUICK, "--verbose", "--avgRuns=15"]) == 0
    printed = capsys.readouterr().out
    assert len(re.findall(r"^Average on 15 runs - CPU latency: \S+ ms - Host latency: \S+ ms$", printed, re.M)) == 2
    assert "Throughput: queries divided by the Total Host Walltime." in printed
    assert "Averages: 15 inferences" in printed


def test_the_length_of_an_average_does_not_make_the_measurement_longer(
    tiny_onnx: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tiny_onnx), *QUICK, "--verbose", "--avgRuns=100000"]) == 0
    printed = capsys.readouterr().out
    assert "Timing trace has 30 queries over " in printed
    assert "only 30 were measured" in printed  # and no average


def test_json_has_the_numbers_and_the_modes(tiny_onnx: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = measured(capsys, tiny_onnx, *QUICK, "--shapes=images:5x8x8x3", "--cpuThreads=1", "--percentile=50,99.9")
    (model,) = whole["models"]
    assert (model["queries"], model["h2d_ms"], model["enqueue_ms"]) == (30, None, None)
    assert set(model["compute_ms"]["percentiles"]) == {"50", "99.9"}
    assert model["latency_ms"]["min"] <= model["latency_ms"]["median"] <= model["latency_ms"]["max"]
    assert model["throughput_qps"] == pytest.approx(30 / model["host_walltime_s"])
    assert model["modes"]["Input inference shape"] == "images=5x8x8x3"
    assert model["modes"]["CPU threads"] == "1"
    assert model["modes"]["Backend"].startswith("ONNX Runtime ")
    assert whole["ratios"] == []


def test_two_models_are_compared_in_one_run(
    tiny_onnx: Path, shipped_onnx: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = measured(capsys, tiny_onnx, shipped_onnx, "--warmUp=20", "--duration=0.2", "--cpuThreads=1")
    assert [model["model"] for model in whole["models"]] == [str(tiny_onnx), str(shipped_onnx)]
    (ratio,) = whole["ratios"]
    assert (ratio["model"], ratio["to"]) == (str(shipped_onnx), str(tiny_onnx))
    assert 1 < ratio["low"] <= ratio["median"] <= ratio["high"]  # 170 nodes against 5
    assert main([str(tiny_onnx), *QUICK, str(shipped_onnx)]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith(f"{shipped_onnx} / {tiny_onnx}: median latency x")


def test_what_is_exported(tmp_path: Path, shipped_onnx: Path) -> None:
    files = {name: tmp_path / f"{name}.json" for name in ("exportTimes", "exportProfile", "exportLayerInfo")}
    assert main([str(shipped_onnx), *QUICK, *(f"--{name}={file}" for name, file in files.items())]) == 0
    times, profile, info = (json.loads(file.read_text()) for file in files.values())
    assert len(times) == 30
    assert all(row["endComputeMs"] - row["startComputeMs"] == pytest.approx(row["computeMs"]) for row in times)
    assert profile[0] == {"count": 100}
    assert sum(row["percentage"] for row in profile[1:]) == pytest.approx(100)
    assert [layer["Name"] for layer in info["Layers"]] == [row["name"] for row in profile[1:]]
    assert "Conv" in {layer["LayerType"] for layer in info["Layers"]}
    assert info["Layers"][0]["Inputs"][0] == {"Format/Datatype": "uint8", "Dimensions": [1, 32, 32, 3]}
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(file.name for file in files.values())


def test_a_branch_whose_nodes_are_numbered_anew_hides_no_layer(tmp_path: Path) -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]> g (float[2, 3] x) => (float[2, 3] y) {
        a = Abs (x)
        s = ReduceSum <keepdims = 0> (a)
        z = Constant <value_float = 0.0> ()
        c = Greater (s, z)
        b = If (c) <
            then_branch = t () => (float[2, 3] p) { e = Sin (x)  p = Mul (e, a) },
            else_branch = f () => (float[2, 3] q) { q = Neg (x) }
        >
        y = Cos (b)
    }"""
    onnx.save(onnx.parser.parse_model(text), tmp_path / "if.onnx")
    files = {name: tmp_path / f"{name}.json" for name in ("exportProfile", "exportLayerInfo")}
    assert main([str(tmp_path / "if.onnx"), *QUICK, *(f"--{name}={file}" for name, file in files.items())]) == 0
    profile, info = (json.loads(file.read_text()) for file in files.values())
    expected = ["Abs", "ReduceSum", "Greater", "Sin", "Mul", "If", "Cos"]
    assert [layer["LayerType"] for layer in info["Layers"]] == expected
    assert [layer["Name"] for layer in info["Layers"]] == [row["name"] for row in profile[1:]]


def test_layers_are_of_the_measured_queries_where_opening_runs_the_network_too(
    with_nish_library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "no folder").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "no folder"))  # the layout is made and compared at each start
    model = make_nish_onnx(tmp_path / "model.onnx")
    files = {name: tmp_path / f"{name}.json" for name in ("exportProfile", "exportLayerInfo")}
    for name, file in files.items():
        assert main([str(model), *QUICK, f"--{name}={file}"]) == 0
    profile, info = (json.loads(file.read_text()) for file in files.values())
    assert [layer["LayerType"] for layer in info["Layers"]][:3] == ["Cast", "Sub", "Div"]
    assert info["Layers"][-1]["LayerType"] == "Gemm"
    assert [row["name"] for row in profile[1:]] == [layer["Name"] for layer in info["Layers"]]


def test_a_profile_that_ran_full_is_refused(
    tiny_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Full(OnnxNetwork):
        """A network whose profiler has room for 600 events and not for a million."""

        def __enter__(self) -> OnnxNetwork:
            super().__enter__()
            end = self.session.end_profiling
            self.session.end_profiling = lambda: cut(Path(end()))
            return self

    def cut(file: Path) -> str:
        file.write_text(json.dumps(json.loads(file.read_text())[:600]))
        return str(file)

    monkeypatch.setattr(ort_probe, "OnnxNetwork", Full)
    assert main([str(tiny_onnx), *QUICK, f"--exportProfile={tmp_path / 'profile.json'}"]) == 2
    assert "--iterations" in capsys.readouterr().err
    assert not list(tmp_path.glob("profile.json"))


def test_a_network_without_nodes_has_no_layers(tmp_path: Path) -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]> g (float[2] x) => (float[2] y) <float[2] y = {1.0, 2.0}> { }"""
    onnx.save(onnx.parser.parse_model(text), tmp_path / "none.onnx")
    assert main([str(tmp_path / "none.onnx"), *QUICK, f"--exportLayerInfo={tmp_path / 'info.json'}"]) == 0
    assert json.loads((tmp_path / "info.json").read_text())["Layers"] == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--useCudaGraph"], "--useCudaGraph"),
        (["--noDataTransfers"], "--noDataTransfers"),
        (["--rebuild"], "--rebuild"),
        (["--shapes=images:2x9x8x3"], r"got --shapes=images:2x9x8x3, expected images:Nx8x8x3 with N from 1$"),
        (["--shapes=images:0x8x8x3"], r"expected images:Nx8x8x3 with N from 1$"),
        (["--shapes=pixels:1x8x8x3"], r"expected images:Nx8x8x3"),
        (["--shapes=images:1x8x8x3,images:2x8x8x3"], "images twice"),
        (["--shapes=images:1x8x8x3", "--shapes=images:2x8x8x3"], "--shapes: got it twice"),
        (["--percentile=101"], "101.* 0 to 100"),
        (["--percentile=p"], r"invalid percentages value: 'p'"),
        (["--shapes=images:99999999999999x8x8x3"], "--shapes=images:99999999999999x8x8x3, .*memory"),
        (["--duration=-1"], "--duration=-1.* 0 "),
        (["--duration=nan"], "--duration=nan"),
        (["--warmUp=inf"], "--warmUp=inf"),
        (["--iterations=0"], "--iterations=0.* 1 "),
        (["--cpuThreads=1025"], "--cpuThreads=1025.* 1024"),
        (["--verbose", "--json"], r"got --verbose with --json"),
        (["--exportTimes=/no/such/folder/t.json"], "t.json.*/no/such/folder"),
        (["--exportTimes=/dev/null"], "/dev/null"),
        ([f"--exportTimes={__file__}/t.json"], "t.json.*test_bench.py"),
        (["--fp16"], "--fp16; did you mean taijitu engine"),
        (["--batch=8"], "--batch=8; did you mean --shapes"),
        (["gone.onnx"], r"gone\.onnx: got no such file"),
        (["--provider=cuda"], r"got no provider 'cuda' \(onnxruntime is the build for CPUs only\)"),
    ],
)
def test_wrong_usage_is_one_line(
    tiny_onnx: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert re.search(message, refused(capsys, tiny_onnx, *arguments).strip())


def test_an_export_takes_no_other_files_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = make_tiny_onnx(tmp_path / "model.onnx")
    whole, file = model.read_bytes(), tmp_path / "t.json"
    assert "expected --exportTimes to name its own file" in refused(capsys, model, f"--exportTimes={model}")
    both = refused(capsys, model, f"--exportTimes={file}", f"--exportProfile={tmp_path}/../{tmp_path.name}/t.json")
    assert "expected --exportProfile to name its own file" in both
    engine = tmp_path / "model.engine"
    assert "expected --exportProfile to name its own file" in refused(capsys, engine, f"--exportProfile={engine}.json")
    (tmp_path / "loop").symlink_to("loop")
    assert "loop" in refused(capsys, model, f"--exportTimes={tmp_path}/loop")
    assert model.read_bytes() == whole
    assert not file.exists()


def test_what_was_measured_is_printed_even_if_an_export_fails(
    tiny_onnx: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tiny_onnx), *QUICK, "--json", "--exportTimes=/proc/times.json"]) == 2
    printed = capsys.readouterr()
    assert json.loads(printed.out)["models"][0]["queries"] == 30
    assert "/proc/times.json" in printed.err


def test_a_fixed_batch_is_taken_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = make_tiny_onnx(tmp_path / "four.onnx", batch=4)
    assert measured(capsys, model, *QUICK)["models"][0]["modes"]["Input inference shape"] == "images=4x8x8x3"
    assert "expected images:4x8x8x3" in refused(capsys, model, "--shapes=images:1x8x8x3")


def test_a_network_that_fails_on_the_input_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reshape = onnx.helper.make_node("Reshape", ["x", "shape"], ["y"])
    shape = onnx.numpy_helper.from_array(np.array([1, 4]), "shape")
    x, y = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N", 4]) for name in "xy")
    graph = onnx.helper.make_graph([reshape], "fixed", [x], [y], [shape])
    model = onnx.helper.make_model(graph, ir_version=8, opset_imports=[onnx.helper.make_opsetid("", 17)])
    onnx.save(model, tmp_path / "model.onnx")
    assert main([str(tmp_path / "model.onnx"), *QUICK]) == 0
    capsys.readouterr()
    assert "model.onnx: ONNX Runtime failed on x 2x4" in refused(capsys, tmp_path / "model.onnx", "--shapes=x:2x4")


def test_a_network_without_inputs_is_measured(tmp_path: Path) -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]> g () => (float[2] y) <float[2] w = {1.0, 2.0}> { y = Relu(w) }"""
    onnx.save(onnx.parser.parse_model(text), tmp_path / "none.onnx")
    assert main([str(tmp_path / "none.onnx"), *QUICK]) == 0


@pytest.mark.parametrize("kind", ["string[1]", "seq(float[1])"])
def test_an_input_of_a_type_that_numpy_lacks_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    text = f"""<ir_version: 8, opset_import: ["" : 17]> g ({kind} x) => ({kind} y) {{ y = Identity(x) }}"""
    onnx.save(onnx.parser.parse_model(text), tmp_path / "model.onnx")
    assert "model.onnx: got an input x of " in refused(capsys, tmp_path / "model.onnx")


def test_exports_of_two_models_are_refused(tiny_onnx: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "got --exportTimes and 2 models" in refused(capsys, tiny_onnx, tiny_onnx, "--exportTimes=t.json")


def test_flags_of_the_cpu_are_refused_for_an_engine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    engine = make_tiny_engine(tmp_path / "model.engine")
    assert "got --cpuThreads for" in refused(capsys, engine, "--cpuThreads=2")
    assert "got --provider for" in refused(capsys, engine, "--provider=cpu")


@pytest.mark.parametrize(
    "network", [COLOURS, SCALED, CHOSEN], ids=["a classifier's", "two inputs, two outputs", "values decide"]
)
@pytest.mark.parametrize("flags", [[], ["--useCudaGraph"], ["--noDataTransfers"]])
def test_any_engine_is_measured(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    network: Network,
    flags: list[str],
) -> None:
    """Here TensorRT and the GPU are simulated; a test below has real ones."""
    path = tmp_path / "model.engine"
    gpu, engine = pretend(path, network, monkeypatch, smallest=2)
    files = {name: tmp_path / f"{name}.json" for name in ("exportTimes", "exportProfile", "exportLayerInfo")}
    (model,) = measured(capsys, path, *QUICK, *flags, *(f"--{name}={file}" for name, file in files.items()))["models"]
    shapes = {name: (2, *shape[1:]) for name, (_, shape) in network.inputs.items()}
    written = ",".join(f"{name}={'x'.join(map(str, shape))}" for name, shape in shapes.items())
    assert (model["queries"], model["modes"]["Input inference shape"]) == (30, written)
    assert (model["h2d_ms"] is None) == (model["d2h_ms"] is None) == ("--noDataTransfers" in flags)
    queries = 0 if "--noDataTransfers" in flags else 30 + 100  # measured, and profiled
    assert gpu.copies == {
        "up": len(network.inputs) * (1 + queries),
        "down": len(network.outputs) * queries,
    }
    assert gpu.launched == [2] * (30 if "--useCudaGraph" in flags else 0)
    assert [context.runs for context in engine.contexts] == [2 if "--useCudaGraph" in flags else 30, 100]
    times, profile, info = (json.loads(file.read_text()) for file in files.values())
    assert (len(times), profile[0], profile[1]["name"]) == (30, {"count": 100}, "all")
    assert info["Bindings"] == list(network.tensors)
    assert gpu.is_closed


def test_every_input_of_an_engine_reaches_the_gpu(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[NDArray[Any], ...]] = []

    def compute(*arrays: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        seen.append(tuple(array.copy() for array in arrays))
        return SCALED.compute(*arrays)

    pretend(tmp_path / "model.engine", dataclasses.replace(SCALED, compute=compute), monkeypatch)
    measured(capsys, tmp_path / "model.engine", *QUICK, "--shapes=scale:3x1,x:3x3x4x5")
    assert len(seen) == 30  # one for each measured query
    for x, scale in seen:
        np.testing.assert_array_equal(x, random_array((3, 3, 4, 5), np.dtype(np.float32)))
        np.testing.assert_array_equal(scale, random_array((3, 1), np.dtype(np.float16)))


@pytest.mark.parametrize("shapes", ["y:1x3x4x5", "x:5x3x4x5", "x:1x3x4x6", "x:1x3x4", "x:1x3x4x5,scale:0x1"])
def test_shapes_that_an_engine_was_not_built_for_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, shapes: str
) -> None:
    gpu, _ = pretend(tmp_path / "model.engine", SCALED, monkeypatch)
    printed = refused(capsys, tmp_path / "model.engine", f"--shapes={shapes}")
    assert f"got --shapes={shapes}, expected x:1x3x4x5 to 4x3x4x5, scale:1x1 to 4x1" in printed
    assert gpu.is_closed


@pytest.mark.parametrize("inspector", [None, SimpleNamespace(get_engine_information=lambda how: None)])
def test_an_engine_whose_layers_cannot_be_listed_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, inspector: object
) -> None:
    gpu, engine = pretend(tmp_path / "model.engine", SCALED, monkeypatch)
    monkeypatch.setattr(engine, "create_engine_inspector", lambda: inspector)
    info = tmp_path / "layers.json"
    assert main([str(tmp_path / "model.engine"), *QUICK, f"--exportLayerInfo={info}"]) == 2
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1
    assert "TensorRT could not" in printed
    assert gpu.is_closed
    assert not info.exists()


@pytest.mark.gpu
@pytest.mark.parametrize("flags", [[], ["--useCudaGraph"], ["--noDataTransfers"]])
@pytest.mark.parametrize("kind", ["tiny", "foreign"])
def test_an_engine_is_measured_on_a_gpu(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str, flags: list[str]
) -> None:
    path = tmp_path / "model.engine"
    if kind == "tiny":
        make_tiny_engine(path)
    else:
        make_foreign_engine(path)
        capsys.readouterr()
    info = tmp_path / "layers.json"
    (model,) = measured(capsys, path, *QUICK, *flags, f"--exportLayerInfo={info}")["models"]
    assert model["enqueue_ms"]["median"] > 0
    assert (model["h2d_ms"] is None) == ("--noDataTransfers" in flags)
    assert json.loads(info.read_text())["Layers"]


def test_other_programs_and_the_host_are_noticed() -> None:
    before = CpuTimes.from_line("cpu  1000 0 0 5000 0 0 0 0 0 0", ours=500.0)
    assert load_warnings(before, CpuTimes.from_line("cpu  1100 0 0 5100 0 0 0 0 0 0", ours=600.0)) == []
    # of 200 ticks 100 were busy, 40 of them ours: 60 are 30 %
    (warning,) = load_warnings(before, CpuTimes.from_line("cpu  1080 10 10 5100 0 0 0 0 0 0", ours=540.0))
    assert "30%" in warning
    (warning,) = load_warnings(before, CpuTimes.from_line("cpu  1100 0 0 5090 0 0 0 10 0 0", ours=600.0))
    assert "5%" in warning
    assert load_warnings(None, None) == []


def test_clocks_that_are_not_fixed_are_noticed(tmp_path: Path) -> None:
    governor = tmp_path / "devices/system/cpu/cpu0/cpufreq/scaling_governor"
    governor.parent.mkdir(parents=True)
    governor.write_text("performance\n")
    assert clock_warnings("CPU", tmp_path) == []
    governor.write_text("schedutil\n")
    (warning,) = clock_warnings("CPU", tmp_path)
    assert warning.startswith("The CPU's clock is not fixed (governor schedutil).")
    # A processor that is turned off has a file that cannot be read; in this test a folder is in its place.
    (tmp_path / "devices/system/cpu/cpu1/cpufreq/scaling_governor").mkdir(parents=True)
    assert clock_warnings("CPU", tmp_path) == [warning]
    for name in ("scaling_min_freq", "scaling_max_freq"):  # after jetson_clocks
        governor.with_name(name).write_text("1728000\n")
    assert clock_warnings("CPU", tmp_path) == []
    governor.with_name("scaling_min_freq").write_text("729600\n")
    assert clock_warnings("CPU", tmp_path) == [warning]
    jetson = tmp_path / "class/devfreq/17000000.gpu"
    jetson.mkdir(parents=True)
    (jetson / "min_freq").write_text("306000000\n")
    (jetson / "max_freq").write_text("918000000\n")
    assert clock_warnings("GPU", tmp_path)[1].endswith("sudo nvpmodel -m 0 && sudo jetson_clocks fixes it.")
    assert gpu_clock_warnings("1980, 1980\n") == []
    assert gpu_clock_warnings("[N/A], [N/A]\n") == []
    assert gpu_clock_warnings("210, 1980\n")[0].startswith("The GPU ran at 210 of 1980 MHz.")
