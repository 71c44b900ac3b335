"""`taijitu adopt`: foreign files become artefacts that answer like them, or nothing is written."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

from taijitu_export.adopt.cli import main
from taijitu_export.adopt.like import preprocessing_like
from taijitu_export.adopt.original import Original, Signature
from taijitu_export.adopt.preprocessing import Preprocessing, Resize
from taijitu_export.api import adopt
from taijitu_export.comparison.intermediates import Intermediates
from taijitu_export.errors import ExportError
from taijitu_export.onnx.onnx_file import read_onnx
from taijitu_export.sample_pictures import sample_pictures
from taijitu_export.to_onnx.cli import main as to_onnx
from taijitu_runtime.card import ModelCard
from taijitu_runtime.classifier import Classifier
from taijitu_runtime.errors import ArtefactError, TaijituError, UsageError
from taijitu_runtime.proof.prove import prove
from tests.helpers.foreign_model import make_foreign_onnx

LABELS = ("cat", "dog", "hedgehog")
USUAL: dict[str, Any] = {"labels": LABELS, "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4], "resize": "stretch"}

pytestmark = pytest.mark.usefixtures("quick_passport")


@pytest.fixture(scope="module")
def picture() -> NDArray[np.uint8]:
    """Return a picture of another size than the networks' input, uint8 RGB (30, 50, 3)."""
    return np.random.default_rng(7).integers(0, 256, (30, 50, 3), np.uint8)


def probabilities(path: Path, picture: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the artefact's probabilities, (K,), in the order of its labels."""
    with Classifier.from_file(path) as classifier:
        answers = classifier.predict(picture, top=len(classifier.labels)).answers
        return np.array([answer.probability for answer in sorted(answers, key=lambda each: each.index)])


def original(path: Path, images: NDArray[Any]) -> NDArray[np.float64]:
    """Return the foreign file's output for the array that it expects, (K,)."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: images})[0][0].astype(np.float64).reshape(-1)


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    powers = np.exp(logits - logits.max())
    return powers / powers.sum()


def resized(picture: NDArray[np.uint8], height: int = 12, width: int = 16) -> NDArray[np.float64]:
    from PIL import Image

    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR), np.float64)


def assert_same_answer(adopted: Path, picture: NDArray[np.uint8], source: Path, images: NDArray[Any]) -> None:
    """Compare the artefact's probabilities for a picture with the foreign file's for the array that it expects."""
    np.testing.assert_allclose(probabilities(adopted, picture), softmax(original(source, images)), rtol=1e-4)


def usual(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return what a foreign file of the contract USUAL expects for the picture, (1, 3, 12, 16)."""
    pixels = (resized(picture) / 255 - USUAL["mean"]) / USUAL["std"]
    return pixels.transpose(2, 0, 1)[None].astype(np.float32)


def with_numbers(path: Path, **changes: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> None:
    """Change weights, by their names, of a file in place."""
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        if tensor.name in changes:
            changed = changes[tensor.name](onnx.numpy_helper.to_array(tensor))
            tensor.CopyFrom(onnx.numpy_helper.from_array(changed.astype(np.float32), tensor.name))
    onnx.save(model, path)


FORMS: dict[str, dict[str, Any]] = {
    "nchw, softmax, opset 11": {"ending": "Softmax", "opset": 11, "ir_version": 6},
    "nhwc": {"layout": "nhwc"},
    "opset 9, IR 3, initialisers among the inputs": {"opset": 9, "ir_version": 3, "initialisers_are_inputs": True},
    "opset 21": {"opset": 21, "ir_version": 10},
    "log-probabilities": {"ending": "LogSoftmax"},
    "one batch, but nothing needs it": {"batch": 1, "flat_shape": (1, 4)},
}


@pytest.mark.parametrize("form", FORMS)
def test_a_foreign_file_becomes_an_artefact_that_answers_like_it(
    tmp_path: Path, picture: NDArray[np.uint8], form: str
) -> None:
    source = make_foreign_onnx(tmp_path / "foreign.onnx", **FORMS[form])
    result = adopt(source, tmp_path / "adopted.onnx", **USUAL)
    pixels = (resized(picture) / 255 - USUAL["mean"]) / USUAL["std"]
    images = pixels[None] if FORMS[form].get("layout") == "nhwc" else pixels.transpose(2, 0, 1)[None]
    said = original(source, images.astype(np.float32))
    expected = said if form.startswith("nchw") else softmax(said)
    np.testing.assert_allclose(probabilities(result.path, picture), expected, rtol=1e-4)
    assert result.agreement.holds
    assert result.batch is None
    model = onnx.load(result.path)
    assert (model.opset_import[0].version, model.ir_version) == (17, 8)
    assert [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim] == [0, 12, 16, 3]
    assert result.card.training["adopted"]["opset"] == FORMS[form].get("opset", 17)
    assert result.card.labels == LABELS


def test_numbers_of_numpy_are_those_of_python(tmp_path: Path) -> None:
    source = make_foreign_onnx(tmp_path / "foreign.onnx")
    numbers: dict[str, Any] = {"mean": np.array(USUAL["mean"]), "std": np.array(USUAL["std"]), "scale": np.float64(0.5)}
    size: Any = (np.int64(12), np.uint16(16))
    found = adopt(source, tmp_path / "adopted.onnx", **{**USUAL, **numbers, "size": size}).card.input
    assert (list(found.mean), list(found.std), found.scale) == (USUAL["mean"], USUAL["std"], 0.5)
    assert (found.height, found.width) == (12, 16)


@pytest.mark.parametrize("wrong", [{"size": 12}, {"size": (12,)}, {"mean": 0.5}, {"std": "0.5"}])
def test_a_number_in_place_of_several_is_refused(tmp_path: Path, wrong: dict[str, Any]) -> None:
    source = make_foreign_onnx(tmp_path / "foreign.onnx")
    with pytest.raises(UsageError, match=next(iter(wrong))):
        adopt(source, tmp_path / "adopted.onnx", **{**USUAL, **wrong})
    assert [path.name for path in tmp_path.iterdir()] == ["foreign.onnx"]


@pytest.mark.parametrize("kind", [frozenset, lambda labels: {label: -i for i, label in enumerate(labels)}])
def test_labels_in_no_order_are_refused(tmp_path: Path, kind: Callable[[Sequence[str]], Any]) -> None:
    source = make_foreign_onnx(tmp_path / "foreign.onnx")
    with pytest.raises(UsageError, match="order"):
        adopt(source, tmp_path / "adopted.onnx", **{**USUAL, "labels": kind(USUAL["labels"])})


def test_a_shape_that_the_file_states_wrongly_keeps_no_old_opset(tmp_path: Path) -> None:
    source = make_foreign_onnx(tmp_path / "foreign.onnx", opset=11, ir_version=6)
    model = onnx.load(source)
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 7  # of an earlier head; ONNX Runtime only warns
    onnx.save(model, source)
    assert adopt(source, tmp_path / "adopted.onnx", **USUAL).opset == 17


@pytest.mark.parametrize("dimensions", [1, 2])
@pytest.mark.parametrize("in_node", [False, True])
def test_sparse_weights_are_read_as_onnx_runtime_reads_them(
    tmp_path: Path, picture: NDArray[np.uint8], dimensions: int, in_node: bool
) -> None:
    source = make_foreign_onnx(tmp_path / "foreign.onnx")
    model = onnx.load(source)
    (dense,) = [tensor for tensor in model.graph.initializer if tensor.name == "w2"]
    weights = onnx.numpy_helper.to_array(dense).copy()
    weights[0, 1:] = weights[2, :2] = 0
    places = np.argwhere(weights) if dimensions == 2 else np.flatnonzero(weights)
    values = onnx.numpy_helper.from_array(weights[weights != 0], "w2")
    sparse = onnx.helper.make_sparse_tensor(
        values, onnx.numpy_helper.from_array(places, "w2_indices"), list(weights.shape)
    )
    model.graph.initializer.remove(dense)
    if in_node:
        model.graph.node.insert(0, onnx.helper.make_node("Constant", [], ["w2"], sparse_value=sparse))
    else:
        model.graph.sparse_initializer.append(sparse)
    onnx.save(model, source)
    adopted = adopt(source, tmp_path / "adopted.onnx", **USUAL)
    assert_same_answer(adopted.path, picture, source, usual(picture))


def test_a_network_with_sequences_of_tensors_is_adopted_and_rounded_to_float16(
    tmp_path: Path, picture: NDArray[np.uint8]
) -> None:
    source, half = make_foreign_onnx(tmp_path / "foreign.onnx"), tmp_path / "half.onnx"
    model = onnx.load(source)
    (joined,) = model.graph.node[0].output
    model.graph.node[0].output[0] = "whole"
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(2), "two"))
    model.graph.node.insert(1, onnx.helper.make_node("SplitToSequence", ["whole", "two"], ["parts"], axis=1))
    model.graph.node.insert(2, onnx.helper.make_node("ConcatFromSequence", ["parts"], [joined], axis=1))
    onnx.save(model, source)
    adopted = adopt(source, tmp_path / "adopted.onnx", **USUAL)
    expected = softmax(original(source, usual(picture)))
    np.testing.assert_allclose(probabilities(adopted.path, picture), expected, rtol=1e-4)
    assert to_onnx([str(adopted.path), "-o", str(half), "--precision", "fp16"]) == 0
    np.testing.assert_allclose(probabilities(half, picture), expected, atol=0.01)


