"""The passes that change precision: that they apply, each rule that forbids them, and their effect on the answers."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

from taijitu_export.onnx.nish_node import nish_function
from taijitu_export.onnx.passes import Float16Pass, QuantisePass, RaiseToOpset19Pass, RoundToFloat16Pass
from taijitu_export.onnx.passes.raise_to_opset_19 import REDUCTIONS
from taijitu_runtime.backends.ort.options import session_options

X = np.random.default_rng(0).normal(size=(2, 3, 6, 6)).astype(np.float32)
W = np.random.default_rng(1).normal(size=(4, 3, 3, 3)).astype(np.float32)
CONV = "a = Conv<pads = [1, 1, 1, 1]>(x, w)"


def model_of(*lines: str, functions: bool = False, **constants: np.ndarray) -> onnx.ModelProto:
    """Make a model of opset 17 from ONNX's text form, x (2, 3, 6, 6) to y, with nodes called n0, n1, ..."""
    domains = '["" : 17, "taijitu" : 1]' if functions else '["" : 17]'
    header = f"<ir_version: 8, opset_import: {domains}> g (float[2, 3, 6, 6] x) => (float[a, b, c, d] y)"
    model = onnx.parser.parse_model("\n".join([header, "{", *lines, "}"]))
    for i, node in enumerate(model.graph.node):
        node.name = f"n{i}"
    for name, value in constants.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(value, name))
    if functions:
        model.functions.append(nish_function())
    return onnx.shape_inference.infer_shapes(model, strict_mode=True)


def applied(graph_pass: ir.passes.InPlacePass, model: onnx.ModelProto) -> onnx.ModelProto:
    changed = ir.to_proto(graph_pass(ir.from_proto(copy.deepcopy(model))).model)
    onnx.checker.check_model(changed, full_check=True)
    return changed


def run(model: onnx.ModelProto, x: np.ndarray = X) -> np.ndarray:
    options = session_options(onnxruntime, threads=1)
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    y: np.ndarray = session.run(["y"], {"x": x})[0]
    return y


def types(model: onnx.ModelProto) -> dict[str, str]:
    """Return the element type of every tensor, by ONNX's inference."""
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    typed = {v.name: v.type.tensor_type.elem_type for v in (*graph.value_info, *graph.input, *graph.output)}
    typed |= {constant.name: constant.data_type for constant in graph.initializer}
    return {name: onnx.TensorProto.DataType.Name(kind) for name, kind in typed.items()}


