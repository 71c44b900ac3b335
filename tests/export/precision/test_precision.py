"""--precision fp16 and int8: the files, their accuracy, the layers that stay in float32, and when there is no file."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

from taijitu_export.api import adopt
from taijitu_export.comparison.comparison import Comparison, compare
from taijitu_export.comparison.divergence import divergence
from taijitu_export.comparison.verdict import Outcome
from taijitu_export.comparison.verify import verify_file
from taijitu_export.onnx.passes.quantise import weight_scales
from taijitu_export.precision import int8_from_float32 as int8_module
from taijitu_export.precision.accuracy_check import AccuracyCheck, Check, PrecisionError
from taijitu_export.precision.calibration import MagnitudeHistogram
from taijitu_export.precision.calibration_data import CalibrationData
from taijitu_export.precision.conversion import (
    CONVERSIONS,
    PrecisionRequest,
    convert,
    count_types,
    precision_record,
    report,
)
from taijitu_export.precision.converted_graph import ConvertedGraph
from taijitu_export.precision.float16_from_float32 import float16_from_float32
from taijitu_export.precision.int8_from_float32 import int8_for_engine, int8_from_float32
from taijitu_export.sample_pictures import sample_pictures
from taijitu_export.to_onnx import cli, export
from taijitu_runtime.backends.ort.backend import rounds_float16
from taijitu_runtime.card import ModelCard, Precision
from taijitu_runtime.classifier import Classifier
from taijitu_runtime.errors import UsageError
from taijitu_training import checkpoint
from tests.helpers.tiny_model import card_dict

for_engines = pytest.mark.skipif(not rounds_float16(), reason="int8 for engines takes ONNX Runtime 1.30")

Make = Callable[..., Path]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory, shipped_onnx: Path) -> Path:
    """Write train/<label>/* and test/<label>/*: random pictures, 48 and 64, labelled by the shipped model."""
    folder = tmp_path_factory.mktemp("pictures")
    with Classifier.from_file(shipped_onnx) as classifier:
        for split, count, seed in (("train", 48, 3), ("test", 64, 4)):
            prepared = sample_pictures(count, 32, 32, seed)
            for i, answer in enumerate(classifier.predictions(classifier.logits(prepared))):
                (folder / split / answer.best.label).mkdir(parents=True, exist_ok=True)
                Image.fromarray(prepared[i]).save(folder / split / answer.best.label / f"{i}.png")
    return folder


@pytest.fixture
def exported_once(shipped_onnx: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read the exporter's float32 graph of the shipped checkpoint from its existing file."""
    monkeypatch.setattr(export, "onnx_from_checkpoint", lambda *args, **kwargs: onnx.load(shipped_onnx))


def card_of(path: Path) -> ModelCard:
    return ModelCard.read_onnx_metadata({entry.key: entry.value for entry in onnx.load(path).metadata_props})


def ends(model: onnx.ModelProto) -> list[tuple[str, int]]:
    return [(v.name, v.type.tensor_type.elem_type) for v in (*model.graph.input, *model.graph.output)]


def colours(*layers: tuple[str, float | list[float]], after: tuple[str, ...] = ()) -> onnx.ModelProto:
    """Make a graph from uint8 pictures of 8 x 8 to each colour's average, a 1 x 1 convolution per item of `layers`.

    Each is a name and a factor, or one for each colour; `after` are lines between the last one's output `h` and `z`.
    """
    constants = {f"{name}.weight": np.diag(np.broadcast_to(factor, 3))[..., None, None] for name, factor in layers}
    lines = ["c = Cast<to = 1>(images)", "s = Div(c, full)", "h0 = Transpose<perm = [0, 3, 1, 2]>(s)"]
    lines += [f"h{i + 1} = Conv(h{i}, w{i})" for i in range(len(layers))]
    lines += [*after, "g = GlobalAveragePool(z)", "logits = Flatten(g)"]
    if not after:
        lines[-2] = f"g = GlobalAveragePool(h{len(layers)})"
    header = '<ir_version: 8, opset_import: ["" : 17]> g (uint8[n, 8, 8, 3] images) => (float[n, 3] logits)'
    model = onnx.parser.parse_model("\n".join([header, "{", *lines, "}"]).replace("(h,", f"(h{len(layers)},"))
    for node in model.graph.node:
        node.name = node.output[0]
        node.input[:] = [f"{layers[int(x[1:])][0]}.weight" if x.startswith("w") else x for x in node.input]
    for name, value in {**constants, "full": np.array(255.0), "large": np.array(4000.0)}.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(value.astype(np.float32), name))
    return onnx.shape_inference.infer_shapes(model, strict_mode=True)


def paint(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw noisy pictures of 8 x 8 in one of three colours, and return which."""
    generator = np.random.default_rng(seed)
    targets = generator.integers(0, 3, count)
    pixels = generator.integers(0, 120, (count, 8, 8, 3))
    pixels[np.arange(count), :, :, targets] += 100
    return pixels.astype(np.uint8), targets


def painted() -> CalibrationData:
    (calibrating, _), (judging, targets) = paint(32, 0), paint(64, 1)
    return CalibrationData(calibrating, judging, targets, "some pictures", "others")


@pytest.mark.usefixtures("exported_once")
def test_an_fp16_file_is_float16_inside_with_uint8_in_and_float32_out(
    shipped_checkpoint: Path, shipped_onnx: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "model.onnx"
    assert cli.main([str(shipped_checkpoint), "-o", str(output), "--precision", "fp16"]) == 0
    printed = capsys.readouterr().out
    model = onnx.load(output)
    assert ends(model) == [("images", onnx.TensorProto.UINT8), ("logits", onnx.TensorProto.FLOAT)]
    counted = count_types(model)
    assert counted["float16"] > 20 * counted["float32"]
    assert f"tensors: {counted['float16']} float16, {counted['float32']} float32" in printed
    halves = [c.data_type == onnx.TensorProto.FLOAT16 for c in model.graph.initializer if len(c.dims) == 4]
    assert len(halves) > 1
    assert halves.count(False) == 0, "every kernel is float16"
    assert output.stat().st_size < 0.65 * shipped_onnx.stat().st_size
    precision, proof = card_of(output).precision, card_of(output).proof
    assert proof is not None
    assert proof.origin.allowed > 2 * 0.0063, "the error on aarch64, which also adds up in float16"
    assert (precision.name, precision.excluded_layers) == ("fp16", ())
    assert precision.calibration["judged_on"] == "64 generated pictures"
    assert precision.calibration["logit_error"] <= precision.calibration["allowed_logit_error"] / 3
    with Classifier.from_file(output) as half, Classifier.from_file(shipped_onnx) as full:
        batch = sample_pictures(3, 32, 32, seed=9)
        np.testing.assert_allclose(half.logits(batch), full.logits(batch), atol=0.05)
    judged = verify_file(output, reference=shipped_onnx).verdict
    assert judged.fine
    assert any("float16's own rounding" in what for what in judged.not_judged), "a CPU hides it"
    assert os.listdir(tmp_path) == ["model.onnx"]


@pytest.mark.usefixtures("exported_once")
@pytest.mark.parametrize(
    ("asked", "purpose"), [pytest.param([], "engine", marks=for_engines), (["--for", "cpu"], "cpu")]
)
def test_an_int8_file_is_calibrated_on_train_and_judged_on_test(
    asked: list[str], purpose: str, shipped_checkpoint: Path, shipped_onnx: Path, pictures: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    output = tmp_path / "model.onnx"
    options = ["--precision", "int8", "--calibration", str(pictures), "--max-drop", "100", *asked]
    assert cli.main([str(shipped_checkpoint), "-o", str(output), *options]) == 0
    printed = capsys.readouterr().out
    model = onnx.load(output)
    assert ends(model) == [("images", onnx.TensorProto.UINT8), ("logits", onnx.TensorProto.FLOAT)]
    kernels = [c.data_type for c in model.graph.initializer if len(c.dims) == 4]
    assert set(kernels) == {onnx.TensorProto.INT8}
    between = onnx.TensorProto.FLOAT16 if purpose == "engine" else onnx.TensorProto.FLOAT
    assert {c.data_type for c in model.graph.initializer if "bias" in c.name} == {between}
    assert {c.data_type for c in model.graph.initializer if c.name.endswith("_scale") and c.dims} == {between}
    assert model.opset_import[0].version == (19 if purpose == "engine" else 17)
    precision = card_of(output).precision
    assert (precision.name, precision.excluded_layers) == ("int8", ())
    assert precision.calibration["pictures"] == 48
    assert precision.calibration["for"] == purpose
    assert precision.calibration["between"] == ("float16" if purpose == "engine" else "float32")
    assert "least squared error" in precision.calibration["method"]
    assert precision.calibration["data"] == f"48 pictures of {pictures.name}/train"
    assert precision.calibration["judged_on"] == f"64 pictures of {pictures.name}/test"
    judged = sample_pictures(64, 32, 32, seed=4)
    with Classifier.from_file(output) as small, Classifier.from_file(shipped_onnx) as full:
        lost = small.logits(judged).argmax(axis=1) != full.logits(judged).argmax(axis=1)
    assert precision.calibration["drop_points"] == pytest.approx(100 * lost.mean(), abs=5), (
        "of 64 answers, 3 by rounding"
    )
    assert f"checked against float32 on 64 pictures of {pictures.name}/test" in printed
    assert output.stat().st_size < 0.8 * shipped_onnx.stat().st_size


def test_real_pictures_lose_little_in_either_precision(shipped_onnx: Path, cifar_subset: Path) -> None:
    model, card = onnx.load(shipped_onnx), card_of(shipped_onnx)
    real = CalibrationData.of_data(cifar_subset, card)
    assert (len(real.calibration), len(real.evaluation), real.evaluation_source[-5:]) == (256, 300, "/test")
    half = float16_from_float32(model, real, max_drop=0.1)
    assert half.excluded_layers == ()
    assert half.check.comparison.rms_error < 3 * half.noise
    small = int8_for_engine(model, real, max_drop=0.5)
    assert small.excluded_layers == ()
    assert small.check.comparison.agreement_percent > 95
    assert small.check.comparison.rms_error < 10 * small.noise
    for converted in (half, small):
        assert converted.check.verdict.outcome.value == "not shown", "300 pictures are too few"


def test_layers_that_overflow_float16_stay_in_float32() -> None:
    """Check that only the layer that makes a million and the one that reads it stay."""
    model = colours(("up", 1e3), ("overflow", 1e3), ("down", 1e-3), ("last", 1e-3))
    converted = float16_from_float32(model, painted(), max_drop=0.0)
    assert converted.excluded_layers == ("overflow", "down")
    kernels = {c.name: c.data_type == onnx.TensorProto.FLOAT for c in converted.model.graph.initializer}
    assert [kernels[f"{name}.weight"] for name in ("up", "overflow", "down", "last")] == [False, True, True, False]
    onnx.checker.check_model(converted.model, full_check=True)


def test_dark_pictures_do_not_hide_a_layer_that_overflows_on_bright_ones() -> None:
    model = colours(("up", 1e3), ("overflow", 1e3), ("down", 1e-3), ("last", 1e-3))
    dark = dataclasses.replace(painted(), calibration=painted().calibration // 32)
    assert float16_from_float32(model, dark, max_drop=0.0).excluded_layers == ("overflow", "down")


def test_nodes_without_names_are_excluded_and_counted_like_any() -> None:
    model = colours(("up", 1e3), ("overflow", 1e3), ("down", 1e-3), ("last", 1e-3))
    for node in model.graph.node:
        node.name = ""
    card = ModelCard.from_dict(card_dict())
    half = convert(model, card, PrecisionRequest("fp16"), painted())
    assert half.card.precision.excluded_layers == ("overflow", "down")
    assert half.report[0].startswith("fp16: 4 of 6 layers;")
    whole = convert(model, card, PrecisionRequest("int8", max_drop=100.0, purpose="cpu"), painted())
    assert whole.card.precision.excluded_layers == ()
    assert whole.report[0].startswith("int8: 4 of 4 layers;")


def test_a_network_of_which_float16_holds_nothing_is_no_float16_file() -> None:
    with pytest.raises(PrecisionError, match="4 layers"):
        float16_from_float32(colours(("a", 1e6), ("b", 1.0)), painted(), max_drop=0.0)


def test_a_file_whose_weights_are_all_in_float32_is_no_float16_file() -> None:
    model = colours(("a", 1e6), ("b", 1.0), after=("d = Div(h, full)", "e = Div(d, full)", "z = Div(e, full)"))
    with pytest.raises(PrecisionError, match="none with weights"):
        float16_from_float32(model, painted(), max_drop=100.0)


def test_a_node_that_chooses_its_own_type_stays_in_float32() -> None:
    model = colours(("first", 1.0), after=("s1 = Shape(h1)", "k = ConstantOfShape(s1)", "z = Add(h1, k)"))
    converted = float16_from_float32(model, painted(), max_drop=0.0)
    assert converted.excluded_layers == ("k",)
    onnx.checker.check_model(converted.model, full_check=True)


def test_a_sequence_of_tensors_stays_in_float32() -> None:
    split = ("sizes = Constant<value_ints = [1, 2]>()", "parts = SplitToSequence<axis = 1>(h, sizes)")
    model = colours(("first", 1.0), after=(*split, "z = ConcatFromSequence<axis = 1>(parts)"))
    converted = float16_from_float32(model, painted(), max_drop=0.0)
    assert converted.excluded_layers == ("parts", "z")
    onnx.checker.check_model(converted.model, full_check=True)


def test_layers_that_float16_makes_too_coarse_go_back_until_the_answers_are_right() -> None:
    model = colours(("first", 1.0), after=("a = Add(h1, large)", "z = Sub(a, large)"))
    converted = float16_from_float32(model, painted(), max_drop=0.0)
    assert {"a", "z"} <= set(converted.excluded_layers) < {"first", "a", "z", "g", "logits"}
    assert converted.check.comparison.flips == ()


def test_a_layer_that_int8_cannot_hold_stays_in_float32() -> None:
    """Make the input of "narrow" ten thousand times larger in one colour than in the others."""
    model = colours(("wide", [1e3, 0.1, 0.1]), ("narrow", [1e-3, 10.0, 10.0]), ("last", 1.0))
    whole = int8_from_float32(model, painted(), max_drop=100.0)
    assert whole.excluded_layers == ()
    assert whole.check.comparison.labelled is not None
    assert whole.check.comparison.labelled.drop_points > 30
    converted = int8_from_float32(model, painted(), max_drop=1.0)
    assert converted.excluded_layers == ("narrow",)
    assert converted.check.comparison.labelled is not None
    assert converted.check.comparison.labelled.drop_points <= 1.0
    assert (
        sum(c.data_type == onnx.TensorProto.INT8 and len(c.dims) == 4 for c in converted.model.graph.initializer) == 2
    )


def test_no_int8_graph_is_judged_twice_and_layers_are_ranked_on_128_images_at_most(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    judged: list[bytes] = []
    ranked: list[int] = []

    class Counted(int8_module.AccuracyCheck):
        def __call__(self, model: onnx.ModelProto) -> Check:
            judged.append(model.SerializeToString())
            return super().__call__(model)

    def compared(candidate: np.ndarray, reference: np.ndarray, output: str) -> Comparison:
        ranked.append(len(candidate))
        return compare(candidate, reference, output=output)

    monkeypatch.setattr(int8_module, "AccuracyCheck", Counted)
    monkeypatch.setattr(int8_module, "compare", compared)
    model = colours(("wide", [1e3, 0.1, 0.1]), ("narrow", [1e-3, 10.0, 10.0]), ("last", 1.0))
    data = dataclasses.replace(painted(), calibration=paint(200, 0)[0])
    assert int8_from_float32(model, data, max_drop=1.0).excluded_layers == ("narrow",)
    assert len(judged) == len(set(judged)) > 1
    assert len(ranked) == 3
    assert max(ranked) <= 128


def test_probabilities_that_a_conversion_moves_are_told() -> None:
    model = colours(("wide", [1e3, 0.1, 0.1]), ("narrow", [1e-3, 10.0, 10.0]), ("last", 1.0))
    data = dataclasses.replace(painted(), temperature=2.0)
    moved = int8_from_float32(model, data, max_drop=100.0)
    assert moved.check.calibration_errors is not None
    before, after = moved.check.calibration_errors
    assert abs(after - before) > 1
    request = PrecisionRequest("int8", purpose="cpu")
    (line,) = (line for line in report(moved, request, data) if line.startswith("probabilities: "))
    assert f"from {before:.2f} to {after:.2f} points at temperature 2," in line
    assert precision_record(moved, request, data).calibration["calibration_error"] == round(after, 2)
    same = float16_from_float32(colours(("first", 1.0)), painted(), max_drop=0.1)
    assert not any(line.startswith("probabilities: ") for line in report(same, PrecisionRequest("fp16"), painted()))


def test_what_float16_cannot_hold_stays_in_float32_between_int8_layers() -> None:
    """Check that the layer that makes a million and the one that reads it are still int8."""
    model = colours(("up", 1e3), ("overflow", 1e3), ("down", 1e-3), ("last", 1e-3))
    converted = int8_for_engine(model, painted(), max_drop=1.0)
    assert (converted.between, converted.excluded_layers) == ("float16", ())
    assert converted.in_float32 == ("overflow", "down")
    onnx.checker.check_model(converted.model, full_check=True)
    kernels = [c for c in converted.model.graph.initializer if len(c.dims) == 4]
    assert {c.data_type for c in kernels} == {onnx.TensorProto.INT8}


def test_a_layer_that_neither_int8_nor_float16_can_hold_is_reported_in_float32_alone() -> None:
    model = colours(("first", 1.0), after=("b = Mul(h1, large)", "v = Mul(b, large)", "z = ConvTranspose(v, t)"))
    kernel = np.eye(3, dtype=np.float32)[..., None, None]
    model.graph.initializer.append(onnx.numpy_helper.from_array(kernel, "t"))
    converted = int8_for_engine(model, painted(), max_drop=100.0)
    assert converted.excluded_layers == ("z",)
    assert "z" in converted.in_float32
    lines = report(converted, PrecisionRequest("int8", purpose="engine"), painted())
    assert not any(line.startswith("in float16: ") for line in lines)
    assert any(line.startswith("in float32: ") for line in lines)


def test_a_layer_that_int8_cannot_hold_is_float16_in_a_file_for_engines() -> None:
    model = colours(("wide", [1e3, 0.1, 0.1]), ("narrow", [1e-3, 10.0, 10.0]), ("last", 1.0))
    converted = int8_for_engine(model, painted(), max_drop=1.0)
    assert converted.excluded_layers == ("narrow",)
    kernels = {c.name: c.data_type for c in converted.model.graph.initializer if len(c.dims) == 4}
    assert kernels["narrow.weight"] == onnx.TensorProto.FLOAT16
    assert sorted(kernels.values()) == [onnx.TensorProto.INT8] * 2 + [onnx.TensorProto.FLOAT16]


def test_a_float16_file_has_a_layer_with_weights_in_float16() -> None:
    model = colours(("first", 7e4), after=("z = Relu(h1)",))
    (divisor,) = [constant for constant in model.graph.initializer if constant.name == "full"]
    divisor.CopyFrom(onnx.numpy_helper.from_array(np.array(2550, np.float32), "full"))  # no value is beyond float16
    with pytest.raises(PrecisionError):
        float16_from_float32(model, painted(), max_drop=1.0)


@for_engines
def test_values_too_fine_for_float16_between_int8_layers_are_refused_with_the_way_out() -> None:
    model = colours(("first", 1.0), ("second", 1.0), after=("a = Add(h, large)", "z = Sub(a, large)"))
    with pytest.raises(PrecisionError, match="--for cpu"):
        int8_for_engine(model, painted(), max_drop=1.0)
    assert int8_from_float32(model, painted(), max_drop=1.0).check.passes


def test_a_graph_that_cannot_be_raised_to_opset_19_cannot_be_for_engines() -> None:
    sides = "float[n, 3, 8, 8]"
    branches = f"then_branch = i () => ({sides} a) {{a = Neg(h1)}}, else_branch = j () => ({sides} b) {{b = Abs(h1)}}"
    lines = ("size = Size(h1)", "is_any = Cast<to = 9>(size)", f"z = If (is_any) <{branches}>")
    model = colours(("first", 1.0), after=lines)
    with pytest.raises(UsageError, match=r"If.*--for cpu"):
        int8_for_engine(model, painted(), max_drop=1.0)


@pytest.mark.parametrize("targets", [True, False])
def test_without_labels_a_coarse_layer_is_found_by_the_error_of_the_logits(targets: bool) -> None:
    data = painted() if targets else dataclasses.replace(painted(), targets=None)
    model = colours(("first", 1.0), after=("a = Add(h1, large)", "z = Sub(a, large)"))
    converted = float16_from_float32(model, data, max_drop=0.1)
    assert {"a", "z"} <= set(converted.excluded_layers)
    wide = colours(("wide", [1e3, 0.1, 0.1]), ("narrow", [1e-3, 10.0, 10.0]), ("last", 1.0))
    assert int8_from_float32(wide, data, max_drop=1.0).excluded_layers == ("narrow",)


def test_weights_that_float16_cannot_hold_are_recorded_as_float32() -> None:
    model = colours(("up", 1e-5), ("heavy", 7e4), ("last", 1.0))
    converted = float16_from_float32(model, painted(), max_drop=0.1)
    assert converted.excluded_layers == ("heavy",)
    assert converted.layers == 5


def test_layers_that_int8_does_not_know_are_recorded_as_float32() -> None:
    model = colours(("first", 1.0), after=("z = ConvTranspose(h1, t)",))
    kernel = np.eye(3, dtype=np.float32)[..., None, None]
    model.graph.initializer.append(onnx.numpy_helper.from_array(kernel, "t"))
    converted = int8_from_float32(model, painted(), max_drop=100.0)
    assert (converted.layers, converted.excluded_layers) == (2, ("z",))


@pytest.mark.parametrize("operator", ["LSTM", "GRU", "RNN", "Einsum"])
def test_layers_over_a_sequence_and_sums_of_products_are_layers(operator: str) -> None:
    """Check that one which comes first computes in float16, and that int8, which does not know it, says so."""
    sizes = {"LSTM": 12, "GRU": 9, "RNN": 3}
    if operator == "Einsum":
        lines = ['o = Einsum<equation = "tnc,kc->tnk">(h0, w)', "z = ReduceMean<axes = [0], keepdims = 0>(o)"]
        weights = {"w": (3, 24)}
    else:
        lines = [f"o, h = {operator}<hidden_size = 3>(h0, w, r)", "z = Squeeze(h, first)"]
        weights = {"w": (1, sizes[operator], 24), "r": (1, sizes[operator], 3)}
    begin = ["c = Cast<to = 1>(images)", "s = Div(c, full)", "t = Transpose<perm = [1, 0, 2, 3]>(s)"]
    header = '<ir_version: 8, opset_import: ["" : 17]> g (uint8[n, 8, 8, 3] images) => (float[n, 3] logits)'
    body = [*begin, "h0 = Reshape(t, flat)", *lines, "logits = Gemm(z, end)"]
    model = onnx.parser.parse_model("\n".join([header, "{", *body, "}"]))
    generator = np.random.default_rng(0)
    constants: dict[str, np.ndarray] = {
        name: generator.normal(size=shape).astype(np.float32) for name, shape in {**weights, "end": (3, 3)}.items()
    }
    constants |= {"full": np.float32(255), "first": np.array([0]), "flat": np.array([8, -1, 24])}
    model.graph.initializer.extend(onnx.numpy_helper.from_array(np.array(v), name) for name, v in constants.items())
    for node in model.graph.node:
        node.name = node.output[0]
    half = float16_from_float32(onnx.shape_inference.infer_shapes(model), painted(), max_drop=100.0)
    assert {c.name: c.data_type for c in half.model.graph.initializer}["w"] == onnx.TensorProto.FLOAT16
    quantised = int8_from_float32(onnx.shape_inference.infer_shapes(model), painted(), max_drop=100.0)
    assert (quantised.layers, quantised.excluded_layers) == (2, ("o",))


def test_layers_behind_a_group_norm_of_opset_21_are_counted_and_float16(tmp_path: Path) -> None:
    lines = "g = GroupNormalization<num_groups = 1>(a, one, zero) m = Mish(g) p = GlobalAveragePool(m) y = Flatten(p)"
    header = '<ir_version: 10, opset_import: ["" : 21]> g (float[n, 3, 8, 8] x) => (float[n, 3] y)'
    model = onnx.parser.parse_model(f"{header} {{ a = Conv(x, kernel) {lines} }}")
    constants = {"kernel": np.eye(3)[..., None, None], "one": np.ones(3), "zero": np.arange(3)}
    for name, value in constants.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(value.astype(np.float32), name))
    onnx.save(model, tmp_path / "model.onnx")
    contract: dict[str, Any] = {"labels": ("cat", "dog", "hedgehog"), "resize": "stretch", "mean": [0.5], "std": [0.2]}
    adopt(tmp_path / "model.onnx", tmp_path / "adopted.onnx", **contract)
    assert cli.main([str(tmp_path / "adopted.onnx"), "--precision", "fp16"]) == 0
    made = onnx.load(tmp_path / "adopted.fp16.onnx")
    assert count_types(made)["float16"] >= 5
    assert card_of(tmp_path / "adopted.fp16.onnx").precision.excluded_layers == ()


BRANCHES = """z = If <
    then_branch = one () => (float[n, 3, 8, 8] p) { p = Relu(h) },
    else_branch = other () => (float[n, 3, 8, 8] q) { q = Conv(h, kernel) }>(chosen)"""


def test_branches_that_read_a_layer_are_recorded_as_float32_and_pass_its_error_on() -> None:
    model = colours(("first", 1.0), after=(BRANCHES.replace("(h", "(h1"),))
    constants = {"chosen": np.array(True), "kernel": np.eye(3, dtype=np.float32)[..., None, None]}
    model.graph.initializer.extend(onnx.numpy_helper.from_array(value, name) for name, value in constants.items())
    converted = float16_from_float32(model, painted(), max_drop=100.0)
    assert converted.excluded_layers == ("z",)
    assert converted.layers == 4
    quantised = int8_from_float32(model, painted(), max_drop=100.0)
    assert (quantised.layers, quantised.excluded_layers) == (2, ("z",)), "one branch has a layer"
    errors = {layer.node: layer for layer in divergence(quantised.model, model, painted().evaluation).layers}
    assert errors["z"].before == errors["h1"].error > 0


def test_where_labels_show_nothing_the_verdict_says_what_the_logits_are_allowed() -> None:
    model, far = colours(("first", 1.0)), colours(("first", 1.5))
    check = AccuracyCheck("int8", model, model, painted(), max_drop=0.5)(far)
    assert not check.passes
    assert check.verdict.outcome is Outcome.NOT_FINE
    assert f"{check.comparison.rms_error:.2g}" in check.verdict.reason
    assert "0 pictures lost" in check.verdict.reason


def test_a_stack_of_matrices_is_recorded_as_float32_and_the_file_runs() -> None:
    model = colours(("first", 1.0), after=("z = MatMul(h1, stack)",))
    stack = np.broadcast_to(np.eye(8, dtype=np.float32), (3, 8, 8))
    model.graph.initializer.append(onnx.numpy_helper.from_array(stack, "stack"))
    converted = int8_from_float32(model, painted(), max_drop=100.0)
    assert (converted.layers, converted.excluded_layers) == (2, ("z",))


def test_a_network_without_layers_that_int8_knows_is_no_int8_file() -> None:
    for convert_to_int8 in (int8_from_float32, int8_for_engine):
        with pytest.raises(PrecisionError, match="Conv, Gemm or MatMul"):
            convert_to_int8(colours(after=("z = Sigmoid(h0)",)), painted(), max_drop=100.0)


@pytest.mark.parametrize("decayed", [1e-38, 1e-44])
def test_a_channel_that_has_decayed_to_nothing_is_calibrated_like_any_other(decayed: float) -> None:
    model = colours(("decayed", [decayed] * 3), ("next", [1.0, decayed, 1.0]), ("last", 1e30))
    converted = int8_from_float32(model, dataclasses.replace(painted(), targets=np.zeros(64, np.int64)), max_drop=100.0)
    scales = [c for c in converted.model.graph.initializer if c.name.endswith("_scale")]
    assert scales
    for scale in scales:
        assert (onnx.numpy_helper.to_array(scale) >= np.finfo(np.float32).tiny).all(), scale.name
    assert (weight_scales(np.array([[1e-44], [1.0]], np.float32), 0) >= np.finfo(np.float32).tiny).all()


def test_nan_and_infinity_are_not_calibrated() -> None:
    histogram = MagnitudeHistogram()
    histogram.add(np.array([np.nan, np.inf, -np.inf, 1.0, 2.0], np.float32))
    assert 127 * histogram.scale() == pytest.approx(2.0, rel=0.02)


def test_where_every_layer_is_too_sensitive_the_table_of_layers_says_so() -> None:
    model = colours(("wide", 1.0), ("narrow", [1e-3, 10.0, 10.0]))
    model.graph.node[1].input[1] = "uneven"
    uneven = np.array([0.255, 2550.0, 2550.0], np.float32)  # for pixels: 1000 in red, 0.1 in the others
    model.graph.initializer.append(onnx.numpy_helper.from_array(uneven, "uneven"))
    with pytest.raises(PrecisionError, match=r"int8 .*, allowed 1") as caught:
        int8_from_float32(model, painted(), max_drop=1.0)
    rows = caught.value.details
    assert rows[0].split()[0] == "layer"
    assert sorted(row.split()[0] for row in rows[2:]) == ["narrow", "wide"]


@pytest.mark.usefixtures("exported_once")
def test_no_precision_is_exit_code_1_with_the_table_and_no_file(
    shipped_checkpoint: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    def refuse(*arguments: object) -> ConvertedGraph:
        raise PrecisionError("int8 costs 9.00 points of top-1 accuracy at best, allowed 0.5", ("layer", "first"))

    monkeypatch.setitem(CONVERSIONS, ("int8", "cpu"), refuse)
    output = tmp_path / "model.onnx"
    options = ["-o", str(output), "--precision", "int8", "--for", "cpu", "--calibration", str(pictures)]
    assert cli.main([str(shipped_checkpoint), *options]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    rows, line = printed.err.splitlines()[:-1], printed.err.splitlines()[-1]
    assert rows == ["layer", "first"]
    assert line.startswith(f"taijitu onnx: {output}: not written, int8 costs 9.00 points")
    assert os.listdir(tmp_path) == []


def test_a_scale_cuts_off_what_is_rare_and_far_and_widens_for_what_is_not() -> None:
    values = np.random.default_rng(0).normal(size=100_000).astype(np.float32)
    plain, outlier = MagnitudeHistogram(), MagnitudeHistogram()
    for part in np.split(values, 10):
        plain.add(part)
    outlier.add(values)
    outlier.add(np.array([40.0], np.float32))
    assert 3.0 < 127 * plain.scale() <= np.abs(values).max() + 0.01
    assert 127 * outlier.scale() < 30
    bounded = MagnitudeHistogram()
    for limit in (0.1, 1.0, 5.0):
        bounded.add(np.linspace(-limit, limit, 10_000, dtype=np.float32))
    assert 127 * bounded.scale() == pytest.approx(5.0, rel=0.02)
    nothing = MagnitudeHistogram()
    nothing.add(np.zeros(10, np.float32))
    assert nothing.scale() == 1.0


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--precision", "int8"], "give --calibration DIR"),
        (["--precision", "fp16", "--for", "cpu"], "remove --for"),
        (["--calibration", "pictures"], "got --calibration "),
        (["--max-drop", "1"], "got --max-drop "),
        (["--precision", "fp16", "--calibration", "nowhere"], "nowhere: got no such file or folder"),
        (["--precision", "fp16", "--max-drop", "101"], "from 0 to 100"),
    ],
)
def test_wrong_usage_is_one_line_and_leaves_no_file(
    shipped_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], text: str
) -> None:
    assert cli.main([str(shipped_checkpoint), "-o", str(tmp_path / "model.onnx"), *arguments]) == 2
    error = capsys.readouterr().err
    assert text in error
    assert error.count("\n") == 1
    assert os.listdir(tmp_path) == []


def test_a_checkpoint_and_an_older_card_are_float32(shipped_checkpoint: Path) -> None:
    assert checkpoint.load(shipped_checkpoint).card().precision == Precision()


def test_without_an_output_the_file_is_named_by_its_precision(make_checkpoint: Make) -> None:
    source = make_checkpoint("yynet_small_16", act="nish")
    assert cli.main([str(source), "--precision", "fp16"]) == 0
    model = onnx.load(source.with_suffix(".fp16.onnx"))
    assert [node.op_type for node in model.graph.node].count("Nish") == 31
    assert not source.with_suffix(".onnx").exists()


@for_engines
@pytest.mark.slow
@pytest.mark.parametrize(
    ("act", "precision"),
    [
        ("silu", "int8"),
        # Float16 is built in test_engine_networks.py.
        *(pytest.param(*more, marks=pytest.mark.engines) for more in (("silu", "fp16"), ("nish", "int8"))),
    ],
)
def test_tensorrt_rtx_builds_engines_of_converted_files(
    make_checkpoint: Make, pictures: Path, act: str, precision: str
) -> None:
    trt = pytest.importorskip("tensorrt_rtx", reason="pip install tensorrt-rtx, which builds without a GPU")
    source = make_checkpoint("yynet_small_16", act=act)
    unlabelled = max((pictures / "train").iterdir(), key=lambda folder: len(os.listdir(folder)))
    data = ["--calibration", str(unlabelled), "--max-drop", "100"] if precision == "int8" else []
    assert cli.main([str(source), "--precision", precision, *data]) == 0
    builder = trt.Builder(trt.Logger(trt.Logger.ERROR))
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, trt.Logger(trt.Logger.ERROR))
    parsed = parser.parse(source.with_suffix(f".{precision}.onnx").read_bytes())
    assert parsed, [str(parser.get_error(i)) for i in range(parser.num_errors)]
    layers = [network.get_layer(i) for i in range(network.num_layers)]
    made = {layer.get_output(i).dtype for layer in layers for i in range(layer.num_outputs)}
    assert (trt.float16 if precision == "fp16" else trt.int8) in made
    assert (network.get_input(0).dtype, network.get_output(0).dtype) == (trt.uint8, trt.float32)
    config, profile = builder.create_builder_config(), builder.create_optimization_profile()
    profile.set_shape("images", (1, 32, 32, 3), (1, 32, 32, 3), (4, 32, 32, 3))
    config.add_optimization_profile(profile)
    assert builder.build_serialized_network(network, config) is not None
