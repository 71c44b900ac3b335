"""Class-activation maps: by hand on the colour model, over what the picture shows, and who has none."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

from taijitu_runtime.card import ModelCard
from taijitu_runtime.classifier import Classifier
from taijitu_runtime.classify import cli
from taijitu_runtime.errors import ArtefactError, ExplanationError, InputError, UsageError
from taijitu_runtime.explain.heat_map import draw_heat_map
from tests.helpers.fragile_model import make_fragile_onnx
from tests.helpers.tiny_model import card_dict, make_tiny_onnx, plain

MEAN, STD = np.array([0.5, 0.4, 0.3]), np.array([0.25, 0.2, 0.3])
Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a picture that is red on the left and blue on the right, 40 x 20."""
    pixels = plain((255, 0, 0), 20, 40)
    pixels[:, 20:] = (0, 0, 255)
    path = tmp_path_factory.mktemp("half") / "half.png"
    Image.fromarray(pixels).save(path)
    return path


@pytest.mark.parametrize("options", [{}, {"layout": "float32"}, {"batch": 1}, {"batch": 4}])
def test_a_map_is_what_each_place_adds_to_the_logit(make_onnx: Callable[..., Path], options: dict[str, object]) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    with Classifier.from_file(make_onnx(**options)) as classifier:
        explanation = classifier.explain(picture)
        predicted = classifier.predict(picture)
    by_hand = ((picture / 255 - MEAN) / STD - np.arange(3) / 100).transpose(2, 0, 1)
    order = [answer.index for answer in explanation.prediction.answers]
    np.testing.assert_allclose(explanation.maps, by_hand[order], atol=1e-5)
    np.testing.assert_allclose(explanation.maps.mean(axis=(1, 2)), explanation.prediction.logits[order], atol=1e-5)
    assert order == [answer.index for answer in predicted.answers]
    assert explanation.region == (0, 0, 1, 1)


@pytest.mark.parametrize(
    ("resize", "size", "expected"),
    [
        ({"resize": "shorter_side", "resize_size": 8}, (30, 20), (2 / 12, 0, 10 / 12, 1)),
        ({"resize": "shorter_side", "resize_size": 16}, (20, 20), (0.25, 0.25, 0.75, 0.75)),
        ({"resize": "stretch", "resize_size": 8}, (30, 20), (0, 0, 1, 1)),
        ({"resize": "letterbox", "resize_size": 8}, (40, 20), (0, -0.5, 1, 1.5)),
    ],
)
def test_the_region_is_what_the_network_sees(
    make_onnx: Callable[..., Path], resize: dict[str, object], size: tuple[int, int],
    expected: tuple[float, float, float, float],
) -> None:  # fmt: skip
    card = card_dict()
    card["input"] |= resize
    with Classifier.from_file(make_onnx(card=card)) as classifier:
        explanation = classifier.explain(plain((9, 9, 9), *size[::-1]))
    np.testing.assert_allclose(explanation.region, expected)