def test_a_file_of_int8_that_onnx_runtime_cannot_fuse_is_opened_up_to_any_tensor(tmp_path: Path) -> None:
    model = onnx.parser.parse_model("""
        <ir_version: 9, opset_import: ["" : 19]>
        foreign (uint8[N, 12, 16, 3] images) => (float[N, 3] result)
        <uint8 zero = {0}, int64[2] flat = {-1, 3}> {
            floats = Cast <to = 1> (images)
            planes = Transpose <perm = [0, 3, 1, 2]> (floats)
            pooled = GlobalAveragePool(planes)
            features = Reshape(pooled, flat)
            halves = Cast <to = 10> (features)
            bytes = QuantizeLinear(halves, scale, zero)
            read = DequantizeLinear(bytes, scale, zero)
            joined = Concat <axis = 1> (read)
            joined_bytes = QuantizeLinear(joined, scale, zero)
            joined_read = DequantizeLinear(joined_bytes, scale, zero)
            numbers = Cast <to = 1> (joined_read)
            result = Softmax <axis = 1> (numbers)
        }""")
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(1, np.float16), "scale"))
    onnx.save(model, tmp_path / "foreign.onnx")
    whole = Original(read_onnx(tmp_path / "foreign.onnx"))
    before = whole.before("Softmax")
    assert before is not None
    images = sample_pictures(5, 12, 16)
    for answer, numbers in zip(whole.run(images), before.run(images)):
        np.testing.assert_allclose(answer, softmax(numbers), rtol=1e-6)
    inside = Intermediates(model, ["numbers", "result"]).run(images)
    np.testing.assert_allclose(inside["result"], whole.run(images), rtol=1e-6)
    np.testing.assert_array_equal(inside["numbers"], before.run(images))


@pytest.mark.parametrize("opset", [19, 21])
def test_an_opset_stays_whose_types_a_lower_one_does_not_know(
    tmp_path: Path, picture: NDArray[np.uint8], opset: int
) -> None:
    """Check it for float16 scales, which onnx's converter takes over into opsets that have none."""
    source = make_foreign_onnx(tmp_path / "half.onnx", dtype="float16", opset=opset, ir_version=10)
    model = onnx.load(source)
    model.graph.node[0].input[0] = "read"
    model.graph.node.insert(0, onnx.helper.make_node("DequantizeLinear", ["bytes", "step", "zero"], ["read"]))
    model.graph.node.insert(0, onnx.helper.make_node("QuantizeLinear", ["x", "step", "zero"], ["bytes"]))
    constants = {"step": np.array(0.05, np.float16), "zero": np.array(0, np.int8)}
    model.graph.initializer.extend(onnx.numpy_helper.from_array(value, name) for name, value in constants.items())
    onnx.save(model, source)
    result = adopt(source, tmp_path / "a.onnx", **USUAL)
    assert result.opset == opset
    assert any(f"opset {opset} stays" in note for note in result.notes)
    expected = softmax(original(source, usual(picture).astype(np.float16)))
    np.testing.assert_allclose(probabilities(result.path, picture), expected, atol=1e-2)


