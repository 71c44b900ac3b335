"""The passes that make graphs fast: that each applies, each rule that forbids it, and that the answers are the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from taijitu_export.onnx.passes import (
    FoldBatchNormPass,
    FoldScalePass,
    FuseBatchNormPass,
    GeluOrderPass,
    SplitConcatPass,
)
from tests.helpers.onnx_text import X, model_of, operators, run, untyped

Make = Callable[..., Path]
Constants = dict[str, np.ndarray]
RANDOM = np.random.default_rng(1)


def random(*shape: int) -> np.ndarray:
    return RANDOM.normal(size=shape).astype(np.float32)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def happens(graph_pass: ir.passes.InPlacePass, model: ir.Model, expected: list[str]) -> None:
    before = run(model, X)
    assert graph_pass(model).modified
    assert operators(model) == expected
    assert not untyped(model)
    assert model.graph.outputs[0].name == "y"
    onnx.checker.check_model(ir.to_proto(model), full_check=True)
    np.testing.assert_allclose(run(model, X), before, atol=1e-5)
    assert not graph_pass(model).modified


def stays(graph_pass: ir.passes.InPlacePass, model: ir.Model) -> None:
    before = operators(model)
    assert not graph_pass(model).modified
    assert operators(model) == before


def read_in_branches(value: str, channels: int) -> str:
    """Return a line of two branches that convolve `value`, with weights of their own; `true` chooses the first."""
    numbers = ", ".join(["1.0"] * channels)
    first, second = (
        f"{name}_branch = {name} () => (float[a, b, c, d] {name}_y) "
        f"<float[1, {channels}, 1, 1] {name}_w = {{{numbers}}}> {{ {name}_y = Conv({value}, {name}_w) }}"
        for name in ("then", "else")
    )
    return f"y = If(true) <{first}, {second}>"


SPLIT: Constants = {
    "w": random(4, 6, 1, 1),
    "b": random(4),
    "wide": random(4, 6, 3, 3),
    "grouped": random(4, 3, 1, 1),
    "deep": random(6, 1, 3, 3),
    "deep_b": random(6),
    "last": ints(-4),
    "end": ints(2**63 - 1),
    "one": ints(1),
    "two": ints(2),
    "narrow": random(4, 4, 1, 1),
    "w7": random(5, 7, 1, 1),
    "four": random(4, 1, 1, 1),
    "sizes": ints(2, 4),
}
TRUE: Constants = {"true": np.array(True)}
JOINED = ("r = Relu(x)", "c = Concat<axis = 1>(x, r)")


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ((*JOINED, "y = Conv(c, w, b)"), ["Relu", "Conv", "Conv", "Add"]),
        ((*JOINED, "d = Conv<group = 6, pads = [1, 1, 1, 1]>(c, deep, deep_b)", "y = Conv(d, w)"),
         ["Relu", "Conv", "Conv", "Conv", "Conv", "Add"]),
        ((*JOINED, "s = Slice(c, last, end, one)", "y = Conv(s, narrow, b)"), ["Relu", "Conv", "Conv", "Add"]),
        # As in VGNets that cut what they joined in other places.
        ((*JOINED, "h, i = Split<axis = 1>(c, sizes)", "d = Conv<group = 4>(i, four)", "e = Concat<axis = 1>(h, d)",
          "y = Conv(e, w)"), ["Relu", *["Conv"] * 5, "Add", "Add"]),
        # As in VGNet's last stage: a depthwise convolution, a slice of that, and another concatenation.
        ((*JOINED, "d = Conv<group = 6, pads = [1, 1, 1, 1], strides = [2, 2]>(c, deep)", "p = Conv(d, w)",
          "s = Slice(d, last, end, one)", "q = Relu(p)", "t = Slice(q, one, end, one)",
          "e = Concat<axis = 1>(s, t)", "y = Conv(e, w7)"),
         ["Relu", "Conv", "Conv", "Conv", "Conv", "Add", "Relu", "Slice", *["Conv"] * 3, "Add", "Add"]),
    ],
)  # fmt: skip
def test_a_convolution_of_a_concatenation_becomes_a_sum(lines: tuple[str, ...], expected: list[str]) -> None:
    used = {name: value for name, value in SPLIT.items() if any(name in line for line in lines)}
    happens(SplitConcatPass(), model_of(*lines, initializers=used), expected)


@pytest.mark.parametrize(
    "lines",
    [
        ("r = Relu(x)", "s = Relu(r)", "c = Concat<axis = 1>(x, r, s)", "y = Conv(c, nine)"),  # rule 1: three
        ("r = Relu(x)", "c = Concat<axis = 2>(x, r)", "y = Conv(c, three)"),  # rule 1: other axis
        (*JOINED, "z = Conv(c, w)", "y = Concat<axis = 1>(c, z)"),  # rule 2: an output of the graph, behind
        (*JOINED, "y = Conv<pads = [1, 1, 1, 1]>(c, wide)"),  # rule 2a: 3x3
        (*JOINED, "y = Conv<group = 2>(c, grouped)"),  # rule 2a: two groups
        (*JOINED, "y = Conv<pads = [1, 1, 1, 1]>(c, w)"),  # rule 2a: padded
        (*JOINED, "v = Relu(w)", "y = Conv(c, v)"),  # rule 2a: computed weights
        (*JOINED, "y = Conv<group = 6>(c, double)"),  # rule 2b: two outputs for each input
        (*JOINED, "s = Slice(c, last, end, two)", "y = Relu(s)"),  # rule 2c: another axis
        (*JOINED, "s = Slice(c, one, end, one, two)", "y = Relu(s)"),  # rule 2c: step 2
        (*JOINED, "z = Conv(c, w)", "q = Sigmoid(c)", "y = Concat<axis = 1>(q, z)"),  # rule 2: another reader
        (*JOINED, read_in_branches("c", 6)),  # rule 2: readers in another graph
    ],
)
def test_other_concatenations_stay(lines: tuple[str, ...]) -> None:
    others = {"nine": random(4, 9, 1, 1), "three": random(4, 3, 1, 1), "double": random(12, 1, 1, 1), **TRUE}
    stays(SplitConcatPass(), model_of(*lines, initializers=SPLIT | others))


NORM: Constants = {
    "scale": RANDOM.uniform(-2, 2, 3).astype(np.float32),
    "shift": random(3),
    "mean": random(3),
    "var": RANDOM.uniform(0.5, 2, 3).astype(np.float32),
    "w": random(4, 3, 1, 1),
    "wide": random(4, 3, 3, 3),
    "b": random(4),
    "m": random(4, 3),
    "mt": random(3, 4),
    "grouped": random(3, 1, 1, 1),
    "flat": ints(2, 3),
    "square": ints(2, 4, 1, 1),
    "square3": random(3, 3, 1, 1),
    "wide3": random(3, 3, 3, 3),
    "m3": random(3, 3),
    "b3": random(3),
    "square3s": ints(2, 3, 1, 1),
}
N = "n = BatchNormalization<epsilon = 0.01>(x, scale, shift, mean, var)"
POOLED = ("a = GlobalAveragePool(n)", "f = Flatten(a)")


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ((N, "y = Conv(n, w, b)"), ["Conv"]),
        ((N, "y = Conv(n, w)"), ["Conv"]),
        ((N, "y = Conv(n, wide)"), ["Conv"]),
        ((N, "p = Conv(n, w)", "q = Conv(n, w, b)", "y = Mul(p, q)"), ["Conv", "Conv", "Mul"]),
        ((N, *POOLED, "g = Gemm<transB = 1>(f, m, b)", "y = Reshape(g, square)"),
         ["GlobalAveragePool", "Flatten", "Gemm", "Reshape"]),
        ((N, "a = GlobalAveragePool(n)", "f = Reshape(a, flat)", "g = Gemm(f, mt, b)", "y = Reshape(g, square)"),
         ["GlobalAveragePool", "Reshape", "Gemm", "Reshape"]),
    ],
)  # fmt: skip
def test_a_batch_norm_goes_into_the_layers_after_it(lines: tuple[str, ...], expected: list[str]) -> None:
    happens(FoldBatchNormPass(), model_of(*lines, initializers=NORM), expected)


BEHIND = "n = BatchNormalization<epsilon = 0.01>(z, scale, shift, mean, var)"


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (("z = Conv(x, square3)", BEHIND, "y = Relu(n)"), ["Conv", "Relu"]),
        (("z = Conv<pads = [1, 1, 1, 1]>(x, wide3, b3)", BEHIND, "y = Relu(n)"), ["Conv", "Relu"]),
        (("z = Conv<group = 3>(x, grouped)", BEHIND, "y = Conv<group = 3>(n, grouped)"), ["Conv", "Conv"]),
        (("z = Conv(x, square3)", BEHIND, "y = Conv(n, w, b)"), ["Conv", "Conv"]),
        (("a = GlobalAveragePool(x)", "f = Flatten(a)", "z = Gemm<transB = 1>(f, m3, b3)", BEHIND, "r = Relu(n)",
          "y = Reshape(r, square3s)"), ["GlobalAveragePool", "Flatten", "Gemm", "Relu", "Reshape"]),
        (("a = GlobalAveragePool(x)", "f = Flatten(a)", "z = Gemm(f, m3, b3)", BEHIND, "r = Relu(n)",
          "y = Reshape(r, square3s)"), ["GlobalAveragePool", "Flatten", "Gemm", "Relu", "Reshape"]),
    ],
)  # fmt: skip
def test_a_batch_norm_goes_into_the_layer_before_it(lines: tuple[str, ...], expected: list[str]) -> None:
    happens(FuseBatchNormPass(), model_of(*lines, initializers=NORM), expected)


@pytest.mark.parametrize(
    "lines",
    [
        ("v = Relu(var)", "n = BatchNormalization(x, scale, shift, mean, v)", "y = Conv(n, w)"),  # rule 1: computed
        (N, "z = Conv(n, w)", "y = Concat<axis = 1>(n, z)"),  # rule 2: another reader
        (N, "y = Conv<pads = [1, 1, 1, 1]>(n, wide)"),  # rule 2a: padded
        (N, 'y = Conv<auto_pad = "SAME_UPPER">(n, wide)'),  # rule 2a: padded
        (N, "y = Conv<group = 3>(n, grouped)"),  # rule 2a: groups
        (N, read_in_branches("n", 3)),  # rule 2: readers in another graph
        (N, "v = Relu(w)", "y = Conv(n, v)"),  # rule 2a: computed weights
        (N, "a = GlobalAveragePool(n)", "y = Relu(a)"),  # rule 2b: another reader of the mean
        (N, *POOLED, "g = Gemm<transB = 1, alpha = 2.0>(f, m, b)", "y = Reshape(g, square)"),  # rule 2d: alpha
        (N, *POOLED, "g = Gemm<transB = 1>(f, m)", "y = Reshape(g, square)"),  # rule 2d: no bias
        ("y = BatchNormalization(x, scale, shift, mean, var)",),  # rule 1: output
    ],
)
def test_batch_norms_before_other_layers_stay(lines: tuple[str, ...]) -> None:
    stays(FoldBatchNormPass(), model_of(*lines, initializers=NORM | TRUE))


@pytest.mark.parametrize(
    "lines",
    [
        (N, "y = Conv(n, w)"),  # rule 2: the graph's input
        (
            "z = Conv(x, square3)",
            "y = BatchNormalization(z, scale, shift, mean, var)",
        ),  # rule 1: output
        ("z = Conv(x, square3)", BEHIND, "r = Relu(n)", "y = Add(r, z)"),  # rule 2: another reader of x
        ("v = Relu(square3)", "z = Conv(x, v)", BEHIND, "y = Relu(n)"),  # rule 2a: computed weights
        (
            "a = GlobalAveragePool(x)",
            "f = Flatten(a)",
            "z = Gemm<beta = 2.0>(f, m3, b3)",
            BEHIND,
            "r = Relu(n)",
            "y = Reshape(r, square3s)",
        ),  # rule 2b: beta
    ],
)
def test_batch_norms_after_other_layers_stay(lines: tuple[str, ...]) -> None:
    stays(FuseBatchNormPass(), model_of(*lines, initializers=NORM))


SCALE: Constants = {
    "c": np.array([50, -60, 70], np.float32).reshape(3, 1, 1),
    "zero": np.array([50, 0, 70], np.float32).reshape(3, 1, 1),
    "whole": np.array(50, np.float32),
    "wide": random(4, 3, 3, 3),
    "red": random(4, 1, 3, 3),
    "grouped": random(3, 1, 3, 3),
    "from": ints(0),
    "to": ints(1),
    "axis": ints(1),
    "rows": ints(2),
}
D = "d = Div(x, c)"


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ((D, "y = Conv<pads = [1, 1, 1, 1]>(d, wide)"), ["Conv"]),
        # As in YYNet: two convolutions of the colours, one of the red ones.
        ((D, "p = Conv<pads = [1, 1, 1, 1]>(d, wide)", "q = Conv<pads = [1, 1, 1, 1]>(d, wide)",
          "s = Slice(d, from, to, axis)", "r = Conv<pads = [1, 1, 1, 1]>(s, red)", "y = Sum(p, q, r)"),
         ["Conv", "Conv", "Slice", "Conv", "Sum"]),
    ],
)  # fmt: skip
def test_a_division_of_channels_goes_into_convolutions(lines: tuple[str, ...], expected: list[str]) -> None:
    happens(FoldScalePass(), model_of(*lines, initializers=SCALE), expected)


@pytest.mark.parametrize(
    "lines",
    [
        ("d = Div(x, whole)", "y = Conv(d, wide)"),  # rule 1: one number for all
        ("d = Div(x, zero)", "y = Conv(d, wide)"),  # rule 1: a zero
        ("v = Relu(c)", "d = Div(x, v)", "y = Conv(d, wide)"),  # rule 1: computed
        (D, "v = Relu(wide)", "y = Conv(d, v)"),  # rule 2a: computed weights
        (D, "y = Conv<group = 3>(d, grouped)"),  # rule 2a: groups
        (D, read_in_branches("d", 3)),  # rule 2: readers in another graph
        (D, "p = Conv<pads = [1, 1, 1, 1]>(d, wide)", "y = Concat<axis = 1>(p, d)"),  # rule 2: another reader
        (D, "s = Slice(d, from, to, axis)", "y = Relu(s)"),  # rule 2b: another reader of the slice
        (D, "s = Slice(d, from, to, rows)", "y = Conv<pads = [1, 1, 1, 1]>(s, wide)"),  # rule 2b: other axis
        ("y = Div(x, c)",),  # rule 2: an output of the graph
    ],
)
def test_other_divisions_stay(lines: tuple[str, ...]) -> None:
    stays(FoldScalePass(), model_of(*lines, initializers=SCALE | TRUE))


GELU: Constants = {
    name: np.array(value, np.float32) for name, value in {"root": 2**0.5, "one": 1, "half": 0.5, "third": 1 / 3}.items()
} | {"row": np.full(7, 0.5, np.float32)}
ERF = ("d = Div(x, root)", "e = Erf(d)", "a = Add(e, one)")


@pytest.mark.parametrize("lines", [("h = Mul(half, a)", "y = Mul(x, h)"), ("h = Mul(a, half)", "y = Mul(h, x)")])
def test_gelu_is_halved_last(lines: tuple[str, ...]) -> None:
    model = model_of(*ERF, *lines, initializers=GELU)
    happens(GeluOrderPass(), model, ["Div", "Erf", "Add", "Mul", "Mul"])
    last = model.graph[-1]
    assert [value.name for value in last.inputs if value is not None] == ["h", "half"]


def test_onnx_runtime_makes_one_operator_of_gelu(tmp_path: Path) -> None:
    import onnxruntime

    model = model_of(*ERF, "h = Mul(half, a)", "y = Mul(x, h)", initializers=GELU)
    counts = []
    for _ in range(2):
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.log_severity_level = 3
        onnxruntime.InferenceSession(
            ir.to_proto(model).SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        counts.append([node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node])
        GeluOrderPass()(model)
    assert counts[0].count("Gelu") == 0, "ONNX Runtime knows the exporter's form by now: the pass may go"
    assert counts[1] == ["Gelu"]


@pytest.mark.parametrize(
    "lines",
    [
        (*ERF, "h = Mul(third, a)", "y = Mul(x, h)"),  # rule 1: another number
        (*ERF, "h = Mul(row, a)", "y = Mul(x, h)"),  # rule 1: a number for each column
        (*ERF, "h = Mul(half, a)", "z = Mul(x, h)", "y = Add(z, h)"),  # rule 1: another reader
        ("a = Add(x, one)", "h = Mul(half, a)", "y = Mul(x, h)"),  # rule 2: no Erf
        ("d = Div(x, root)", "e = Erf(d)", "h = Mul(half, e)", "y = Mul(x, h)"),  # rule 2: no sum
        (*ERF, "h = Mul(half, a)", "z = Relu(x)", "y = Mul(z, h)"),  # rule 2: of something else
    ],
)
def test_other_products_stay(lines: tuple[str, ...]) -> None:
    stays(GeluOrderPass(), model_of(*lines, initializers=GELU))


def test_a_product_that_is_an_output_itself_stays() -> None:
    """Rule 1."""
    model = model_of(*ERF, "h = Mul(half, a)", "y = Mul(x, h)", initializers=GELU)
    model.graph.outputs.append(next(value for node in model.graph for value in node.outputs if value.name == "h"))
    stays(GeluOrderPass(), model)