def operators(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


def test_layers_compute_in_float16_between_float32_ends() -> None:
    model = model_of("s = Mul(x, k)", CONV.replace("x,", "s,"), "b = Relu(a)", "y = Add(b, a)", w=W, k=np.float32(0.1))
    changed = applied(Float16Pass(), model)
    got = types(changed)
    assert {name: got[name] for name in ("x", "s", "k", "w", "a", "b", "y")} == {
        "x": "FLOAT", "s": "FLOAT", "k": "FLOAT", "w": "FLOAT16", "a": "FLOAT16", "b": "FLOAT16", "y": "FLOAT",
    }  # fmt: skip
    assert operators(changed).count("Cast") == 2
    np.testing.assert_allclose(run(changed), run(model), atol=5e-3)


@pytest.mark.parametrize("kept", ["n0", "n1", "n2"])
def test_an_excluded_layer_stays_in_float32_with_its_weights(kept: str) -> None:
    """Rule 5."""
    model = model_of(CONV, "b = Mul(a, w4)", "y = Mul(b, w4)", w=W, w4=W[:1, :1, :1, :1])
    changed = applied(Float16Pass([kept]), model)
    got = types(changed)
    made = {"n0": "a", "n1": "b", "n2": "y"}
    assert all((got[name] == "FLOAT16") == (node != kept) for node, name in made.items() if name != "y")
    assert ("w4_float16" in got) == (kept != "n0"), "both precisions have constants of their own"
    np.testing.assert_allclose(run(changed), run(model), atol=2e-2)


def test_an_operator_without_float16_stays() -> None:
    """Rule 1."""
    lines = (CONV, 'r = Resize<mode = "nearest">(a, , scales)', "y = Relu(r)")
    got = types(applied(Float16Pass(), model_of(*lines, w=W, scales=np.array([1, 1, 2, 2], np.float32))))
    assert (got["a"], got["r"], got["scales"]) == ("FLOAT16", "FLOAT", "FLOAT")


def test_what_comes_before_the_first_weights_stays() -> None:
    """Rule 2."""
    model = model_of("y = Relu(x)")
    assert not Float16Pass()(ir.from_proto(model)).modified


def test_a_cast_keeps_its_type() -> None:
    """Rule 3."""
    changed = applied(Float16Pass(), model_of(CONV, "b = Cast<to = 1>(a)", "y = Relu(b)", w=W))
    got = types(changed)
    assert (got["a"], got["b"]) == ("FLOAT16", "FLOAT")


def test_constants_that_float16_cannot_hold_stay() -> None:
    """Rule 4."""
    got = types(applied(Float16Pass(), model_of(CONV, "b = Div(a, k)", "y = Relu(b)", w=W, k=np.float32(1e5))))
    assert (got["a"], got["b"], got["k"]) == ("FLOAT16", "FLOAT", "FLOAT")
    ones, small = np.ones(4, np.float32), np.full(4, 1.234e-6, np.float32)
    lines = (CONV, "b = BatchNormalization(a, s, o, m, v)", "y = Relu(b)")
    got = types(applied(Float16Pass(), model_of(*lines, w=W, s=ones, o=ones, m=ones, v=small)))
    assert (got["b"], got["v"]) == ("FLOAT", "FLOAT")
    got = types(applied(Float16Pass(), model_of(*lines, w=W, s=ones, o=ones, m=ones, v=ones)))
    assert (got["b"], got["v"]) == ("FLOAT16", "FLOAT16")


@pytest.mark.parametrize("graph_pass", [Float16Pass, RoundToFloat16Pass])
@pytest.mark.parametrize(
    "lines",
    [
        ["v = ReduceMean<axes = [1]>(d)", "e = Add(v, eps)", "q = Sqrt(e)", "y = Div(d, q)"],
        ["v = ReduceL2<axes = [1]>(a)", "q = Clip(v, eps)", "y = Div(a, q)"],
    ],
    ids=["layer norm", "unit length"],
)
def test_an_epsilon_below_the_least_float16_still_prevents_a_division_by_0(lines: list[str], graph_pass: Any) -> None:
    """Rule 8."""
    model = model_of(CONV, "d = Mul(a, a)", *lines, w=W, eps=np.float32(1e-12))
    changed = applied(graph_pass(), model)
    np.testing.assert_allclose(run(changed, np.zeros_like(X)), run(model, np.zeros_like(X)), atol=1e-6)
    np.testing.assert_allclose(run(changed), run(model), atol=0.05)


def test_a_mean_variance_normalisation_stays() -> None:
    model = model_of(CONV, "y = MeanVarianceNormalization<axes = [2, 3]>(a)", w=W)
    assert types(applied(Float16Pass(), model))["y"] == "FLOAT"


def test_a_layer_normalisation_stays() -> None:
    """Rule 7."""
    lines = (CONV, "b = LayerNormalization<axis = -1>(a, s, o)", "y = Relu(b)")
    got = types(applied(Float16Pass(), model_of(*lines, w=W, s=np.ones(6, np.float32), o=np.zeros(6, np.float32))))
    assert (got["a"], got["b"], got["s"]) == ("FLOAT16", "FLOAT", "FLOAT")


def test_nish_with_its_body_computes_in_float16_next_to_one_in_float32() -> None:
    model = model_of(CONV, "b = taijitu.Nish(a)", "c = taijitu.Nish(b)", "y = Relu(c)", functions=True, w=W)
    for kept in ((), ("n2",)):
        changed = applied(Float16Pass(kept), model)
        got = types(changed)
        assert (got["b"], got["c"]) == ("FLOAT16", "FLOAT" if kept else "FLOAT16")
        np.testing.assert_allclose(run(changed), run(model), atol=1e-2)


def test_explicit_rounding_shows_the_overflow_that_onnx_runtimes_cpu_hides() -> None:
    model = model_of(
        CONV, "b = Relu(a)", "c = Mul(b, k)", "d = Relu(c)", "y = Mul(d, j)", w=W, k=np.float32(6e4), j=np.float32(1e-3)
    )
    assert np.isfinite(run(applied(Float16Pass(), model))).all()
    assert not np.isfinite(run(applied(RoundToFloat16Pass(), model))).all()
    assert np.isfinite(run(applied(RoundToFloat16Pass(["n2", "n3", "n4"]), model))).all()


def test_explicit_rounding_rounds_every_tensor_once_and_keeps_its_name() -> None:
    changed = applied(RoundToFloat16Pass(), model_of(CONV, "b = Relu(a)", "y = Neg(b)", w=W))
    weights = np.pad(X, ((0, 0), (0, 0), (1, 1), (1, 1)))  # one output pixel by hand
    half = np.float16
    exact = (weights[0, :, 0:3, 0:3].astype(half).astype(np.float64) * W[0].astype(half).astype(np.float64)).sum()
    assert run(changed)[0, 0, 0, 0] == -max(float(half(exact)), 0.0)
    assert {"a", "b", "y"} <= set(types(changed))
    assert set(types(changed).values()) == {"FLOAT", "FLOAT16"}


def quantised_by_hand(array: np.ndarray, scale: np.ndarray | float) -> np.ndarray:
    return np.asarray(np.clip(np.rint(array / scale), -127, 127) * scale, np.float32)


def test_a_layer_is_quantised_symmetrically_its_weights_by_channel() -> None:
    model = model_of("y = Conv<pads = [1, 1, 1, 1]>(x, w, bias)", w=W, bias=W[:, 0, 0, 0])
    changed = applied(QuantisePass({"x": 0.02}), model)
    constants = {c.name: onnx.numpy_helper.to_array(c) for c in changed.graph.initializer}
    assert constants["w_quantised"].dtype == np.int8
    assert "w" not in constants
    assert constants["bias"].dtype == np.float32, "TensorRT wants no quantised bias"
    assert all(not value.any() for name, value in constants.items() if name.startswith("zero_point"))
    assert np.abs(constants["w_quantised"]).max(axis=(1, 2, 3)).tolist() == [127] * 4
    scales = np.abs(W).max(axis=(1, 2, 3), keepdims=True) / 127
    by_hand = copy.deepcopy(model)
    by_hand.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(quantised_by_hand(W, scales), "w"))
    np.testing.assert_allclose(run(changed), run(by_hand, quantised_by_hand(X, 0.02)), atol=1e-4)