@pytest.mark.parametrize("inside", [False, True])
def test_names_of_an_artefact_are_free_wherever_the_network_has_them(
    tmp_path: Path, picture: NDArray[np.uint8], inside: bool
) -> None:
    source = make_foreign_onnx(tmp_path / "names.onnx")
    model = onnx.load(source)
    relu = next(index for index, node in enumerate(model.graph.node) if node.op_type == "Relu")
    model.graph.node[relu].output[0] = "network_logits"
    if inside:
        made = onnx.helper.make_tensor_value_info("images", onnx.TensorProto.FLOAT, None)
        node = onnx.helper.make_node("Abs", ["network_logits"], ["images"])
        branches = {f"{name}_branch": onnx.helper.make_graph([node], name, [], [made]) for name in ("then", "else")}
        model.graph.node.insert(relu + 1, onnx.helper.make_node("If", ["yes"], ["bent"], **branches))
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(True), "yes"))
    else:
        model.graph.node.insert(relu + 1, onnx.helper.make_node("Abs", ["network_logits"], ["bent"]))
    onnx.save(model, source)
    result = adopt(source, tmp_path / "a.onnx", **USUAL)
    assert_same_answer(result.path, picture, source, usual(picture))


def test_bgr_in_0_to_255_with_a_letterbox(tmp_path: Path) -> None:
    source = make_foreign_onnx(tmp_path / "caffe.onnx", size=(16, 16))
    mean = [104.0, 117.0, 123.0]
    adopt(
        source,
        tmp_path / "a.onnx",
        labels=LABELS,
        color="bgr",
        scale=1,
        mean=mean,
        std=[58],
        resize="letterbox:16:white",
    )
    picture = np.full((8, 16, 3), (10, 20, 30), np.uint8)
    framed = np.full((16, 16, 3), 255.0)
    framed[4:12] = (10, 20, 30)
    images = ((framed[..., ::-1] - mean) / 58).transpose(2, 0, 1)[None].astype(np.float32)
    assert_same_answer(tmp_path / "a.onnx", picture, source, images)


def test_one_channel_is_the_grey_of_pillow(tmp_path: Path, picture: NDArray[np.uint8]) -> None:
    from PIL import Image

    source = make_foreign_onnx(tmp_path / "digits.onnx", channels=1)
    adopt(source, tmp_path / "a.onnx", labels=LABELS, mean=[0.1307], std=[0.3081], resize="stretch")
    grey = np.asarray(Image.fromarray(resized(picture).astype(np.uint8)).convert("L"), np.float32)
    images = ((grey / 255 - 0.1307) / 0.3081)[None, None].astype(np.float32)
    assert_same_answer(tmp_path / "a.onnx", picture, source, images)


def test_a_network_that_takes_bytes_gets_them_as_they_are(tmp_path: Path, picture: NDArray[np.uint8]) -> None:
    source = make_foreign_onnx(tmp_path / "bytes.onnx", dtype="uint8", layout="nhwc")
    adopt(source, tmp_path / "a.onnx", labels=LABELS, resize="stretch")
    images = resized(picture).astype(np.uint8)[None]
    assert_same_answer(tmp_path / "a.onnx", picture, source, images)


def test_a_network_that_takes_grey_bytes_gets_pillows(tmp_path: Path, picture: NDArray[np.uint8]) -> None:
    from PIL import Image

    source = make_foreign_onnx(tmp_path / "bytes.onnx", dtype="uint8", channels=1)
    adopt(source, tmp_path / "a.onnx", labels=LABELS, resize="stretch")
    images = np.asarray(Image.fromarray(resized(picture).astype(np.uint8)).convert("L"))[None, None]
    assert_same_answer(tmp_path / "a.onnx", picture, source, images)


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize(
    ("form", "flags"),
    [
        ({}, USUAL),
        ({}, {**USUAL, "color": "bgr"}),
        ({"dtype": "float16"}, USUAL),
        ({"dtype": "uint8"}, {"labels": LABELS, "resize": "stretch"}),
        ({"dtype": "uint8", "channels": 1}, {"labels": LABELS, "resize": "stretch"}),
        ({"channels": 1, "batch": 1, "flat_shape": (1, 4)}, {**USUAL, "mean": [0.5], "std": [0.2]}),
    ],
)
def test_an_artefact_of_pixels_gives_the_answers_of_the_one_of_bytes(
    tmp_path: Path, picture: NDArray[np.uint8], layout: str, form: dict[str, Any], flags: dict[str, Any]
) -> None:
    source = make_foreign_onnx(tmp_path / "foreign.onnx", layout=layout, **form)
    of_bytes = adopt(source, tmp_path / "bytes.onnx", **flags)
    of_pixels = adopt(source, tmp_path / "pixels.onnx", input_form="pixels", **flags)
    (images,) = onnx.load(of_pixels.path).graph.input
    assert (images.name, images.type.tensor_type.elem_type) == ("images", onnx.TensorProto.FLOAT)
    assert [dim.dim_value for dim in images.type.tensor_type.shape.dim][1:] == [3, 12, 16]
    assert (of_pixels.card.input.float_values, of_pixels.batch) == ("pixels", None)
    rounding = 1e-3 if form.get("dtype") == "float16" else 1e-5
    np.testing.assert_allclose(
        probabilities(of_pixels.path, picture), probabilities(of_bytes.path, picture), rtol=rounding
    )
    assert prove(of_pixels.path).proven


@pytest.mark.parametrize("in_nodes", [False, True])
def test_float16_stays_float16(tmp_path: Path, in_nodes: bool) -> None:
    """Check it for weights in nodes too, where some exporters write constants."""
    source = make_foreign_onnx(tmp_path / "half.onnx", dtype="float16")
    if in_nodes:
        model = onnx.load(source)
        for tensor in model.graph.initializer:
            model.graph.node.insert(0, onnx.helper.make_node("Constant", [], [tensor.name], value=tensor))
        del model.graph.initializer[:]
        onnx.save(model, source)
    result = adopt(source, tmp_path / "a.onnx", **USUAL)
    assert result.card.precision.name == "fp16"
    assert result.agreement.precision == "fp16"


@pytest.mark.parametrize(("ending", "labels"), [("Sigmoid", LABELS), ("Sigmoid", LABELS[:2]), ("", LABELS[:2])])
def test_sigmoids_stay_probabilities_and_one_number_is_the_second_labels(
    tmp_path: Path, picture: NDArray[np.uint8], ending: str, labels: tuple[str, ...]
) -> None:
    one = len(labels) == 2
    source = make_foreign_onnx(tmp_path / "s.onnx", ending=ending, classes=1 if one else 3)
    result = adopt(source, tmp_path / "a.onnx", **{**USUAL, "labels": labels})
    said = original(source, usual(picture))
    second = said if ending else 1 / (1 + np.exp(-said))
    expected = np.concatenate([1 - second, second]) if one else said
    np.testing.assert_allclose(probabilities(result.path, picture), expected, rtol=1e-4, atol=1e-6)
    assert result.card.output == ("logits" if one else "probabilities")


