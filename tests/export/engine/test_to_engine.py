"""Engines, built by the real TensorRT-RTX, which does not need a GPU for that."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import onnx
import pytest

from taijitu_export.engine import cli as engine_cli
from taijitu_export.engine.api import build_engine
from taijitu_export.engine.building.engine_from_onnx import engine_from_onnx
from taijitu_export.engine.building.progress import BuildProgress
from taijitu_export.engine.building.timing_cache import TimingCache
from taijitu_export.engine.gpu import Gpu
from taijitu_export.engine.graph import read_graph
from taijitu_export.engine.graph_for_parser import check_precision, graph_for_parser, without_functions
from taijitu_export.engine.library import Library
from taijitu_export.engine.options import Options
from taijitu_export.engine.request import Request
from taijitu_export.engine.shapes import Shapes
from taijitu_export.engine.target import open_target
from taijitu_runtime.backends.trt.logger import logger_of
from taijitu_runtime.card import ModelCard
from taijitu_runtime.engine_card import RECORDED_FLAGS, EngineCard, ShapeRange
from taijitu_runtime.errors import UsageError
from tests.helpers.tiny_model import make_tiny_onnx
from tests.helpers.tiny_nish_model import make_nish_onnx

pytest.importorskip("tensorrt_rtx", reason="no TensorRT-RTX: no engine can be built")

Refused = Callable[..., str]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Export a small network with Nish, dynamic batch, pictures of 16 x 16."""
    return make_nish_onnx(tmp_path / "model.onnx")


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Refused:
    """Return a function that checks the exit code of a refused command and returns the one line on stderr."""

    def call(code: int, *arguments: str | Path) -> str:
        assert engine_cli.main(list(map(str, arguments))) == code
        printed = capsys.readouterr()
        assert printed.out == ""
        return printed.err

    return call


def build(*arguments: str | Path) -> None:
    assert engine_cli.main(list(map(str, arguments))) == 0


def metadata(path: Path) -> dict[str, str]:
    return {entry.key: entry.value for entry in onnx.load(path).metadata_props}


def test_the_plan_is_bare_and_the_sidecar_says_what_it_is(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = model.with_suffix(".engine")
    build(model)
    assert plan.read_bytes()[:4] == b"vtrt"
    card = EngineCard.read(plan)
    assert card.card == ModelCard.read_onnx_metadata(metadata(model))
    assert card.library.name == "tensorrt_rtx"
    assert card.plan_sha256 == hashlib.sha256(plan.read_bytes()).hexdigest()
    assert (card.source.path, card.source.sha256) == ("model.onnx", hashlib.sha256(model.read_bytes()).hexdigest())
    assert card.precision.layers == {"float32": 7}
    assert card.precision.counted_in == "network"
    assert "STRONGLY_TYPED" in card.flags
    assert card.inputs[0].shape == (-1, 16, 16, 3)
    assert card.profiles == ({"images": ShapeRange((1, 16, 16, 3), (1, 16, 16, 3), (16, 16, 16, 3))},)
    printed = capsys.readouterr().out
    assert printed.startswith(f"{plan}: ")
    assert "fp32: 7 float32 of 7 layers with weights of the typed network\n" in printed
    assert ("it has not been run" in printed) == (not card.built_for.gpu)


def test_trtexecs_flags_with_a_space_or_an_equals_sign_as_the_sidecar_records_them(model: Path, tmp_path: Path) -> None:
    first, again = tmp_path / "a" / "first.engine", tmp_path / "again.engine"
    first.parent.mkdir()
    build(f"--onnx={model}", "--saveEngine", first, "--backend", "rtx", "--minShapes=images:1x16x16x3",
          "--optShapes", "images:4x16x16x3", "--maxShapes=images:8x16x16x3", "--memPoolSize=workspace:256M",
          "--computeCapabilities=8.6,8.9,12.0", "--builderOptimizationLevel", "2", "--noTF32",
          "--skipInference")  # fmt: skip
    card = EngineCard.read(first)
    assert card.profiles[0]["images"] == ShapeRange((1, 16, 16, 3), (4, 16, 16, 3), (8, 16, 16, 3))
    assert card.built_for.compute_capabilities == ("8.6", "8.9", "12.0")
    assert "TF32" not in card.flags
    assert card.source.path == "../model.onnx"
    build(model, f"--saveEngine={again}", *card.arguments)
    rebuilt = EngineCard.read(again)
    assert rebuilt.arguments == card.arguments
    assert (rebuilt.profiles, rebuilt.built_for, rebuilt.flags) == (card.profiles, card.built_for, card.flags)


def test_the_source_is_found_from_a_folder_that_is_a_link(model: Path, tmp_path: Path) -> None:
    (tmp_path / "far" / "engines").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "far" / "engines")
    plan = tmp_path / "link" / "model.engine"
    build(model, f"--saveEngine={plan}")
    assert (plan.parent / EngineCard.read(plan).source.path).samefile(model)