def test_layers_that_read_one_tensor_share_its_quantisation() -> None:
    model = model_of(CONV, "b = Conv<pads = [1, 1, 1, 1]>(x, v)", "y = Add(a, b)", w=W, v=W[::-1].copy())
    assert operators(applied(QuantisePass({"x": 0.02}), model)).count("QuantizeLinear") == 1


@pytest.mark.parametrize(("transposed", "axis"), [(0, 1), (1, 0)])
def test_the_channels_of_a_matrix_are_its_columns(transposed: int, axis: int) -> None:
    weights = np.random.default_rng(2).normal(size=(5, 108)[:: 1 if transposed else -1]).astype(np.float32)
    lines = ("f = Flatten(x)", f"g = Gemm<transB = {transposed}>(f, w)", "y = Reshape(g, s)")
    model = model_of(*lines, w=weights, s=np.array([2, 5, 1, 1]))
    changed = applied(QuantisePass({"f": 0.02}), model)
    (dequantise,) = (node for node in changed.graph.node if node.input[0] == "w_quantised")
    assert [a.i for a in dequantise.attribute if a.name == "axis"] == [axis]
    np.testing.assert_allclose(run(changed), run(model), atol=0.5)


@pytest.mark.parametrize(
    ("lines", "scales", "excluded"),
    [
        (["y = Relu(x)"], {"x": 0.02}, ()),  # rule 1: no weights
        (["v = Relu(w)", "y = Conv(x, v)"], {"x": 0.02}, ()),  # rule 1: computed weights
        (["y = Conv(x, w)"], {"z": 0.02}, ()),  # rule 2
        (["y = Conv(x, w)"], {"x": 0.02}, ("n0",)),  # rule 3
    ],
)
def test_other_nodes_stay_float32(lines: list[str], scales: dict[str, float], excluded: tuple[str, ...]) -> None:
    model = model_of(*lines, w=W)
    assert not QuantisePass(scales, excluded)(ir.from_proto(model)).modified