@pytest.mark.parametrize("classes", [1, 5])
@pytest.mark.parametrize("far", [14.0, -15.0])
def test_probabilities_that_are_all_next_to_0_or_1_are_adopted_made_smaller_and_proven(
    tmp_path: Path, far: float, classes: int
) -> None:
    source = make_foreign_onnx(tmp_path / "s.onnx", ending="Sigmoid", classes=classes)
    with_numbers(source, w2=lambda w: w / 64, b2=lambda b: far + b / 16)
    labels = [f"label {number}" for number in range(classes)]
    result = adopt(source, tmp_path / "a.onnx", **{**USUAL, "labels": labels})
    assert result.ending == "probabilities"
    assert prove(result.path).proven
    assert to_onnx([str(result.path), "--precision", "fp16", "-o", str(tmp_path / "half.onnx")]) == 0
    assert prove(tmp_path / "half.onnx").proven
    with_numbers(result.path, w2=lambda w: w, b2=lambda b: b - np.sign(far) * 8)  # 0.002 next to 0 or 1
    assert not prove(result.path).proven


BEHIND: dict[str, list[tuple[str, list[str], dict[str, Any]]]] = {
    "reshaped to its own shape": [("Shape", ["ended"], {}), ("Reshape", ["ended", "last_0"], {})],
    "one more dimension": [("Unsqueeze", ["ended", "axes"], {})],
    "moved": [("Transpose", ["ended"], {"perm": [0, 1]})],
    "bytes": [("QuantizeLinear", ["ended", "step"], {}), ("DequantizeLinear", ["last_0", "step"], {})],
}


@pytest.mark.parametrize("behind", BEHIND)
@pytest.mark.parametrize(("ending", "classes"), [("Sigmoid", 3), ("Sigmoid", 1), ("Softmax", 200)])
def test_probabilities_are_seen_behind_what_only_passes_them_on(
    tmp_path: Path, picture: NDArray[np.uint8], ending: str, classes: int, behind: str
) -> None:
    source = make_foreign_onnx(tmp_path / "p.onnx", ending=ending, classes=classes)
    model = onnx.load(source)
    del model.graph.node[-1]
    for number, (operator, inputs, options) in enumerate(BEHIND[behind]):
        model.graph.node.append(onnx.helper.make_node(operator, inputs, [f"last_{number}"], **options))
    model.graph.node[-1].output[0] = "result"
    if behind == "one more dimension":
        model.graph.output[0].type.tensor_type.shape.dim.add().dim_value = 1
    constants = {"axes": np.array([2]), "step": np.array(1 / 256, np.float32)}
    model.graph.initializer.extend(onnx.numpy_helper.from_array(value, name) for name, value in constants.items())
    onnx.save(model, source)
    with_numbers(source, w2=lambda w: w / 16)  # small numbers: no probability is next to 1
    labels = [f"label {number}" for number in range(max(2, classes))]
    result = adopt(source, tmp_path / "a.onnx", **{**USUAL, "labels": labels})
    said = original(source, usual(picture))
    expected = {1: np.concatenate([1 - said, said]), 3: said}.get(classes, said / said.sum())
    np.testing.assert_allclose(probabilities(result.path, picture), expected, atol=1e-4)
    assert result.card.output == ("probabilities" if classes == 3 else "logits")


@pytest.mark.parametrize("ending", ["Sigmoid", "Softmax"])
def test_probabilities_that_onnx_runtimes_own_integer_operators_compute_are_seen(
    tmp_path: Path, picture: NDArray[np.uint8], ending: str
) -> None:
    source = make_foreign_onnx(tmp_path / "q.onnx", ending=ending)
    model = onnx.load(source)
    options = {"axis": 1, "opset": 17} if ending == "Softmax" else {}
    scales = ["step", "zero", "share", "zero"]
    last = onnx.helper.make_node(f"QLinear{ending}", ["bytes", *scales], ["q"], domain="com.microsoft", **options)
    del model.graph.node[-2:]
    model.graph.node.append(onnx.helper.make_node("QuantizeLinear", ["numbers", "step", "zero"], ["bytes"]))
    model.graph.node.append(last)
    model.graph.node.append(onnx.helper.make_node("DequantizeLinear", ["q", "share", "zero"], ["result"]))
    constants = {"step": np.array(1 / 8, np.float32), "share": np.array(1 / 256, np.float32), "zero": np.uint8(0)}
    model.graph.initializer.extend(onnx.numpy_helper.from_array(np.array(v), name) for name, v in constants.items())
    model.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    onnx.save(model, source)
    result = adopt(source, tmp_path / "a.onnx", **USUAL)
    assert result.ending == {"Sigmoid": "probabilities", "Softmax": "softmax"}[ending]
    said = original(source, usual(picture))
    expected = said if ending == "Sigmoid" else said / said.sum()
    np.testing.assert_allclose(probabilities(result.path, picture), expected, atol=1e-4)


@pytest.mark.parametrize("ending", ["Sigmoid", ""])
def test_logits_that_look_like_probabilities_are_told(tmp_path: Path, ending: str) -> None:
    source = make_foreign_onnx(tmp_path / "p.onnx", ending=ending)
    model = onnx.load(source)
    model.graph.node[-1].CopyFrom(onnx.helper.make_node("Mul", [model.graph.node[-1].input[0], "one"], ["result"]))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(1, np.float32), "one"))
    onnx.save(model, source)
    result = adopt(source, tmp_path / "a.onnx", **USUAL)
    assert result.ending == "logits"
    assert any("from 0 to 1" in note for note in result.notes) == bool(ending)


@pytest.mark.parametrize(("ending", "classes"), [("Softmax", 3), ("Sigmoid", 3), ("Sigmoid", 1)])
def test_the_last_operator_may_be_in_a_function(
    tmp_path: Path, picture: NDArray[np.uint8], ending: str, classes: int
) -> None:
    source = make_foreign_onnx(tmp_path / "f.onnx", ending=ending, classes=classes)
    model = onnx.load(source)
    body, opset = onnx.helper.make_node(ending, ["a"], ["b"]), onnx.helper.make_opsetid("", 17)
    model.functions.append(onnx.helper.make_function("theirs", "End", ["a"], ["b"], [body], [opset]))
    model.opset_import.append(onnx.helper.make_opsetid("theirs", 1))
    model.graph.node[-2].op_type, model.graph.node[-2].domain = "End", "theirs"
    onnx.save(model, source)
    result = adopt(source, tmp_path / "a.onnx", **{**USUAL, "labels": LABELS[: max(2, classes)]})
    said = original(source, usual(picture))
    expected = said if classes == 3 else np.concatenate([1 - said, said])
    np.testing.assert_allclose(probabilities(result.path, picture), expected, rtol=1e-4, atol=1e-6)