HEADS = {
    "a 1 x 1 convolution, an activation, a layer": """
        hidden = Conv<kernel_shape = [1, 1]>(pooled, w1, b1)
        bent = HardSwish(hidden)
        flat = Flatten(bent)
        logits = Gemm<transB = 1>(flat, w2, b2)""",
    "a product, a bias, an activation of several operators, a product": """
        flat = Squeeze(pooled, axes)
        product = MatMul(flat, w3)
        hidden = Add(b1, product)
        gate = Sigmoid(hidden)
        bent = Mul(hidden, gate)
        logits = MatMul(bent, w3)""",
    "no layer": """
        logits = Flatten(pooled)""",
}


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
def test_heads_of_many_forms_add_up_to_the_logits(tmp_path: Path, head: str) -> None:
    graph = f"""
    <ir_version: 8, opset_import: ["" : 17]>
    heads (float[N, 3, 8, 8] images) => (float[N, 3] logits) <int64[2] axes = {{2, 3}}, float[3, 3, 1, 1] w1 = {{
        0.5, -1.0, 2.0, 1.5, 0.25, -0.5, 0.0, 3.0, 1.0}}, float[3] b1 = {{0.1, -0.2, 0.3}},
        float[3, 3] w2 = {{1.0, -2.0, 0.5, 0.0, 1.0, 1.0, 0.5, 0.5, -1.0}}, float[3] b2 = {{0.0, 1.0, -1.0}},
        float[3, 3] w3 = {{1.0, -2.0, 0.5, 0.0, 1.0, 1.0, 0.5, 0.5, -1.0}}>
    {{
        features = Relu(images)
        pooled = GlobalAveragePool(features)
        {head}
    }}"""
    model = onnx.parser.parse_model(graph)
    onnx.helper.set_model_props(model, ModelCard.from_dict(card_dict()).to_metadata())
    onnx.save(model, tmp_path / "model.onnx")
    rows = np.random.default_rng(0).normal(size=(2, 3, 8, 8)).astype(np.float32)
    with Classifier.from_file(tmp_path / "model.onnx") as classifier:
        logits, maps = classifier.class_maps()(rows)
        np.testing.assert_array_equal(logits, classifier.infer(rows))
    assert maps.shape == (2, 3, 8, 8)
    np.testing.assert_allclose(maps.mean(axis=(2, 3)), logits, atol=1e-5)


@pytest.mark.parametrize("ending", ["Sigmoid", "Softmax", "LogSoftmax"])
def test_maps_of_a_file_that_gives_probabilities_add_up_to_the_logits_before_them(tmp_path: Path, ending: str) -> None:
    graph = f"""
    <ir_version: 8, opset_import: ["" : 17]>
    heads (float[N, 3, 8, 8] images) => (float[N, 3] logits) {{
        pooled = GlobalAveragePool(images)
        flat = Flatten(pooled)
        made = {ending}(flat)
        logits = Identity(made)
    }}"""
    model = onnx.parser.parse_model(graph)
    output = "logits" if ending == "LogSoftmax" else "probabilities"
    onnx.helper.set_model_props(model, ModelCard.from_dict(card_dict(output=output)).to_metadata())
    onnx.save(model, tmp_path / "model.onnx")
    picture = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    with Classifier.from_file(tmp_path / "model.onnx") as classifier:
        explanation, predicted = classifier.explain(picture), classifier.predict(picture)
    assert explanation.prediction == predicted
    order = [answer.index for answer in predicted.answers]
    np.testing.assert_allclose(explanation.maps, ((picture / 255 - MEAN) / STD).transpose(2, 0, 1)[order], atol=1e-5)


def test_a_heat_map_colours_what_speaks_for_the_label_and_darkens_what_is_not_seen(tiny_onnx: Path, half: Path) -> None:
    with Classifier.from_file(tiny_onnx) as classifier:
        explanation = classifier.explain(half)
        blue = [answer.label for answer in explanation.prediction.answers].index("blue")
        drawn = explanation.draw(half, blue).astype(int)
    assert drawn.shape == (128, 256, 3)
    colourful = np.ptp(drawn, axis=2)
    assert colourful[:, 150:190].min() > 100
    assert colourful[:, :100].max() == 0
    assert drawn[:, :60].max() < drawn[:, 70:100].min()  # the network sees the middle square


def test_what_was_not_explained_is_not_drawn(tiny_onnx: Path, half: Path) -> None:
    with Classifier.from_file(tiny_onnx) as classifier:
        explanation = classifier.explain(half, 2)
    wrong_answers: list[Any] = [2, -1, 0.5, "red", None, True]
    for answer in wrong_answers:
        with pytest.raises(UsageError, match=str(answer)):
            explanation.draw(half, answer)
    pixels = plain((255, 0, 0), 20, 40)
    for wrong in (pixels / 255, pixels[..., 0], pixels[:0], np.array(3, np.uint8)):
        with pytest.raises(InputError):
            explanation.draw(wrong)