PAIR = {"x": 0.02, "b": 0.03}
LAYERS = ("a = Conv<pads = [1, 1, 1, 1]>(x, w, bias)", "b = taijitu.Nish(a)", "y = Conv<pads = [1, 1, 1, 1]>(b, v)")


@pytest.mark.parametrize("graph_pass", [QuantisePass({"x": 0.02, "a": 0.1}), Float16Pass(), RoundToFloat16Pass()])
@pytest.mark.parametrize("taken", ["scale", "quantised", "quantise", "dequantised", "float16", "to_float16", "down"])
def test_names_that_other_exporters_gave_already_are_no_obstacle(graph_pass: Any, taken: str) -> None:
    """Names that the passes make of a tensor's may be those of another tensor, of a constant or of a node."""
    lines = (CONV, "a_{} = Softmax(a)", "b = Conv(a, v)", "c = CumSum(b, axis)", "d = Conv(a_{}, v)", "y = Add(c, d)")
    v = W.mean((1, 2, 3), keepdims=True)[None, :, 0, 0, 0].repeat(4, 0).reshape(4, 4, 1, 1)
    model = model_of(*(line.format(taken, taken) for line in lines), w=W, v=v, axis=np.array(1))
    for node in model.graph.node:
        node.name = {"y": f"a_{taken}", "d": f"x_{taken}"}.get(node.output[0], node.name)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(3), f"x_{taken}"))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.int8(3), "zero_point"))
    changed = applied(graph_pass, model)
    assert len(changed.graph.node) > len(model.graph.node)
    np.testing.assert_allclose(run(changed), run(model), atol=0.1 * np.abs(run(model)).max())


def test_layers_that_count_the_channels_of_one_weight_differently_have_scales_of_their_own() -> None:
    weights = (W.reshape(4, 27)[:, :4] * np.array([1, 10, 100, 1000])).astype(np.float32)
    lines = ("f = Transpose<perm = [0, 2, 3, 1]>(x)", "g = MatMul(f, u)", "h = Reshape(g, s)", "i = MatMul(h, w)")
    lines += ("j = Gemm<transB = 1>(i, w)", "y = Reshape(j, t)")
    shapes = {"s": np.array([72, 4]), "t": np.array([2, 36, 4, 1])}
    model = model_of(*lines, w=weights, u=W[:, :, 0, 0].T.copy(), **shapes)
    scales = {"h": 0.05, "i": float(np.abs(run(model)).max() / 1000 / 127)}
    changed = applied(QuantisePass(scales, weights_only=True), model)
    axes = [
        a.i for node in changed.graph.node for a in node.attribute if node.input[0].startswith("w_") if a.name == "axis"
    ]
    assert sorted(axes) == [0, 1]
    np.testing.assert_allclose(run(changed), run(model), atol=0.02 * np.abs(run(model)).max())


def two_layers() -> onnx.ModelProto:
    return model_of(*LAYERS, functions=True, w=W, bias=W[:, 0, 0, 0], v=np.transpose(W, (1, 0, 2, 3)).copy())


def int8_for_engines(model: onnx.ModelProto, excluded: tuple[str, ...] = ()) -> onnx.ModelProto:
    quantised = applied(QuantisePass(PAIR, float16_scales=True), applied(RaiseToOpset19Pass(), model))
    return applied(Float16Pass(excluded), quantised)