INNER = {
    "a branch that passes an outer value on": """
        largest = ReduceMax<keepdims = 0>(numbers)
        large = Cast<to = 9>(largest)
        last = If(large)<
            then_branch = a () => (float[N, 3] one) { one = Identity(numbers) },
            else_branch = b () => (float[N, 3] other) { other = Relu(numbers) }
        >""",
    "a scan with one value as two outputs": """
        turns = Constant<value_floats = [0.5, 2.0, 0.5]>()
        last, every = Scan<
            num_scan_inputs = 1,
            body = c (float[N, 3] s, float turn) => (float[N, 3] next, float[N, 3] same) {
                next = Mul(s, turn)
                same = Identity(next)
            }
        >(numbers, turns)""",
}


@pytest.mark.parametrize("inner", INNER)
def test_identities_in_branches_and_scans_stay(tmp_path: Path, inner: str) -> None:
    model = onnx.load(make_foreign_onnx(tmp_path / "s.onnx"))
    parsed = onnx.parser.parse_graph(f"g (float[N, 3] numbers) => (float[N, 3] last) {{ {INNER[inner]} }}")
    result = model.graph.node.pop()
    result.input[0] = "last"
    model.graph.node.extend([*parsed.node, result])
    onnx.save(model, tmp_path / "s.onnx")
    assert adopt(tmp_path / "s.onnx", tmp_path / "a.onnx", **USUAL).batch is None


def test_one_label_is_one_probability_and_never_one_logit(tmp_path: Path, picture: NDArray[np.uint8]) -> None:
    one = {**USUAL, "labels": LABELS[:1]}
    sigmoid = make_foreign_onnx(tmp_path / "sigmoid.onnx", ending="Sigmoid", classes=1)
    model = onnx.load(sigmoid)
    weights = next(tensor for tensor in model.graph.initializer if len(tensor.dims) == 2)
    weights.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weights) / 8, weights.name))
    onnx.save(model, sigmoid)  # its numbers were too large: probabilities next to 1 are all alike
    with Classifier.from_file(adopt(sigmoid, tmp_path / "a.onnx", **one).path) as classifier:
        probability = classifier.predict(picture).answers[0].probability
    assert 0 < probability < 1
    logit = make_foreign_onnx(tmp_path / "logit.onnx", classes=1)
    with pytest.raises(UsageError, match="two labels"):
        adopt(logit, tmp_path / "b.onnx", **one)
    assert not (tmp_path / "b.onnx").exists()


@pytest.mark.parametrize(("batch", "shape"), [(2, (2, 4)), (5, (5, 2, 2))])
def test_a_batch_that_cannot_be_changed_stays_and_any_number_is_answered(
    tmp_path: Path, picture: NDArray[np.uint8], batch: int, shape: tuple[int, ...]
) -> None:
    source = make_foreign_onnx(tmp_path / "fixed.onnx", batch=batch, flat_shape=(batch, 4))
    model = onnx.load(source)
    if len(shape) == 3:  # nothing that the pass knows: a Tile to the batch and back
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros((batch, 1), np.float32), "zeros"))
        gemm = next(node for node in model.graph.node if node.op_type == "Gemm")
        gemm.output[0] = "before"
        model.graph.node.insert(5, onnx.helper.make_node("Add", ["before", "zeros"], ["numbers"]))
        onnx.save(model, source)
    result = adopt(source, tmp_path / "a.onnx", **USUAL)
    assert result.batch == (None if len(shape) == 2 else batch)
    with Classifier.from_file(result.path) as classifier:
        assert len(classifier.predict([picture] * 7)) == 7
        pixels = sample_pictures(7, 12, 16)
        answers = classifier.logits(pixels)
    judged = Intermediates(onnx.load(result.path)).logits(pixels)  # what a conversion to fp16 or int8 is judged by
    np.testing.assert_allclose(judged, answers, rtol=1e-4, atol=1e-4)


def test_a_single_number_in_a_graph_of_one_batch_size_is_read_like_any_tensor(tmp_path: Path) -> None:
    source = make_foreign_onnx(tmp_path / "fixed.onnx", batch=2, flat_shape=(2, 4))
    model = onnx.load(source)
    gemm = next(index for index, node in enumerate(model.graph.node) if node.op_type == "Gemm")
    model.graph.node[gemm].output[0] = "before"
    model.graph.node.insert(gemm + 1, onnx.helper.make_node("ReduceMax", ["w2"], ["largest"], keepdims=0))
    model.graph.node.insert(gemm + 2, onnx.helper.make_node("Div", ["before", "largest"], ["scaled"]))
    model.graph.node.insert(gemm + 3, onnx.helper.make_node("Add", ["scaled", "zeros"], ["numbers"]))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros((2, 1), np.float32), "zeros"))
    onnx.save(model, source)
    result = adopt(source, tmp_path / "a.onnx", **USUAL)
    assert result.batch == 2
    inside = Intermediates(onnx.load(result.path), ["largest", "scaled"])
    assert inside.run(sample_pictures(1, 12, 16))["largest"].shape == ()
    several = inside.run(sample_pictures(7, 12, 16))
    assert (several["largest"].shape, several["scaled"].shape) == ((4,), (7, 3))
    assert to_onnx([str(result.path), "--precision", "fp16"]) == 0  # looks for overflow in every tensor