def test_a_new_flag_of_the_builder_is_recorded_or_known_not_to_decide_what_is_built() -> None:
    flags = {flag for action in engine_cli.build_parser()._actions for flag in action.option_strings}
    others = {"-h", "--help", "--onnx", "--saveEngine", "--timingCacheFile", "--verbose", "--json"}
    assert flags == RECORDED_FLAGS | others
    everything = Options(
        shapes=Shapes(*[{"images": (1, 2)}] * 3),
        pools={"workspace": 1},
        optimisation_level=0,
        hardware_compatibility="ampere+",
        version_compatible=True,
        compute_capabilities=("8.6",),
        dla_core=0,
        gpu_fallback=True,
        tf32=False,
        nish_plugin=True,
    )
    request = Request(source=Path("a.onnx"), output=Path("a.engine"), options=everything, answer=False)
    both = [
        argument for kind in ("fp16", "int8") for argument in dataclasses.replace(request, precision=kind).arguments
    ]
    assert {argument.split("=")[0] for argument in both} == RECORDED_FLAGS - {"--backend"}


def test_opt_shapes_alone_fix_the_batch(model: Path) -> None:
    build(model, "--optShapes=images:3x16x16x3")
    (profile,) = EngineCard.read(model.with_suffix(".engine")).profiles
    assert profile["images"] == ShapeRange(*[(3, 16, 16, 3)] * 3)


def test_a_graph_with_a_fixed_batch_needs_no_shapes(tmp_path: Path) -> None:
    model = make_tiny_onnx(tmp_path / "model.onnx", batch=2, layout="float32")
    build(model)
    card = EngineCard.read(model.with_suffix(".engine"))
    assert card.inputs[0].shape == (2, 3, 8, 8)
    assert card.profiles[0]["images"].max == (2, 3, 8, 8)


