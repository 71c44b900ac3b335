"""Engines and timings of ONNX files that taijitu did not write, and refusals that come before a build."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from taijitu_export.api import adopt
from taijitu_export.engine import cli as engine_cli
from taijitu_export.engine.graph import read_graph
from taijitu_export.engine.graph_for_parser import without_functions
from taijitu_runtime.bench import cli as bench_cli
from taijitu_runtime.classifier import Classifier
from taijitu_runtime.engine_card import EngineCard
from taijitu_runtime.errors import ArtefactError
from tests.helpers.foreign_model import make_foreign_onnx
from tests.helpers.tiny_model import make_tiny_onnx


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_file_without_a_contract_becomes_an_engine_without_labels(
    tmp_path: Path, precision: str, capsys: pytest.CaptureFixture[str], why_no_gpu: str | None
) -> None:
    pytest.importorskip("tensorrt_rtx", reason="no TensorRT-RTX: no engine can be built")
    source = make_foreign_onnx(tmp_path / "model.onnx", size=(16, 16), second_output=True)
    arguments = ["--fp16"] if precision == "fp16" else []
    assert engine_cli.main([str(source), "--backend=rtx", *arguments]) == 0
    card = EngineCard.read(tmp_path / "model.engine")
    assert card.card is None
    assert [tensor.name for tensor in (*card.inputs, *card.outputs)] == ["x", "result", "features"]
    assert card.precision.layers == {"float32" if precision == "fp32" else "float16": 2}
    with pytest.raises(ArtefactError, match="without labels"):
        Classifier.from_file(tmp_path / "model.engine")
    capsys.readouterr()
    measured = bench_cli.main([str(tmp_path / "model.engine"), "--warmUp=0", "--duration=0"])
    if why_no_gpu is None:
        assert measured == 0
    else:
        assert measured == 2
        assert capsys.readouterr().err.startswith("taijitu bench: got no usable GPU")


def test_a_network_without_weights_becomes_an_engine(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="no TensorRT-RTX: no engine can be built")
    x, y = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 3, 4, 4]) for name in "xy")
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "relu", [x], [y])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    source = tmp_path / "relu.onnx"
    source.write_bytes(model.SerializeToString())
    assert engine_cli.main([str(source), "--backend=rtx"]) == 0
    assert EngineCard.read(tmp_path / "relu.engine").precision.layers == {}


LOOP = """z = Loop <
    body = once (int64 i, bool go, float[N, 4] p) => (bool more, float[N, 4] q) {
        more = Identity(go)
        half = MatMul(p, square)
        turned = Tanh(half)
        q = MatMul(turned, square)
    }>(times, going, features)"""


def test_a_loop_of_several_layers_that_stays_in_float32_is_built_in_float16_around_it(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="no TensorRT-RTX: no engine can be built")
    model = onnx.load(make_foreign_onnx(tmp_path / "model.onnx", size=(16, 16)))
    text = f'<ir_version: 8, opset_import: ["" : 17]> g (float[N, 4] features) => (float[N, 4] z) {{ {LOOP} }}'
    index = next(i for i, node in enumerate(model.graph.node) if node.op_type == "Gemm")
    model.graph.node[index].input[0] = "z"
    model.graph.node.insert(index, onnx.parser.parse_model(text).graph.node[0])
    constants = {"times": np.array(2), "going": np.array(True), "square": np.eye(4, dtype=np.float32)}
    model.graph.initializer.extend(onnx.numpy_helper.from_array(value, name) for name, value in constants.items())
    onnx.save(model, tmp_path / "model.onnx")
    contract: dict[str, Any] = {"labels": ("cat", "dog", "hedgehog"), "resize": "stretch", "mean": [0.5], "std": [0.2]}
    adopt(tmp_path / "model.onnx", tmp_path / "adopted.onnx", **contract)
    assert engine_cli.main([str(tmp_path / "adopted.onnx"), "--backend=rtx", "--fp16"]) == 0
    precision = EngineCard.read(tmp_path / "adopted.engine").precision
    assert precision.layers == {"float16": 2, "float32": 2}


@pytest.mark.parametrize(("inputs", "fault"), [("x", "got the input x with"), ("", "without an input")])
def test_an_input_without_a_shape_and_no_input_are_refused(
    inputs: str, fault: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The parser takes the first for a single number, and makes an engine of a network without any."""
    pytest.importorskip("tensorrt_rtx", reason="no TensorRT-RTX: no engine can be built")
    x, y = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in "xy")
    constant = onnx.helper.make_tensor("x", onnx.TensorProto.FLOAT, [2], [1.0, -1.0])
    nodes = [onnx.helper.make_node("Relu", ["x"], ["y"])]
    graph = onnx.helper.make_graph(nodes, "relu", [x] if inputs else [], [y], [] if inputs else [constant])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "relu.onnx")
    assert engine_cli.main([str(tmp_path / "relu.onnx"), "--backend=rtx"]) == 2
    error = capsys.readouterr().err
    assert fault in error
    assert error.startswith("taijitu engine: ")
    assert not (tmp_path / "relu.engine").exists()


