"""Classifier: every kind of picture in, labels out."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from taijitu_runtime.answers import Answer, Prediction
from taijitu_runtime.classifier import Classifier
from taijitu_runtime.errors import ArtefactError, InputError, PictureError, UsageError
from tests.helpers.image_file import image_file
from tests.helpers.tiny_model import make_tiny_onnx

Maker = Callable[..., Path]
RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def solid(colour: tuple[int, int, int], height: int = 20, width: int = 30) -> Any:
    return np.full((height, width, 3), colour, np.uint8)


def png(colour: tuple[int, int, int]) -> bytes:
    return image_file(Image.fromarray(solid(colour)))


@pytest.mark.parametrize("one", ["red.png", png(RED), Path("red.png"), Image.new("RGB", (8, 8)), 3])
def test_one_picture_in_place_of_several_is_refused_and_not_read_letter_by_letter(tiny_onnx: Path, one: Any) -> None:
    with Classifier.from_file(tiny_onnx) as classifier, pytest.raises(InputError):
        classifier.predict_each(one)


def test_a_model_that_answers_with_nan_is_named(tmp_path: Path) -> None:
    broken = make_tiny_onnx(tmp_path / "broken.onnx", scale=float("nan"))
    with Classifier.from_file(broken) as classifier, pytest.raises(ArtefactError, match=r"broken\.onnx"):
        classifier.predict(png(RED))


def test_one_picture_gives_one_prediction_with_all_labels_of_a_small_model(tiny_onnx: Path, pictures: Path) -> None:
    with Classifier.from_file(tiny_onnx) as classifier:
        prediction = classifier.predict(pictures / "red.png")
    assert isinstance(prediction, Prediction)
    assert [answer.label for answer in prediction.answers] == ["red", "blue", "green"]
    # (pixel / 255 - mean) / std, less index / 100: worked out by hand from tests/helpers/tiny_model.py
    assert prediction.logits == pytest.approx([2.0, -2.01, -1.02], abs=1e-5)
    powers = np.exp([2.0, -2.01, -1.02])
    assert (prediction.best.label, prediction.best.index) == ("red", 0)
    assert prediction.best.probability == pytest.approx(powers[0] / powers.sum(), abs=1e-6)
    assert sum(answer.probability for answer in prediction.answers) == pytest.approx(1.0, abs=1e-6)


def test_every_kind_of_picture_gives_the_same_prediction(tiny_onnx: Path, pictures: Path) -> None:
    path = pictures / "red.png"
    kinds = [path, str(path), path.read_bytes(), bytearray(path.read_bytes()), Image.open(path), solid(RED)]
    with Classifier.from_file(tiny_onnx) as classifier:
        expected = classifier.predict(path)
        for picture in kinds:
            assert classifier.predict(picture) == expected
        assert classifier.predict(kinds) == [expected] * len(kinds)
        assert classifier.predict(tuple(kinds), top=1) == [Prediction(expected.answers[:1], expected.logits)] * len(
            kinds
        )


@pytest.mark.parametrize("batch_size", [1, 2, 3, 8])
def test_a_list_is_answered_in_its_order_for_any_batch_size(tiny_onnx: Path, batch_size: int) -> None:
    colours = [RED, GREEN, BLUE, GREEN, RED, BLUE, BLUE]
    with Classifier.from_file(tiny_onnx, batch_size=batch_size) as classifier:
        found = classifier.predict([solid(colour) for colour in colours])
        assert classifier.predict([]) == []
    assert [prediction.best.index for prediction in found] == [colour.index(255) for colour in colours]


@pytest.mark.parametrize("batch", [1, 4])
def test_a_model_of_one_batch_size_takes_any_number_of_pictures(make_onnx: Maker, tiny_onnx: Path, batch: int) -> None:
    many = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)
    with Classifier.from_file(make_onnx(batch=batch)) as fixed, Classifier.from_file(tiny_onnx) as dynamic:
        assert fixed.batch_size == batch
        np.testing.assert_allclose(fixed.logits(many), dynamic.logits(many), atol=1e-6)


def test_a_float32_model_gets_normalised_pictures(make_onnx: Maker, tiny_onnx: Path) -> None:
    many = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)
    with Classifier.from_file(make_onnx(layout="float32")) as planes, Classifier.from_file(tiny_onnx) as pixels:
        assert planes.backend.input.layout == "float32 NCHW"
        np.testing.assert_allclose(planes.logits(many), pixels.logits(many), atol=1e-5)


def test_prepare_logits_and_predictions_are_predict_in_three_steps(tiny_onnx: Path, pictures: Path) -> None:
    paths = [pictures / "red.png", pictures / "deep" / "blue.jpg"]
    with Classifier.from_file(tiny_onnx) as classifier:
        prepared = np.stack([classifier.prepare(path) for path in paths])
        assert (prepared.shape, prepared.dtype) == ((2, 8, 8, 3), np.dtype(np.uint8))
        logits = classifier.logits(prepared)
        assert (logits.shape, logits.dtype) == ((2, 3), np.dtype(np.float32))
        assert classifier.predictions(logits, 2) == classifier.predict(paths, top=2)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int64, np.float16, np.float64])
def test_logits_of_any_real_dtype_are_float32_logits(tiny_onnx: Path, dtype: type[np.generic]) -> None:
    rows = np.array([[0, 5, 3], [120, 0, 127]]) if dtype == np.uint8 else np.array([[-128, 127, 3], [0, 5, 2]])
    with Classifier.from_file(tiny_onnx) as classifier:
        found, expected = (classifier.predictions(rows.astype(each)) for each in (dtype, np.float32))
    assert found == expected
    assert {prediction.logits.dtype for prediction in found} == {np.dtype(np.float32)}


def test_card_and_labels_are_the_models(tiny_onnx: Path) -> None:
    with Classifier.from_file(tiny_onnx) as classifier:
        assert classifier.labels == ("red", "green", "blue")
        assert classifier.card.training["recipe"] == {"epochs": 3}


def test_top_is_five_by_default(make_onnx: Maker) -> None:
    labels = tuple(f"label {index}" for index in range(9))
    with Classifier.from_file(make_onnx(labels=labels)) as classifier:
        assert [a.index for a in classifier.predict(solid(GREEN)).answers] == [1, 4, 7, 2, 5]
        assert len(classifier.predict(solid(GREEN), top=9).answers) == 9


@pytest.mark.parametrize("top", [0, 4, -1])
def test_top_outside_the_labels_is_a_usage_error_before_any_work(tiny_onnx: Path, top: int) -> None:
    with (
        Classifier.from_file(tiny_onnx) as classifier,
        pytest.raises(UsageError, match=f"top {top},.* 1 to 3"),
    ):
        classifier.predict("missing.jpg", top=top)


def test_the_unreadable_picture_of_a_list_is_named(tiny_onnx: Path, tmp_path: Path) -> None:
    with Classifier.from_file(tiny_onnx, batch_size=2) as classifier:
        with pytest.raises(PictureError, match="picture 3") as caught:
            classifier.predict([png(RED), png(GREEN), png(BLUE), b""])
        assert caught.value.fault == "empty"
        with pytest.raises(PictureError, match=r"gone\.jpg"):
            classifier.predict([png(RED), tmp_path / "gone.jpg"])


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (
            np.zeros((8, 8, 3), np.uint8),
            r"uint8.*\(8, 8, 3\),.*uint8 \(N, 8, 8, 3\)",
        ),
        (np.zeros((1, 9, 8, 3), np.uint8), r"uint8.*\(1, 9, 8, 3\),.*uint8 \(N, 8, 8, 3\)"),
        (np.zeros((1, 8, 8, 3), np.float32), r"float32.*uint8 \(N, 8, 8, 3\)"),
        (np.zeros((0, 8, 8, 3), np.uint8), r" 0,.* 1"),
        ([[1]], r" list,.*uint8"),
    ],
)
@pytest.mark.parametrize("layout", ["uint8", "float32"])
def test_logits_takes_prepared_pictures_only(make_onnx: Maker, layout: str, batch: Any, message: str) -> None:
    with (
        Classifier.from_file(make_onnx(layout=layout)) as classifier,
        pytest.raises(InputError, match=message),
    ):
        classifier.logits(batch)


def test_a_batch_of_pictures_in_one_array_is_refused_with_what_to_do(tiny_onnx: Path) -> None:
    with (
        Classifier.from_file(tiny_onnx) as classifier,
        pytest.raises(InputError, match=r"uint8 RGB \(H, W, 3\)"),
    ):
        classifier.predict(np.zeros((2, 20, 30, 3), np.uint8))


def test_after_close_every_call_is_a_clear_error(tiny_onnx: Path) -> None:
    classifier = Classifier.from_file(tiny_onnx)
    classifier.close()
    classifier.close()
    with pytest.raises(UsageError, match=r"colours\.onnx"):
        classifier.predict(solid(RED))


def test_a_model_that_overflows_is_an_error_and_no_answer(make_onnx: Maker) -> None:
    with (
        Classifier.from_file(make_onnx(scale=3e38)) as classifier,
        pytest.raises(ArtefactError, match="NaN"),
    ):
        classifier.predict(solid(RED))


@pytest.mark.parametrize(("option", "value"), [("batch_size", 0), ("threads", -1), ("threads", 100_000)])
def test_numbers_out_of_range_are_usage_errors(tiny_onnx: Path, option: str, value: int) -> None:
    with pytest.raises(UsageError, match=f"{option} {value}"):
        Classifier.from_file(tiny_onnx, **{option: value})


@pytest.mark.parametrize("path", ["", None, 5, b"model.onnx"])
def test_what_is_no_path_of_a_model_is_told_so(path: Any) -> None:
    with pytest.raises(UsageError, match=r"got an? .* as model, expected a"):
        Classifier.from_file(path)


@pytest.mark.parametrize("backend", ["model.onnx", Path("model.onnx"), None])
def test_a_path_in_place_of_a_backend_is_told_what_to_call(backend: Any) -> None:
    with pytest.raises(UsageError, match=r"Classifier\.from_file"):
        Classifier(backend)


def test_a_prediction_prints_its_answers_and_not_its_logits() -> None:
    prediction = Prediction((Answer("red", 0, 0.75),), np.zeros(1000, np.float32))
    assert "label='red'" in repr(prediction)
    assert "logits" not in repr(prediction)


@pytest.mark.parametrize("format", ["JPEG", "PNG"])
def test_an_image_that_is_several_times_in_a_list_has_one_answer(tiny_onnx: Path, format: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (600, 800, 3), dtype=np.uint8)
    content = image_file(Image.fromarray(pixels), format)
    with Classifier.from_file(tiny_onnx, threads=4, batch_size=1) as classifier:
        expected = classifier.predict(content).logits
        for _ in range(4):
            image = Image.open(io.BytesIO(content))  # which has read its header, and is loaded by several threads
            for found in classifier.predict([image] * 8):
                np.testing.assert_allclose(found.logits, expected, atol=1e-3)