def test_no_cast_separates_an_int8_layer_from_its_pair() -> None:
    """Rule 6, by which TensorRT finds the integer kernel: a Conv reads DequantizeLinears of its own type."""
    changed = int8_for_engines(two_layers())
    got = types(changed)
    made = {name: node for node in changed.graph.node for name in node.output}
    layers = [node for node in changed.graph.node if node.op_type == "Conv"]
    for node in layers:
        assert [made[name].op_type for name in node.input[:2]] == ["DequantizeLinear"] * 2
        assert {got[name] for name in node.input} == {"FLOAT16"}
    quantisers = [node for node in changed.graph.node if node.op_type == "QuantizeLinear"]
    assert [got[node.input[0]] for node in quantisers] == ["FLOAT", "FLOAT16"]  # of the picture, and between layers
    assert [got[node.input[1]] for node in quantisers] == ["FLOAT", "FLOAT16"]
    assert (got["x"], got["y"]) == ("FLOAT", "FLOAT")
    assert operators(changed).count("Cast") == 1, "of the answer"


def test_an_int8_layer_that_float16_cannot_hold_is_float32_on_both_sides() -> None:
    changed = int8_for_engines(two_layers(), excluded=("n0", "n1"))
    got = types(changed)
    (first, second) = [node for node in changed.graph.node if node.op_type == "Conv"]
    assert {got[name] for name in first.input} == {"FLOAT"}
    assert {got[name] for name in second.input} == {"FLOAT16"}
    assert (got["a"], got["b"]) == ("FLOAT", "FLOAT")
    assert operators(changed).count("Cast") == 1


def test_float16_between_int8_layers_answers_as_its_explicit_rounding_and_nearly_as_float32() -> None:
    model = two_layers()
    quantised = applied(QuantisePass(PAIR, float16_scales=True), applied(RaiseToOpset19Pass(), model))
    shipped, spelt, plain = (
        run(each) for each in (applied(Float16Pass(), quantised), applied(RoundToFloat16Pass(), quantised), quantised)
    )
    largest = np.abs(plain).max()
    # A value that is rounded to the other side of an int8 step is a step off.
    np.testing.assert_allclose(shipped, spelt, atol=0.03 * largest)
    np.testing.assert_allclose(spelt, plain, atol=0.03 * largest)
    assert not np.array_equal(spelt, plain)


def test_scales_for_float16_are_numbers_of_float16_and_never_zero() -> None:
    weights = W * np.array([1e-9, 1e-6, 1.0, 1e3], np.float32)[:, None, None, None]
    model = model_of("y = Conv<pads = [1, 1, 1, 1]>(x, w)", w=weights)
    changed = applied(QuantisePass({"x": 0.0201}, float16_scales=True), model)
    constants = {c.name: onnx.numpy_helper.to_array(c) for c in changed.graph.initializer}
    for name in ("x_scale", "w_scale"):
        scale = constants[name]
        assert (scale > 0).all()
        np.testing.assert_array_equal(scale.astype(np.float16).astype(np.float32), scale)
    assert np.abs(constants["w_quantised"]).max() == 127, "nothing is cut off"
    back = constants["w_quantised"] * constants["w_scale"].reshape(-1, 1, 1, 1)
    assert (np.abs(back - weights) <= constants["w_scale"].reshape(-1, 1, 1, 1) / 2 * 1.001).all()


def test_opset_19_means_the_same() -> None:
    lines = (CONV, "b = taijitu.Nish(a)", "m = ReduceMean<axes = [2], keepdims = 1>(b)",
             "s, t = Split<axis = 1>(m, halves)", "u, v = Split<axis = 1>(s)", "z = Add(u, v)",
             "y = Add(z, t)")  # fmt: skip
    model = model_of(*lines, functions=True, w=W, halves=np.array([2, 2]))
    changed = applied(RaiseToOpset19Pass(), model)
    assert {opset.domain: opset.version for opset in changed.opset_import}[""] == 19
    assert {opset.version for function in changed.functions for opset in function.opset_import} == {19}
    np.testing.assert_array_equal(run(changed), run(model))