def test_external_weights_are_read_next_to_the_file_and_not_from_the_working_directory(
    tmp_path: Path, picture: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seed in (("theirs", 1), ("here", 2)):
        (tmp_path / name).mkdir()
        make_foreign_onnx(tmp_path / name / "model.onnx", seed=seed, outside=True)
    monkeypatch.chdir(tmp_path / "here")
    first = adopt("../theirs/model.onnx", "adopted.onnx", **USUAL)
    assert_same_answer(first.path, picture, tmp_path / "theirs" / "model.onnx", usual(picture))
    # The same graph with other weights is another source.
    assert first.card.source_sha256 != adopt("model.onnx", "other.onnx", **USUAL).card.source_sha256


def test_weights_that_are_missing_or_cut_are_told_as_that(tmp_path: Path) -> None:
    source = make_foreign_onnx(tmp_path / "model.onnx", outside=True)
    weights = tmp_path / "model.onnx.data"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-4])
    with pytest.raises(ArtefactError, match="weights"):
        adopt(source, tmp_path / "a.onnx", **USUAL)
    weights.unlink()
    for read in (Classifier.from_file, lambda path: adopt(path, tmp_path / "a.onnx", **USUAL)):
        with pytest.raises(ArtefactError, match=weights.name):
            read(source)
    weights.write_bytes(whole)
    adopt(source, tmp_path / "a.onnx", **USUAL)


def test_an_adopted_file_is_converted_to_float16_and_to_nothing_without_a_precision(
    tmp_path: Path, picture: NDArray[np.uint8]
) -> None:
    source = make_foreign_onnx(tmp_path / "model.onnx")
    adopted = adopt(source, tmp_path / "adopted.onnx", **USUAL).path
    assert to_onnx([str(adopted), "--precision", "fp16"]) == 0
    half = tmp_path / "adopted.fp16.onnx"
    with Classifier.from_file(half) as classifier:
        assert classifier.card.precision.name == "fp16"
    np.testing.assert_allclose(probabilities(half, picture), probabilities(adopted, picture), atol=1e-2)
    for wrong in (
        [str(adopted)],
        [str(half), "--precision", "fp16"],
        [str(adopted), "--precision=fp16", "--nish=decomposed"],
    ):
        assert to_onnx([*wrong, "-o", str(tmp_path / "wrong.onnx")]) == 2
    assert not (tmp_path / "wrong.onnx").exists()


def test_ultralytics_metadata_is_a_contract(tmp_path: Path) -> None:
    names = "{0: 'cat', 1: 'dog', 2: 'hedgehog'}"
    said = {"names": names, "imgsz": "[16, 16]", "task": "classify"}
    source = make_foreign_onnx(tmp_path / "yolo.onnx", size=("height", "width"), ending="Softmax", metadata=said)
    card = adopt(source, tmp_path / "a.onnx").card
    assert card.labels == LABELS
    assert (card.input.height, card.input.resize, card.input.mean, card.input.std) == (
        16,
        "shorter_side",
        (0,) * 3,
        (1,) * 3,
    )


def test_metadata_without_a_task_has_labels_and_no_numbers(tmp_path: Path) -> None:
    """YOLOv5's classifiers, which name no task, see ImageNet's mean and std; others write names of any kind."""
    names = {"names": "{0: 'cat', 1: 'dog', 2: 'hedgehog'}", "stride": "32"}
    source = make_foreign_onnx(tmp_path / "yolov5.onnx", metadata=names)
    with pytest.raises(UsageError, match="--resize, --mean, --std"):
        adopt(source, tmp_path / "a.onnx")
    result = adopt(source, tmp_path / "a.onnx", **{**USUAL, "labels": None})
    assert result.card.labels == LABELS
    assert result.source == "your flags"
    other = make_foreign_onnx(tmp_path / "other.onnx", metadata={"names": "cats and dogs"})
    with pytest.raises(UsageError, match="--mean"):
        adopt(other, tmp_path / "b.onnx", labels=LABELS)


def test_a_hugging_face_processor_is_a_contract(tmp_path: Path) -> None:
    processor = {
        "do_resize": True, "size": {"shortest_edge": 18}, "resample": 3, "do_center_crop": True,
        "rescale_factor": 1 / 255, "crop_size": {"height": 12, "width": 16}, "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.25, 0.25, 0.25],
    }  # fmt: skip
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor))
    (tmp_path / "config.json").write_text(json.dumps({"id2label": {"1": "dog", "0": "cat", "2": "hedgehog"}}))
    source = make_foreign_onnx(tmp_path / "hf.onnx")
    card = adopt(source, tmp_path / "a.onnx", like=str(tmp_path / "preprocessor_config.json")).card
    assert card.labels == LABELS
    (tmp_path / "COPY.JSON").write_text(json.dumps(processor))
    copied = adopt(source, tmp_path / "b.onnx", like=str(tmp_path / "COPY.JSON"), labels=list(LABELS)).card
    assert copied.input == card.input
    assert (card.input.resize_size, card.input.interpolation, card.input.std) == (18, "bicubic_antialias", (0.25,) * 3)


IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
PROCESSORS: dict[str, tuple[dict[str, Any], str, int, tuple[int, int]]] = {
    "ConvNextImageProcessor": ({"size": {"shortest_edge": 224}, "crop_pct": None}, "shorter_side", 256, (224, 224)),
    "ConvNextFeatureExtractor": ({"size": 384, "crop_pct": 0.875}, "stretch", 384, (384, 384)),
    "PoolFormerFeatureExtractor": (
        {"size": 224, "crop_pct": 0.9, "do_resize_and_center_crop": True},
        "shorter_side", 248, (224, 224),
    ),
    "LevitFeatureExtractor": ({"size": 224, "do_center_crop": True}, "shorter_side", 256, (224, 224)),
    "DeiTFeatureExtractor": ({"size": 256, "do_center_crop": True, "crop_size": 224}, "stretch", 256, (224, 224)),
    "CLIPFeatureExtractor": ({"size": 256, "do_center_crop": True, "crop_size": 224}, "shorter_side", 256, (224, 224)),
}  # fmt: skip


@pytest.mark.parametrize("kind", PROCESSORS)
def test_each_hugging_face_processor_has_its_own_rule_of_sizes(tmp_path: Path, kind: str) -> None:
    said, rule, size, final = PROCESSORS[kind]
    name = "image_processor_type" if kind.endswith("ImageProcessor") else "feature_extractor_type"
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({name: kind, **IMAGENET, **said}))
    found = preprocessing_like(str(tmp_path))
    assert found.resize is not None
    assert (found.resize.rule, found.resize.size, found.usual_size) == (rule, size, final)


def test_the_working_directory_is_not_the_folder_of_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({**IMAGENET, "size": 224}))
    monkeypatch.chdir(tmp_path)
    assert preprocessing_like(".").mean == (0.485, 0.456, 0.406)
    for text in ("", "x" * 5000):
        with pytest.raises(UsageError, match="--like"):
            preprocessing_like(text)