def test_json_prints_the_sidecar_and_nothing_else(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    build(model, "--json")
    printed = capsys.readouterr()
    assert json.loads(printed.out) == json.loads(model.with_suffix(".engine.json").read_text())


def test_fp16_of_a_float32_graph_without_torch_and_scipy(shipped_onnx: Path, root: Path, tmp_path: Path) -> None:
    plain, half = tmp_path / "plain.engine", tmp_path / "half.engine"
    build(shipped_onnx, "--saveEngine", plain)
    absent = ("torch", "torchvision", "timm", "onnxscript", "scipy", "taijitu_training")
    code = f"import sys\nfor name in {absent!r}: sys.modules[name] = None\n"
    code += "from taijitu_export.engine.cli import main\nraise SystemExit(main(sys.argv[1:]))"
    paths = [str(root / folder) for folder in ("export", "runtime")]
    command = [sys.executable, "-W", "error", "-c", f"import sys\nsys.path[:0] = {paths!r}\n{code}"]
    done = subprocess.run([*command, shipped_onnx, "--fp16", f"--saveEngine={half}"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "fp16: 54 float16 of 54 layers with weights of the typed network\n" in done.stdout
    card = EngineCard.read(half)
    assert (card.precision.asked, card.precision.layers) == ("fp16", {"float16": 54})
    assert card.card.precision.name == "fp16"
    assert [(tensor.name, tensor.dtype) for tensor in (*card.inputs, *card.outputs)] == [
        ("images", "uint8"),
        ("logits", "float32"),
    ]
    # The types compiled into the plans agree.
    compiled = {
        path: re.findall(rb"const_payload_size=\d+ .*? type=(\w+)", path.read_bytes()) for path in (plain, half)
    }
    assert compiled[plain].count(b"half") == 0 < compiled[plain].count(b"float")
    assert compiled[half].count(b"half") > 100


def claim(path: Path, precision: str) -> Path:
    """Let a file's card say that its layers are of another precision than they are."""
    model = onnx.load(path)
    card = ModelCard.read_onnx_metadata(metadata(path)).to_dict()
    card["precision"] = {"name": precision, "excluded_layers": [], "calibration": {}}
    onnx.helper.set_model_props(model, ModelCard.from_dict(card).to_metadata())
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize("asked", [["--fp16"], []])
def test_an_engine_of_another_precision_is_not_kept_and_the_old_one_stays(
    model: Path, asked: list[str], refused: Refused, capsys: pytest.CaptureFixture[str]
) -> None:
    build(model)
    plan, sidecar = model.with_suffix(".engine"), model.with_suffix(".engine.json")
    before = plan.read_bytes(), sidecar.read_bytes()
    capsys.readouterr()
    text = refused(1, claim(model, "fp16"), *asked)
    assert text.count("\n") == 1
    assert ("fp16" in text, "float16" in text, "7 float32 of 7 layers" in text) == (True, True, True)
    assert (plan.read_bytes(), sidecar.read_bytes()) == before
    assert sorted(path.name for path in model.parent.iterdir()) == ["model.engine", "model.engine.json", "model.onnx"]


def test_layers_that_the_graph_keeps_in_float32_are_allowed_and_no_more() -> None:
    from taijitu_export.engine.building.layers import LayerCount, shortfall

    counted = LayerCount({"float16": 5, "float32": 2}, "network")
    assert shortfall("fp16", counted, excluded=2) == ""
    assert "got 2 layers that are not float16, expected at most the 1" in shortfall("fp16", counted, excluded=1)
    assert "smaller type than float32" in shortfall("fp32", counted, excluded=0)
    # An engine's own choice of a larger type for some layer is TensorRT's.
    assert shortfall("fp16", LayerCount({"float16": 5, "float32": 2}, "engine"), excluded=0) == ""


def test_layers_of_an_engine_are_counted_as_the_inspector_writes_them() -> None:
    from taijitu_export.engine.building.layers import count_engine

    # As TensorRT 8.6 to 10.x, and 11.0, write them; no engine can be opened without a GPU.
    told = [
        {"Name": "a", "Outputs": [{"Format/Datatype": "Channel major FP16 format where channel % 8 == 0"}]},
        {"Name": "b", "Outputs": [{"Format/Datatype": "Half"}]},
        {"Name": "c", "Outputs": [{"Format/Datatype": "Row major linear FP32"}]},
        {"Name": "d", "Outputs": [{"Format/Datatype": "Four wide channel vectorized row major Int8 format"}]},
        {"Name": "e", "Outputs": [{"Format": "Row major linear", "DataType": "HALF"}]},
        {"Name": "f", "Outputs": [{"Format/Datatype": "UInt8"}]},
    ]

    class Engine:
        def create_engine_inspector(self) -> Engine:
            return self

        def get_engine_information(self, form: object) -> str:
            return json.dumps({"Layers": told})

    counted = count_engine(pytest.importorskip("tensorrt_rtx"), Engine())
    assert counted.layers == {"float16": 3, "float32": 1, "int8": 1}


@pytest.mark.parametrize(
    ("flag", "reason"),
    [
        ("--versionCompatible", "engines of TensorRT-RTX hold for one release"),
        ("--hardwareCompatibilityLevel=ampere+", "has --computeCapabilities for that"),
        ("--hardwareCompatibilityLevel=sameComputeCapability", "has --computeCapabilities for that"),
        ("--timingCacheFile=cache", "changes nothing (release notes 1.1)"),
        ("--useDLACore=0", "RTX cards, which have no DLA"),
        ("--nishPlugin", "TensorRT-RTX has no plugins"),
    ],
)
def test_a_flag_that_this_library_does_not_use_is_an_error_that_says_why(
    model: Path, flag: str, reason: str, refused: Refused
) -> None:
    text = refused(2, model, flag)
    assert text.startswith(f"taijitu engine: got {flag.partition('=')[0]}")
    assert "which TensorRT-RTX 1." in text
    assert reason in text
    assert text.count("\n") == 1
    assert not model.with_suffix(".engine").exists()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--optShapes=pictures:1x16x16x3"], "expected an input of the network: images"),
        (["--optShapes=images:1x32x32x3"], "expected images:Nx16x16x3"),
        (["--optShapes=images:0x16x16x3"], "with N at least 1"),
        (["--minShapes=images:4x16x16x3", "--optShapes=images:2x16x16x3"], "expected min <= opt <= max"),
        (["--optShapes=1x16x16x3"], "expected NAME:SHAPE"),
        (["--memPoolSize=workspce:1G"], "expected POOL:SIZE such as workspace:256M"),
        (["--memPoolSize=workspace:99999999999G"], "expected POOL:SIZE such as workspace:256M"),
        ([f"--memPoolSize=workspace:{10**400}"], "expected POOL:SIZE such as workspace:256M"),
        (["--memPoolSize=workspace:0.1B"], "expected POOL:SIZE such as workspace:256M"),
        (["--memPoolSize=workspace:1M,workspace:1G"], "workspace twice"),
        (["--memPoolSize=workspace:1G", "--memPoolSize=tacticSharedMem:1M"], "--memPoolSize: got it twice"),
        (["--maxShapes=images:4x16x16x3", "--maxShapes=images:8x16x16x3"], "--maxShapes: got it twice"),
        (["--computeCapabilities=8.6", "--computeCapabilities=8.9"], "--computeCapabilities: got it twice"),
        ([f"--maxShapes=images:{10**20}x16x16x3"], "in every dimension"),
        (["--memPoolSize=dlaSRAM:1M"], "without --useDLACore"),
        (["--allowGPUFallback"], "without --useDLACore"),
        (["--computeCapabilities=9.9"], "compute capability 9.9"),
        (["--computeCapabilities=86"], "expected compute capabilities such as 8.6,8.9,12.0"),
        (["--builderOptimizationLevel=9"], "choose from"),
        (["--fp16", "--int8"], "not allowed with"),
        (["--fp32"], "unrecognized arguments: --fp32"),
        (["--best"], "--best; did you mean --fp16"),
        (["--precisionConstraints=obey"], "; did you mean the types of the ONNX file"),
        (["--workspace=1024"], "; did you mean --memPoolSize=workspace"),
        (["--loadEngine=model.engine"], "; did you mean taijitu bench"),
        (["--int8"], "INT8 WoQ GEMM"),
        (["--saveEngine=no/such/folder/model.engine"], "no/such/folder"),
        (["--saveEngine=model.onnx"], "model.onnx"),
        (["--saveEngine=model.txt"], "model.txt"),
        (["--saveEngine=model"], "model.engine"),
    ],
)
def test_wrong_usage_is_one_line_and_leaves_nothing(
    model: Path, arguments: list[str], expected: str, refused: Refused
) -> None:
    text = refused(2, model, *arguments)
    assert expected in text
    assert text.count("\n") == 1
    assert [path.name for path in model.parent.iterdir()] == ["model.onnx"]


def test_python_refuses_what_the_command_refuses_and_takes_any_sequence(model: Path) -> None:
    for wrong in (("86",), ("8.6", "8.6"), ("8.6.",)):
        with pytest.raises(UsageError, match=r"8\.?6"):
            build_engine(model, compute_capabilities=wrong, backend="rtx")
    assert [path.name for path in model.parent.iterdir()] == ["model.onnx"]
    shapes = json.loads('{"images": [4, 16, 16, 3]}')
    found = build_engine(model, max_shapes=shapes, compute_capabilities=["8.6"], backend="rtx")
    assert found.card.profiles[0]["images"].max == (4, 16, 16, 3)


def test_one_onnx_file_has_to_be_named(model: Path, refused: Refused) -> None:
    assert "expected one ONNX file" in refused(2)
    assert "expected one ONNX file" in refused(2, model, f"--onnx={model}")


def test_tensorrt_that_is_not_installed_is_named_with_what_to_install(model: Path, refused: Refused) -> None:
    if "tensorrt" in sys.modules:
        pytest.skip("TensorRT is installed here")
    assert "[gpu]" in refused(2, model, "--backend=tensorrt")


def test_files_that_are_not_models_of_taijitu(tmp_path: Path, refused: Refused) -> None:
    assert "no such file" in refused(2, tmp_path / "none.onnx")
    (tmp_path / "text.onnx").write_text("not a model")
    assert "not an ONNX model" in refused(2, tmp_path / "text.onnx")
    (tmp_path / "ckpt.pt").write_bytes(b"PK\x03\x04")
    assert f"taijitu onnx {tmp_path}/ckpt.pt" in refused(2, tmp_path / "ckpt.pt")


def test_an_int8_graph_is_refused_where_it_would_not_run_in_int8(model: Path, refused: Refused) -> None:
    changed = onnx.load(model)
    (clip,) = [node for node in changed.graph.node if node.op_type == "Identity"]
    scale = onnx.numpy_helper.from_array(np.float32(0.1), "scale")
    changed.graph.initializer.append(scale)
    quantise = onnx.helper.make_node("QuantizeLinear", [clip.input[0], "scale"], ["q"])
    dequantise = onnx.helper.make_node("DequantizeLinear", ["q", "scale"], ["dq"])
    clip.input[0] = "dq"
    changed.graph.node.insert(len(changed.graph.node) - 1, quantise)
    changed.graph.node.insert(len(changed.graph.node) - 1, dequantise)
    model.write_bytes(changed.SerializeToString())
    claim(model, "int8")
    for arguments in (["--int8"], []):
        assert "INT8 WoQ GEMM" in refused(2, model, *arguments)
    assert "expected --int8, or the float32 or float16" in refused(2, model, "--fp16")


def test_int8_of_a_graph_without_scales_says_what_to_type(model: Path) -> None:
    # int8 is useful with TensorRT only, which needs a GPU to build.
    spaced = model.rename(model.with_name("my model.onnx"))
    with pytest.raises(UsageError, match=f"onnx '{spaced}' -o .* --precision int8 --calibration DIR"):
        check_precision(read_graph(spaced), "int8")


def test_a_nish_node_without_its_body_never_reaches_the_parser(model: Path, refused: Refused) -> None:
    stripped = onnx.load(model)
    del stripped.functions[:]
    model.write_bytes(stripped.SerializeToString())
    text = refused(2, model)
    assert text.count("\n") == 1
    assert "got the node 'start' of type taijitu::Nish without its definition" in text
    assert not model.with_suffix(".engine").exists()


def test_a_node_of_a_branch_without_its_definition_never_reaches_the_parser(tmp_path: Path, refused: Refused) -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]> g (bool c, float[1, 4] x) => (float[1, 4] y) {
        y = If (c) <then_branch = then () => (float[1, 4] a) { a = MyelinWeightsTransformPlugin(x) },
                    else_branch = else () => (float[1, 4] b) { b = Neg(x) }>
    }"""  # a plugin of TensorRT-RTX itself, at which its parser ends the process
    source = tmp_path / "model.onnx"
    onnx.save(onnx.parser.parse_model(text), source)
    assert "got the node 'a' of type MyelinWeightsTransformPlugin without its definition" in refused(2, source)


def test_nodes_of_nish_stay_for_the_plugin_and_name_it(model: Path) -> None:
    plain, graph = (without_functions(read_graph(model).model, plugin=plugin) for plugin in (False, True))
    nodes = [node for node in graph.graph.node if node.domain]
    assert {(node.domain, node.op_type) for node in nodes} == {("taijitu", "Nish")}
    assert len(nodes) == sum(node.op_type == "Sin" for node in plain.graph.node) > 0
    for node in nodes:
        assert {entry.name: entry.s for entry in node.attribute} == {
            "plugin_namespace": b"taijitu",
            "plugin_version": b"1",
        }
    assert not graph.functions
    assert not any(node.op_type == "Sin" for node in graph.graph.node)


def test_the_plugin_is_refused_for_a_graph_without_nish(tmp_path: Path) -> None:
    graph = read_graph(make_tiny_onnx(tmp_path / "model.onnx")).model
    with pytest.raises(UsageError, match="got --nishPlugin for a graph without a node taijitu::Nish"):
        without_functions(graph, plugin=True)


def test_every_parser_error_is_printed_with_node_operator_and_reason(model: Path, refused: Refused) -> None:
    changed = onnx.load(model)
    pools = [node for node in changed.graph.node if node.op_type in ("MaxPool", "GlobalAveragePool")]
    for node in pools:
        node.op_type, node.name = "Bernoulli", f"strange_{node.output[0]}"
        del node.attribute[:]
    model.write_bytes(changed.SerializeToString())
    lines = refused(1, model).splitlines()
    assert re.fullmatch(r"taijitu engine: TensorRT-RTX \S+ cannot parse the graph: \d+ errors", lines[-1])
    assert lines[:-1]
    for line in lines[:-1]:
        assert re.fullmatch(r"node '\w+' \(\w+\): .+ \[\w+\]", line)
    assert lines[0] == ("node 'strange_pooled' (Bernoulli): this library does not have the operator [UNSUPPORTED_NODE]")


def test_a_failed_build_repeats_the_librarys_messages(model: Path, refused: Refused) -> None:
    lines = refused(1, model, "--memPoolSize=workspace:1B").splitlines()
    assert lines[-1] == "taijitu engine: TensorRT could not build the engine"
    assert "workspace" in lines[0]


def test_phases_nest_and_steps_are_counted(monkeypatch: pytest.MonkeyPatch, model: Path) -> None:
    seen: list[tuple[str, str]] = []
    for name in ("start", "step", "finish"):
        original = getattr(BuildProgress, name)

        def spy(
            self: BuildProgress, phase: str, *rest: int, name: str = name, original: Callable[..., object] = original
        ) -> object:
            seen.append((name, phase))
            return original(self, phase, *rest)

        monkeypatch.setattr(BuildProgress, name, spy)
    build(model)
    started = [phase for name, phase in seen if name == "start"]
    assert started[0] == "Building engine"
    assert sorted(phase for name, phase in seen if name == "finish") == sorted(started)
    assert sum(name == "step" for name, _ in seen) > 50


def test_ctrl_c_ends_a_build(monkeypatch: pytest.MonkeyPatch, model: Path) -> None:
    def interrupt(self: BuildProgress, name: str, step: int) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(BuildProgress, "step", interrupt)
    assert engine_cli.main([str(model)]) == 130
    assert [path.name for path in model.parent.iterdir()] == ["model.onnx"]


@pytest.mark.parametrize("moment", ["log", "start", "finish"])
def test_ctrl_c_at_any_moment_ends_a_build_and_keeps_the_earlier_engine(
    monkeypatch: pytest.MonkeyPatch, model: Path, moment: str
) -> None:
    """The library calls Python between its own steps; a KeyboardInterrupt there would be printed and forgotten."""
    import tensorrt_rtx

    owner = type(logger_of(tensorrt_rtx)) if moment == "log" else BuildProgress
    original = getattr(owner, moment)
    pressed: list[int] = []

    def press(self: object, *rest: object) -> object:
        if not pressed:
            pressed.append(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
        return original(self, *rest)

    monkeypatch.setattr(owner, moment, press)
    model.with_suffix(".engine").write_bytes(b"earlier")
    assert engine_cli.main([str(model)]) == 130
    assert pressed
    assert model.with_suffix(".engine").read_bytes() == b"earlier"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_the_bar_shows_phase_steps_and_time(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    progress = BuildProgress(shown=True)
    progress.start("Building engine", 6)
    progress.start("Timing graph nodes", 30)
    assert progress.step("Timing graph nodes", 11)
    progress.close()
    assert re.search(r"Timing graph nodes +.* 12/30 \[\d\d:\d\d\]", capsys.readouterr().err)


def test_functions_of_another_opset_than_the_graphs_are_written_out_too(model: Path) -> None:
    newer = onnx.load(model)
    newer.opset_import[0].version = 18
    model.write_bytes(newer.SerializeToString())
    build(model)
    assert EngineCard.read(model.with_suffix(".engine")).precision.layers == {"float32": 7}


def test_names_are_given_to_nodes_that_have_none(model: Path) -> None:
    graph = without_functions(read_graph(model).model)
    assert all(node.name for node in graph.graph.node)
    assert not any(node.domain for node in graph.graph.node)


def test_the_library_can_be_called_directly(model: Path) -> None:
    target = open_target("auto", Options())
    built = engine_from_onnx(graph_for_parser(read_graph(model), target), target)
    assert built.count.layers == {"float32": 7}


def test_what_cannot_be_written_is_refused_before_the_engine_is_built(model: Path, refused: Refused) -> None:
    os.mkfifo(model.with_suffix(".engine.json"))
    assert "model.engine.json: got a device or pipe, expected a regular file" in refused(2, model)
    assert model.with_suffix(".engine.json").is_fifo()
    odd = model.rename(model.parent / os.fsdecode(b"mod\xe9l.onnx"))
    error = refused(2, odd)
    assert r"mod\udce9l.onnx" in error
    assert "UTF-8" in error
    odd = odd.rename(model.parent / "mod\nel.onnx")
    assert "control characters" in refused(2, odd)


def test_a_timing_cache_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    library: Any = SimpleNamespace(has=lambda what: True)
    gpu: Any = object()
    with pytest.raises(UsageError, match=r"got a timing cache that cannot be read \(Is a directory\)"):
        TimingCache(library, None, gpu, tmp_path).__enter__()


GPU = Gpu("card", "8.7", 8, 1 << 33, driver="driver", free_bytes=1 << 30)


def test_a_timing_cache_of_ours_that_cannot_be_read_costs_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    file = tmp_path / "taijitu" / "tensorrt" / "10.3.0_card.timing"
    file.mkdir(parents=True, mode=0o700)
    with TimingCache(cast(Library, WithCache()), None, GPU, None):
        pass
    (record,) = caplog.records
    assert str(file) in record.getMessage()


class WithCache:
    """A library that has a timing cache, with TensorRT-RTX's own builder behind it: the calls are the same."""

    version = "10.3.0"

    def has(self, feature: str) -> bool:
        return True

    def __str__(self) -> str:
        return "TensorRT 10.3.0"