def test_a_flat_map_and_pictures_of_any_size_are_drawn() -> None:
    flat = np.ones((2, 2), np.float32)
    grey = draw_heat_map(plain((9, 9, 9), 1, 3000), flat, (0.4998, 0, 0.5002, 1))
    assert grey.shape == (1, 1024, 3)
    assert draw_heat_map(plain((9, 9, 9), 2000, 1000), flat, (0, -1, 1, 2)).shape == (1024, 512, 3)


def test_a_file_that_was_replaced_gives_no_maps_of_another_network(tmp_path: Path) -> None:
    with Classifier.from_file(make_tiny_onnx(tmp_path / "model.onnx")) as classifier:
        os.replace(make_tiny_onnx(tmp_path / "new.onnx", scale=-1), tmp_path / "model.onnx")  # noqa: PTH105
        with pytest.raises(ArtefactError, match="another file"):
            classifier.explain(plain((255, 0, 0)))


def run(*arguments: object) -> int:
    return cli.main([str(argument) for argument in arguments])


def test_classify_writes_a_heat_map_of_each_picture_below_the_folder(
    tiny_onnx: Path, pictures: Path, tmp_path: Path, capsys: Capture
) -> None:
    (tmp_path / "cut.png").write_bytes((pictures / "red.png").read_bytes()[:60])
    out = tmp_path / "heat"
    assert run(tiny_onnx, pictures, tmp_path / "cut.png", "--explain", out, "--json") == 1
    results = json.loads(capsys.readouterr().out)["results"]
    names = ["deep/blue.jpg.png", "deep/er/green.PNG.png", "red.png.png"]
    assert [result["heat_map"] for result in results] == [str(out / name) for name in names]
    assert sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()) == names
    with Image.open(out / "red.png.png") as drawn:
        assert drawn.size == (256, 171)
    assert [result["answers"][0]["label"] for result in results] == ["blue", "green", "red"]


def test_nothing_is_overwritten_by_a_heat_map(tiny_onnx: Path, pictures: Path, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "red.png.png").write_text("somebody's")
    assert run(tiny_onnx, pictures / "deep", pictures / "red.png", "--explain", tmp_path) == 2
    assert str(tmp_path / "red.png.png") in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["red.png.png"]
    assert run(tiny_onnx, pictures / "red.png", pictures / "red.png", "--explain", tmp_path / "new") == 2
    assert not (tmp_path / "new").exists()
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    for folder in (tmp_path / "red.png.png", tmp_path / "red.png.png" / "deeper", tmp_path / "link"):
        capsys.readouterr()
        assert run(tiny_onnx, pictures / "red.png", "--explain", folder) == 2
        assert "--explain" in capsys.readouterr().err


def test_heat_maps_that_the_next_run_would_classify_are_refused(
    tiny_onnx: Path, pictures: Path, capsys: Capture
) -> None:
    before = sorted(pictures.rglob("*"))
    for folder in (pictures, pictures / "heat", pictures / "deep" / ".." / "heat"):
        assert run(tiny_onnx, pictures, "--explain", folder) == 2
        assert str(folder) in capsys.readouterr().err
    assert sorted(pictures.rglob("*")) == before


def test_a_network_without_maps_is_told_before_a_picture_is_read(tmp_path: Path, capsys: Capture) -> None:
    model = make_fragile_onnx(tmp_path / "model.onnx")
    assert run(model, tmp_path / "gone.png", "--explain", tmp_path / "heat") == 2
    printed = capsys.readouterr()
    assert (printed.out, len(printed.err.splitlines())) == ("", 1)
    assert str(model) in printed.err
    with Classifier.from_file(model) as classifier, pytest.raises(ExplanationError, match="Add"):
        classifier.explain(plain((9, 9, 9)))


def test_a_network_whose_logits_are_not_finite_is_told_in_one_line(tmp_path: Path) -> None:
    model = make_tiny_onnx(tmp_path / "model.onnx", scale=float("nan"))
    with Classifier.from_file(model) as classifier, pytest.raises(ExplanationError, match="NaN"):
        classifier.explain(plain((9, 9, 9)))