def test_hugging_face_steps_are_taken_over_or_refused(tmp_path: Path) -> None:
    file = tmp_path / "preprocessor_config.json"
    mobilevit = {"do_flip_channel_order": True, "do_center_crop": True, "crop_size": 256, "size": 288}
    file.write_text(json.dumps(mobilevit))
    found = preprocessing_like(str(tmp_path))
    assert (found.colour, found.mean, found.std) == ("BGR", (0.0,), (1.0,))
    file.write_text(json.dumps({**IMAGENET, "size": 224, "do_resize": False}))
    assert preprocessing_like(str(tmp_path)).resize is None
    for step in ("do_pad", "do_grayscale"):
        file.write_text(json.dumps({**IMAGENET, "size": 224, step: True}))
        with pytest.raises(UsageError, match=step):
            preprocessing_like(str(tmp_path))


def test_the_processor_of_efficientnet_divides_twice_takes_the_nearest_pixel_and_may_subtract_one(
    tmp_path: Path,
) -> None:
    said = {"image_processor_type": "EfficientNetImageProcessor", "size": {"height": 224, "width": 224}, **IMAGENET}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({**said, "rescale_offset": True}))
    found = preprocessing_like(str(tmp_path))
    assert found.interpolation == "nearest"
    assert found.mean == pytest.approx((1.485, 1.456, 1.406))
    assert found.std == pytest.approx((0.229**2, 0.224**2, 0.225**2))
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({**said, "include_top": False}))
    assert preprocessing_like(str(tmp_path)).std == (0.229, 0.224, 0.225)


@pytest.mark.parametrize(
    "wrong",
    [
        {"image_mean": 0.5}, {"image_std": ["a", "b", "c"]}, {"rescale_factor": None}, {"resample": [2]}, {"size": 0},
        {"size": {"height": 0, "width": 0}}, {"image_processor_type": "ConvNextImageProcessor", "crop_pct": "most"},
    ],
)  # fmt: skip
def test_a_processor_with_a_wrong_value_is_wrong_input(tmp_path: Path, wrong: dict[str, Any]) -> None:
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({**IMAGENET, "size": 224, **wrong}))
    with pytest.raises(UsageError, match=r"preprocessor_config\.json"):
        preprocessing_like(str(tmp_path))


def test_a_processor_without_mean_and_std_leaves_them_to_the_flags(tmp_path: Path) -> None:
    said = {"size": 16, "do_normalize": True, "image_mean": None, "image_std": None}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(said))
    source = make_foreign_onnx(tmp_path / "a.onnx")
    with pytest.raises(UsageError, match="--mean, --std"):
        adopt(source, tmp_path / "b.onnx", like=str(tmp_path), labels=LABELS)
    result = adopt(source, tmp_path / "b.onnx", like=str(tmp_path), labels=LABELS, mean=[0.5], std=[0.25])
    assert result.card.input.mean == (0.5,) * 3
    assert all(source in result.source for source in ("preprocessor_config.json", "your flags"))


def test_a_config_of_timm_is_a_contract(tmp_path: Path) -> None:
    config = {
        "input_size": [3, 12, 16], "interpolation": "bicubic", "crop_pct": 0.75, "crop_mode": "center",
        "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25], "num_classes": 3,
    }  # fmt: skip
    said = {"architecture": "resnet18", "num_classes": 3, "label_names": LABELS, "pretrained_cfg": config}
    (tmp_path / "config.json").write_text(json.dumps(said))
    card = adopt(make_foreign_onnx(tmp_path / "hub.onnx"), tmp_path / "a.onnx", like=str(tmp_path)).card
    assert card.labels == LABELS
    assert (card.input.resize_size, card.input.interpolation, card.input.std) == (16, "bicubic_antialias", (0.25,) * 3)
    for wrong in ({"mean": "grey"}, {"input_size": 224}, {"crop_pct": "most"}):
        (tmp_path / "config.json").write_text(json.dumps({**said, "pretrained_cfg": {**config, **wrong}}))
        with pytest.raises(TaijituError, match="json"):
            preprocessing_like(str(tmp_path))


def test_a_network_of_bytes_takes_sizes_of_like_and_no_normalisation() -> None:
    signature = Signature("x", "y", np.dtype(np.uint8), "nhwc", 3, 224, 224, None)
    spec = preprocessing_like("torchvision/resnet18").spec(signature)
    assert (spec.resize_size, spec.scale, spec.mean, spec.std) == (256, 1.0, (0.0,) * 3, (1.0,) * 3)
    flags = Preprocessing(mean=(0.5,), std=(1.0,), resize=Resize("stretch"))
    for asked in (flags, flags.over(preprocessing_like("torchvision/resnet18"))):
        with pytest.raises(UsageError, match="--mean"):
            asked.spec(signature)


def test_the_report_names_the_crop_of_a_stretched_picture(tmp_path: Path) -> None:
    source = make_foreign_onnx(tmp_path / "a.onnx")
    result = adopt(source, tmp_path / "b.onnx", labels=LABELS, mean=[0.5], std=[0.5], resize="stretch:24")
    assert "24, centre 12x16" in result.report()[1]


def test_timm_and_torchvision_say_how_their_networks_see() -> None:
    signature = Signature("x", "y", np.dtype(np.float32), "nchw", 3, 224, 224, None)
    timm, torchvision = preprocessing_like("timm/resnet18.a1_in1k"), preprocessing_like("torchvision/resnet18")
    spec = timm.spec(signature)
    assert (spec.resize, spec.resize_size, spec.interpolation) == ("shorter_side", 235, "bicubic_antialias")
    assert len(set(timm.labels or ())) == 1000
    half = dataclasses.replace(signature, height=112, width=112)
    spec = Preprocessing(mean=(0.5,)).over(torchvision).spec(half)
    assert (spec.resize_size, spec.interpolation, spec.mean) == (128, "bilinear_antialias", (0.5,) * 3)