@pytest.mark.parametrize("axes", ["axes = [2, 3], ", "axes = [-1], ", ""])
@pytest.mark.parametrize("operator", sorted(REDUCTIONS))
def test_reductions_mean_the_same_in_opset_19(operator: str, axes: str) -> None:
    model = model_of("a = Abs(x)", f"b = {operator}<{axes}keepdims = 1>(a)", "y = Add(a, b)")
    changed = applied(RaiseToOpset19Pass(), model)
    assert changed.opset_import[0].version == 19
    np.testing.assert_array_equal(run(changed), run(model))


def test_a_graph_with_branches_stays_at_its_opset() -> None:
    sides = "float[2, 3, 6, 6]"
    branches = f"then_branch = i () => ({sides} a) {{a = Neg(x)}}, else_branch = j () => ({sides} b) {{b = Abs(x)}}"
    model = model_of("size = Size(x)", "is_any = Cast<to = 9>(size)", f"y = If (is_any) <{branches}>")
    assert not RaiseToOpset19Pass()(ir.from_proto(model)).modified


CONVERSIONS = """
import hashlib, sys
import onnx
from taijitu_export.onnx.passes import Float16Pass, QuantisePass, RaiseToOpset19Pass, RoundToFloat16Pass
from taijitu_export.onnx.passes.editing import applied

model = onnx.load(sys.argv[1])
raised = applied(RaiseToOpset19Pass(), model)
quantised = applied(QuantisePass({"x": 0.05}, float16_scales=True), raised)
for changed in (
    applied(Float16Pass(), model), applied(RoundToFloat16Pass(), model), quantised, applied(Float16Pass(), quantised)
):
    print(hashlib.sha256(changed.SerializeToString()).hexdigest())
"""


def test_conversions_give_the_same_bytes_in_every_process(tmp_path: Path) -> None:
    numbers = [f"k{i}" for i in range(12)]
    lines = [CONV, *(f"a{i} = Mul(a{i - 1 if i else ''}, {name})" for i, name in enumerate(numbers)), "y = Relu(a11)"]
    constants = {name: np.full((4, 1, 1), 1 + i / 8, np.float32) for i, name in enumerate(numbers)}
    model = model_of(*lines, w=W, **constants)
    names = [constant.name for constant in applied(Float16Pass(), model).graph.initializer]
    assert names == ["w", *numbers], "in the order of the graph"
    onnx.save(model, tmp_path / "model.onnx")
    printed = {
        subprocess.run(
            [sys.executable, "-c", CONVERSIONS, str(tmp_path / "model.onnx")],
            env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True,
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(printed) == 1
    assert len(printed.pop().split()) == 4


def test_what_follows_an_operator_of_another_domain_stays_in_float32() -> None:
    """Rule 1: nobody but its runtime knows the type that it makes."""
    model = model_of(CONV, "b = Relu(a)", "y = Conv(b, v)", w=W, v=W[:2, :1, :1, :1].repeat(4, axis=1))
    (relu,) = (node for node in model.graph.node if node.op_type == "Relu")
    relu.op_type, relu.domain = "Gelu", "com.microsoft"
    model.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    del model.graph.value_info[:]
    model = onnx.shape_inference.infer_shapes(model)
    for graph_pass in (Float16Pass(), RoundToFloat16Pass()):
        changed = applied(graph_pass, model)
        np.testing.assert_allclose(run(changed), run(model), atol=2e-2)
    assert types(applied(Float16Pass(), model))["a"] == "FLOAT16"


@pytest.mark.parametrize("graph_pass", [Float16Pass(), RoundToFloat16Pass()])
def test_the_names_of_a_graph_are_read_once_for_all_of_its_constants(
    graph_pass: ir.passes.InPlacePass, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading them for each constant takes seconds for a few hundred layers."""
    walks: list[ir.Graph] = []
    all_nodes = ir.Graph.all_nodes
    monkeypatch.setattr(ir.Graph, "all_nodes", lambda graph: walks.append(graph) or all_nodes(graph))
    graph_pass(ir.from_proto(model_of(CONV, "b = Mul(a, k)", "y = Add(b, l)", w=W, k=np.float32(2), l=np.float32(3))))
    assert len(walks) == 1