@pytest.mark.parametrize("flags", [[], ["--fp16"]])
def test_values_without_types_and_empty_inputs_become_an_engine(tmp_path: Path, flags: list[str]) -> None:
    """As other exporters write them: computed weights of a Gemm without a type, its bias an empty input."""
    pytest.importorskip("tensorrt_rtx", reason="no TensorRT-RTX: no engine can be built")
    path = make_tiny_onnx(tmp_path / "model.onnx")
    model = onnx.load(path)
    gemm = model.graph.node[-1]
    assert gemm.op_type == "Gemm"
    model.graph.node.insert(0, onnx.helper.make_node("Transpose", [gemm.input[1]], ["turned"], perm=[1, 0]))
    gemm.attribute.append(onnx.helper.make_attribute("transB", 1))
    gemm.input[1], gemm.input[2] = "turned", ""
    path.write_bytes(model.SerializeToString())
    assert engine_cli.main([str(path), "--backend=rtx", *flags]) == 0
    assert EngineCard.read(tmp_path / "model.engine").precision.layers == {"float16" if flags else "float32": 1}


@pytest.mark.parametrize("equation", ["BIc,BJc->BIJ", "zI,zJ", "...I,...J->...IJ"])
def test_an_einsum_with_capitals_becomes_an_engine_of_the_same_answers(tmp_path: Path, equation: str) -> None:
    """As torch writes what is written with capitals, such as MaxViT's attention."""
    pytest.importorskip("tensorrt_rtx", reason="no TensorRT-RTX: no engine can be built")
    shapes = [(4, 3, 5), (4, 2, 5)] if equation.startswith("B") else [(4, 3), (4, 2)]
    value = partial(onnx.helper.make_tensor_value_info, elem_type=onnx.TensorProto.FLOAT)
    inputs = [value(f"x{i}", shape=each) for i, each in enumerate(shapes)]
    result = value("y", shape=None)
    node = onnx.helper.make_node("Einsum", ["x0", "x1"], ["y"], equation=equation)
    graph = onnx.helper.make_graph([node], "einsum", inputs, [result])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "model.onnx")
    assert engine_cli.main([str(tmp_path / "model.onnx"), "--backend=rtx"]) == 0
    arrays = [np.random.default_rng(i).standard_normal(each, np.float32) for i, each in enumerate(shapes)]
    session = ort.InferenceSession(without_functions(model).SerializeToString())
    answer = session.run(None, {f"x{i}": array for i, array in enumerate(arrays)})[0]
    np.testing.assert_allclose(answer, np.einsum(equation, *arrays), rtol=1e-5, atol=1e-6)


def test_an_engine_has_the_weights_next_to_its_file_from_any_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seed in (("theirs", 1), ("here", 2)):
        (tmp_path / name).mkdir()
        make_foreign_onnx(tmp_path / name / "model.onnx", seed=seed, outside=True)
    monkeypatch.chdir(tmp_path / "here")
    theirs, ours = read_graph(Path("../theirs/model.onnx")), read_graph(Path("model.onnx"))
    whole = make_foreign_onnx(tmp_path / "whole.onnx", seed=1)
    expected = onnx.numpy_helper.to_array(onnx.load(whole).graph.initializer[0])
    parsed = onnx.ModelProto.FromString(theirs.model.SerializeToString())  # as the parser gets it
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(parsed.graph.initializer[0]), expected)
    assert theirs.sha256 != ours.sha256
    (tmp_path / "theirs" / "model.onnx.data").unlink()
    with pytest.raises(ArtefactError):
        read_graph(Path("../theirs/model.onnx"))


@pytest.mark.parametrize("what", ["logits", "names", "second output", "IR version"])
def test_what_classify_would_refuse_is_refused_before_it_is_built(tmp_path: Path, what: str) -> None:
    path = make_tiny_onnx(
        tmp_path / "model.onnx",
        classes=2 if what == "logits" else 3,
        names=("input", "scores") if what == "names" else ("images", "logits"),
    )
    model = onnx.load(path)
    if what == "second output":
        model.graph.output.append(onnx.helper.make_tensor_value_info("average", onnx.TensorProto.FLOAT, ["N", 3]))
    if what == "IR version":
        model.ir_version = 99
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ArtefactError):
        read_graph(path)
    assert engine_cli.main([str(path)]) == 2
    assert not path.with_suffix(".engine").exists()


def test_bench_measures_any_network_by_the_shapes_of_its_inputs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quick = ["--warmUp=0", "--duration=0", "--iterations=2"]
    source = str(make_foreign_onnx(tmp_path / "model.onnx", size=("h", "w"), second_output=True))
    assert bench_cli.main([source, *quick, "--shapes=x:2x3x20x30", "--json"]) == 0
    (measured,) = json.loads(capsys.readouterr().out)["models"]
    assert measured["modes"]["Input inference shape"] == "x=2x3x20x30"
    assert bench_cli.main([source, *quick]) == 2  # more than the batch is open
    assert bench_cli.main([source, *quick, "--shapes=y:2x3x20x30"]) == 2
    info = tmp_path / "layers.json"
    assert bench_cli.main([source, *quick, "--shapes=x:1x3x8x8", f"--exportLayerInfo={info}"]) == 0
    assert json.loads(info.read_text())["Bindings"] == ["x", "result", "features"]
