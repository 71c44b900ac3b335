"""Each pass: that it applies, each rule that forbids it, and that the answers stay the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from taijitu_export.onnx.passes import GlobalAveragePoolPass, LowerToOpset17Pass, StripTracesPass, WriteOutGeluPass
from tests.helpers.onnx_text import X, model_of, operators, run, untyped

SPATIAL = {"axes": np.array([2, 3], np.int64)}


def branches(first: str, second: str = "r = Relu(x)") -> str:
    """Return a line of two branches, each of which makes r of x; the constant `true` chooses the first."""
    then, otherwise = (
        f"{name}_branch = {name} () => (float[a, b, c, d] {name}_r) {{ {line.replace('r =', f'{name}_r =', 1)} }}"
        for name, line in (("then", first), ("else", second))
    )
    return f"y = If(true) <{then}, {otherwise}>"


@pytest.mark.parametrize("axes", [[2, 3], [3, 2], [-1, -2]])
@pytest.mark.parametrize(("keepdims", "expected"), [(1, ["GlobalAveragePool"]), (0, ["GlobalAveragePool", "Flatten"])])
def test_a_mean_over_height_and_width_becomes_a_pool(axes: list[int], keepdims: int, expected: list[str]) -> None:
    model = model_of(f"y = ReduceMean<keepdims = {keepdims}>(x, axes)", initializers={"axes": np.array(axes, np.int64)})
    before = run(model, X)
    result = GlobalAveragePoolPass()(model)
    assert result.modified
    assert operators(model) == expected
    assert not untyped(model)
    assert model.graph.outputs[0].name == "y"
    np.testing.assert_allclose(run(model, X), before, atol=1e-6)
    assert run(model, X).shape == before.shape


def test_a_mean_in_the_middle_of_a_graph_keeps_its_neighbours() -> None:
    model = model_of("a = Relu(x)", "b = ReduceMean<keepdims = 1>(a, axes)", "y = Mul(a, b)", initializers=SPATIAL)
    before = run(model, X)
    assert GlobalAveragePoolPass()(model).modified
    np.testing.assert_allclose(run(model, X), before, atol=1e-6)


@pytest.mark.parametrize(
    ("lines", "initializers", "rank"),
    [
        (["y = ReduceMean(x, axes)"], {"axes": np.array([1, 2], np.int64)}, 3),  # rule 1
        (["y = ReduceMean(x, axes)"], {"axes": np.array([1], np.int64)}, 4),  # rule 2: other axes
        (["y = ReduceMean(x)"], {}, 4),  # rule 2: all axes
        (["s = Shape<start = 2>(x)", "a = Mul(s, zero)", "b = Add(a, axes)", "y = ReduceMean(x, b)"],
         {**SPATIAL, "zero": np.array(0, np.int64)}, 4),  # rule 2: computed axes
    ],
)  # fmt: skip
def test_other_means_stay(lines: list[str], initializers: dict[str, np.ndarray], rank: int) -> None:
    model = model_of(*lines, initializers=initializers, rank=rank)
    before = operators(model)
    assert not GlobalAveragePoolPass()(model).modified
    assert operators(model) == before


@pytest.mark.parametrize(
    ("lines", "initializers"),
    [
        (["y = HardSwish(x)"], {}),  # rule 1
        (["y = ReduceMean<keepdims = 1, noop_with_empty_axes = 0>(x, axes)"], {"axes": np.array([1], np.int64)}),
        (["a, b = Split<axis = 1>(x, sizes)", "y = Concat<axis = 1>(b, a)"], {"sizes": np.array([1, 2], np.int64)}),
        (["a, b = Split<axis = 0, num_outputs = 2>(x)", "y = Concat<axis = 0>(b, a)"], {}),  # rule 3: even
        ([branches("r = ReduceMean(x, axes)")], {**SPATIAL, "true": np.array(True)}),  # rule 2, in a branch
    ],
)
def test_what_means_the_same_in_opset_17_is_lowered(lines: list[str], initializers: dict[str, np.ndarray]) -> None:
    model = model_of(*lines, initializers=initializers)
    before = run(model, X)
    assert LowerToOpset17Pass()(model).modified
    proto = ir.to_proto(model)
    assert (proto.opset_import[0].version, proto.ir_version) == (17, 8)
    onnx.checker.check_model(proto)
    np.testing.assert_array_equal(run(model, X), before)


@pytest.mark.parametrize(
    ("lines", "initializers"),
    [
        (["y = Mish(x)"], {}),  # rule 1: new in opset 18
        (["y = ReduceMean(x)"], {}),  # rule 2: no axes
        (["s = Shape<start = 3>(x)", "y = ReduceMean(x, s)"], {}),  # rule 2: computed axes
        (["a, y = Split<axis = 1, num_outputs = 2>(x)"], {}),  # rule 3: 2 and 1, sizes left to the runtime
        ([branches("r = Relu(x)", "r = Mish(x)")], {"true": np.array(True)}),  # rule 1, in a branch
    ],
)
def test_what_opset_17_lacks_keeps_opset_18(lines: list[str], initializers: dict[str, np.ndarray]) -> None:
    model = model_of(*lines, initializers=initializers)
    assert not LowerToOpset17Pass()(model).modified
    assert model.opset_imports[""] == 18


@pytest.mark.parametrize("kind", ["none", "tanh"])
def test_gelu_is_written_out_unless_it_is_approximated(kind: str) -> None:
    text = '<ir_version: 9, opset_import: ["" : 20]> g (float[2, 3, 5, 7] x) => (float[2, 3, 5, 7] y)'
    lines = f'{{ a = Relu(x) b = Gelu<approximate = "{kind}">(a) y = Gelu<approximate = "{kind}">(b) }}'
    model = ir.from_proto(onnx.shape_inference.infer_shapes(onnx.parser.parse_model(text + lines)))
    before = run(model, X)
    assert WriteOutGeluPass()(model).modified == (kind == "none")
    assert operators(model).count("Erf") == (2 if kind == "none" else 0)
    assert not untyped(model)
    np.testing.assert_allclose(run(model, X), before, atol=1e-5)


def test_traces_go_and_the_models_own_metadata_stays() -> None:
    model = model_of(branches("r = Relu(x)"), initializers={"true": np.array(True)})
    model.metadata_props["taijitu.labels"] = "[]"
    for carrier in (*model.graph.all_nodes(), *model.graph.inputs, *model.graph.outputs):
        carrier.metadata_props["trace"] = "secret path"
        carrier.doc_string = "secret path"
    assert StripTracesPass()(model).modified
    content: Any = ir.to_proto(model).SerializeToString()
    assert b"secret path" not in content
    assert model.metadata_props == {"taijitu.labels": "[]"}
    assert not StripTracesPass()(model).modified