@pytest.mark.filterwarnings("ignore:.*Timing cache operations are no-ops:DeprecationWarning")
@pytest.mark.parametrize("content", [b"damaged", bytes(172), b"ptrt" + bytes(1000)])
def test_a_timing_cache_that_the_builder_does_not_take_is_one_line_and_stays(
    content: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trt = pytest.importorskip("tensorrt_rtx")
    file, library = tmp_path / "user.timing", cast(Library, WithCache())
    file.write_bytes(content)
    builder = trt.Builder(logger_of(trt))
    with TimingCache(library, builder.create_builder_config(), GPU, file):
        pass
    assert file.read_bytes() == content
    (record,) = caplog.records
    assert str(file) in record.getMessage()
    assert "--timingCacheFile" in record.getMessage()


@pytest.mark.filterwarnings("ignore:.*Timing cache operations are no-ops:DeprecationWarning")
def test_a_timing_cache_is_written_where_there_was_none_and_taken_the_next_time(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trt = pytest.importorskip("tensorrt_rtx")
    file, library = tmp_path / "user.timing", cast(Library, WithCache())
    for _ in range(2):
        with TimingCache(library, trt.Builder(logger_of(trt)).create_builder_config(), GPU, file):
            pass
        assert file.stat().st_size > 100
    assert caplog.records == []


@pytest.mark.parametrize("answer", ["none", "other GPU"])
def test_a_timing_cache_of_another_release_or_gpu_is_not_used(
    answer: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # By TensorRT's header create returns null, or set returns false. The installed library does neither.
    given: list[object] = []

    class Config:
        def create_timing_cache(self, known: bytes) -> object:
            return None if known and answer == "none" else SimpleNamespace(serialize=lambda: known or b"empty")

        def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
            given.append(cache)
            return bool(cache.serialize() == b"empty")

        def get_timing_cache(self) -> object:
            return SimpleNamespace(serialize=lambda: b"measured")

    file, library = tmp_path / "user.timing", cast(Library, WithCache())
    file.write_bytes(b"another's")
    with TimingCache(library, Config(), GPU, file):
        pass
    assert None not in given
    assert file.read_bytes() == b"another's"
    assert len(caplog.records) == 1
    file.unlink()
    for empty in (False, True):
        if empty:
            file.write_bytes(b"")
        with TimingCache(library, Config(), GPU, file):
            pass
        assert file.read_bytes() == b"measured"