SIZED = {"names": "{0: 'cat', 1: 'dog', 2: 'hedgehog'}", "imgsz": "[16, 16]", "task": "classify"}
BAD: dict[str, tuple[dict[str, Any], dict[str, Any], type[TaijituError]]] = {
    "no labels": ({}, {"labels": None}, UsageError),
    "too few labels": ({}, {"labels": LABELS[:2]}, UsageError),
    "a label twice": ({}, {"labels": ("cat", "dog", "cat")}, UsageError),
    "a label with a control character": ({}, {"labels": ("cat", "d\x1bog", "x")}, UsageError),
    "a label with a lone surrogate": ({}, {"labels": ("cat", "d\udc80og", "x")}, UsageError),
    "an empty label": ({}, {"labels": ("cat", "", "x")}, UsageError),
    "a name with a slash": ({}, {"name": "a/b"}, UsageError),
    "no mean": ({}, {"mean": None}, UsageError),
    "two means": ({}, {"mean": [0.1, 0.2]}, UsageError),
    "a mean for other pixels": ({}, {"mean": [123.7]}, UsageError),
    "an unknown resize": ({}, {"resize": "shorter:256:white"}, UsageError),
    "a resize of no pixels": ({}, {"resize": "letterbox:x"}, UsageError),
    "an unknown colour": ({}, {"resize": "letterbox:16:mauve"}, UsageError),
    "a letterbox of no pixels": ({}, {"resize": "letterbox:0"}, UsageError),
    "a crop of no pixels": ({"size": ("h", "w"), "metadata": SIZED}, {"crop": 0}, UsageError),
    "another size than the file's": ({}, {"size": (224, 224)}, UsageError),
    "an unknown interpolation": ({}, {"interpolation": "lanczos"}, UsageError),
    "an unknown teacher": ({}, {"like": "timm/resnet19"}, UsageError),
    "an open size": ({"size": ("h", "w")}, {}, UsageError),
    "grey for three channels": ({}, {"color": "grey"}, UsageError),
    "a second output": ({"second_output": True}, {}, ArtefactError),
    "a detector by its own word": ({"metadata": {"names": "{0: 'a'}", "task": "detect"}}, {}, UsageError),
    "IR 99": ({"ir_version": 99}, {}, ArtefactError),
    "random answers": ({"noise": True}, {}, ExportError),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_adopted_is_refused_in_one_line_and_nothing_is_written(tmp_path: Path, case: str) -> None:
    form, options, error = BAD[case]
    source = make_foreign_onnx(tmp_path / "foreign.onnx", **form)
    (tmp_path / "a.onnx").write_bytes(b"before")
    with pytest.raises(error) as caught:
        adopt(source, tmp_path / "a.onnx", **{**USUAL, **options})
    assert "\n" not in str(caught.value)
    assert (tmp_path / "a.onnx").read_bytes() == b"before"


def test_a_network_of_other_numbers_is_told_which_ones_an_artefact_takes(tmp_path: Path) -> None:
    source = make_foreign_onnx(tmp_path / "foreign.onnx")
    model = onnx.load(source)
    taken = model.graph.input[0]
    for node in model.graph.node:
        node.input[:] = ["single" if name == taken.name else name for name in node.input]
    model.graph.node.insert(0, onnx.helper.make_node("Cast", [taken.name], ["single"], to=onnx.TensorProto.FLOAT))
    taken.type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
    onnx.save(model, source)
    with pytest.raises(ArtefactError, match=r"tensor\(double\).*float32, float16 or uint8"):
        adopt(source, tmp_path / "a.onnx", **USUAL)


@pytest.mark.parametrize("layout", [None, "nchw", "nhwc"])
def test_four_channels_are_no_pictures_in_any_layout(tmp_path: Path, layout: str | None) -> None:
    source = make_foreign_onnx(tmp_path / "foreign.onnx", channels=4)
    with pytest.raises(ArtefactError, match=r"4, 12, 16.*C 3 or 1"):
        adopt(source, tmp_path / "a.onnx", **USUAL, layout=layout)


@pytest.mark.parametrize("outputs", ["boxes", "sequence"])
def test_a_detector_and_a_sequence_model_are_named(tmp_path: Path, outputs: str) -> None:
    source = make_foreign_onnx(tmp_path / "foreign.onnx")
    model = onnx.load(source)
    model.graph.node.append(
        onnx.helper.make_node("SequenceConstruct", ["result"], ["last"])
        if outputs == "sequence"
        else onnx.helper.make_node("Conv", ["bent", "w3"], ["last"])
    )
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros((3, 4, 1, 1), np.float32), "w3"))
    made = onnx.helper.make_tensor_value_info("last", onnx.TensorProto.FLOAT, ["N", 3, 12, 16])
    if outputs == "sequence":
        made = onnx.helper.make_tensor_sequence_value_info("last", onnx.TensorProto.FLOAT, None)
    del model.graph.output[:]
    model.graph.output.append(made)
    onnx.save(model, source)
    with pytest.raises(ArtefactError, match="N x K"):
        adopt(source, tmp_path / "a.onnx", **USUAL)


def test_the_command_says_what_it_did_and_ends_with_its_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = make_foreign_onnx(tmp_path / "foreign.onnx", layout="nhwc")
    (tmp_path / "labels.txt").write_text("cat\r\ndog\r\nhedgehog\r\n", encoding="utf-8-sig")
    usual = ["--labels", str(tmp_path / "labels.txt"), "--mean", "0.5", "--std", "0.5", "--scale", "1/255"]
    arguments = [str(source), "-o", str(tmp_path / "a.onnx"), *usual, "--resize", "stretch", "--size", "12x16"]
    assert main([*arguments, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert ModelCard.from_dict(said["card"]).labels == LABELS
    assert said["opset"] == 17
    assert main(arguments[:-2]) == 0
    assert "stretched to 12x16" in capsys.readouterr().out
    assert main([str(source), "-o", str(tmp_path / "b.onnx")]) == 2
    noisy = make_foreign_onnx(tmp_path / "noisy.onnx", noise=True)
    assert main([str(noisy), *arguments[1:]]) == 1
    assert main([str(tmp_path / "a.onnx"), "-o", str(tmp_path / "c.onnx"), *usual]) == 2  # adopted already


@pytest.mark.parametrize(
    "form",
    [{"flat_shape": (-1, 7)}, {"batch": 2**31 - 1}, {"opset": 5, "ir_version": 3}, {"opset": 1, "ir_version": 3}],
)
def test_a_file_that_cannot_run_is_one_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], form: dict[str, Any]
) -> None:
    path = make_foreign_onnx(tmp_path / "foreign.onnx", **form)
    (tmp_path / "labels").write_text("\n".join(LABELS))
    flags = ["--labels", str(tmp_path / "labels"), "--mean", "0", "--std", "1", "--resize", "stretch"]
    assert main([str(path), "-o", str(tmp_path / "own.onnx"), *flags]) in (1, 2)
    said = capfd.readouterr().err
    assert said.count("\n") == 1
    assert "foreign.onnx" in said or f"opset {form['opset']}" in said
