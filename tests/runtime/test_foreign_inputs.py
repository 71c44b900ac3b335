"""The card's input for foreign networks: letterbox, OpenCV's resize, BGR, grey, other scales, probabilities."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from taijitu_runtime.card import InputSpec, ModelCard
from taijitu_runtime.classifier import Classifier
from taijitu_runtime.errors import ArtefactError
from taijitu_runtime.pictures.preprocess import normalise, preprocess
from taijitu_runtime.pictures.resizing.resize import resize_picture
from tests.helpers.tiny_model import card_dict

NORMAL: dict[str, Any] = {"mean": (0.5, 0.4, 0.3), "std": (0.25, 0.2, 0.3)}


def scene(height: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng(height * width).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize("size", [(60, 40), (41, 60), (7, 900), (500, 3), (32, 48), (1, 1)])
def test_a_letterbox_keeps_the_ratio_and_centres_the_picture_on_its_colour(size: tuple[int, int]) -> None:
    height, width = size
    spec = InputSpec(height=32, width=48, resize="letterbox", resize_size=48, fill=(1, 2, 3), **NORMAL)
    made = resize_picture(np.full((height, width, 3), 200, np.uint8), spec)
    scale = min(32 / height, 48 / width)
    rows, columns = max(1, round(height * scale)), max(1, round(width * scale))
    top, left = (32 - rows) // 2, (48 - columns) // 2
    expected = np.empty((32, 48, 3), np.uint8)
    expected[...] = (1, 2, 3)
    expected[top : top + rows, left : left + columns] = 200
    np.testing.assert_array_equal(made, expected)


def test_a_square_letterbox_has_the_pixels_of_pillow() -> None:
    picture = scene(640, 400)
    spec = InputSpec(height=320, width=320, resize="letterbox", resize_size=320, fill=(255, 255, 255), **NORMAL)
    filled = ImageOps.pad(Image.fromarray(picture), (320, 320), Image.Resampling.BILINEAR, "white")
    np.testing.assert_array_equal(resize_picture(picture, spec), np.asarray(filled))


def test_stretch_may_crop_what_it_has_stretched() -> None:
    picture = scene(50, 90)
    spec = InputSpec(height=24, width=36, resize="stretch", resize_size=28, **NORMAL)
    whole = Image.fromarray(picture).resize((42, 28), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(resize_picture(picture, spec), np.asarray(whole)[2:26, 3:39])


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(40, 60), (64, 64), (33, 500), (500, 21), (1, 3), (900, 800)])
def test_opencv_resizing_has_its_pixels(interpolation: str, size: tuple[int, int]) -> None:
    cv2 = pytest.importorskip("cv2")
    picture = scene(*size)
    spec = InputSpec(
        height=32, width=48, resize="stretch", resize_size=32, interpolation=f"{interpolation}_opencv", **NORMAL
    )
    flag = {"bilinear": cv2.INTER_LINEAR, "bicubic": cv2.INTER_CUBIC}[interpolation]
    expected = cv2.resize(picture, (48, 32), interpolation=flag)
    assert np.abs(resize_picture(picture, spec).astype(int) - expected).max() <= 1
    shorter = InputSpec(
        height=30, width=30, resize="shorter_side", resize_size=36, interpolation=f"{interpolation}_opencv", **NORMAL
    )
    assert resize_picture(picture, shorter).shape == (30, 30, 3)


def test_a_jpeg_is_not_shrunk_while_decoding_where_that_would_show() -> None:
    file = io.BytesIO()
    Image.fromarray(scene(2100, 2100)).save(file, "JPEG", quality=90)
    spec = InputSpec(height=32, width=32, resize="stretch", resize_size=32, interpolation="bilinear_opencv", **NORMAL)
    whole = np.asarray(Image.open(io.BytesIO(file.getvalue())))
    np.testing.assert_array_equal(preprocess(file.getvalue(), spec), resize_picture(whole, spec))


def test_normalise_makes_the_channels_and_the_scale_of_the_card() -> None:
    batch = scene(5, 4)[None]
    caffe = InputSpec(
        height=5, width=4, resize="stretch", resize_size=4, colour="BGR", scale=1, mean=(103.9, 116.8, 123.7),
        std=(1, 1, 58.0),
    )  # fmt: skip
    expected = (batch[..., ::-1] - np.array(caffe.mean)) / np.array(caffe.std)
    np.testing.assert_allclose(normalise(batch, caffe), expected.transpose(0, 3, 1, 2), rtol=1e-5, atol=1e-4)
    grey = InputSpec(height=5, width=4, resize="stretch", resize_size=4, colour="grey", mean=(0.1307,), std=(0.3081,))
    levels = np.asarray(Image.fromarray(batch[0]).convert("L"), np.float64)
    np.testing.assert_allclose(normalise(batch, grey)[0, 0], (levels / 255 - 0.1307) / 0.3081, rtol=1e-5, atol=1e-5)


def test_a_card_is_written_as_before_where_nothing_is_new_and_whole_where_something_is() -> None:
    old = card_dict()
    read = ModelCard.from_dict(old)
    assert (read.input.scale, read.input.fill, read.output) == (1 / 255, (0, 0, 0), "logits")
    assert read.to_dict() == old
    new = {**old, "output": "probabilities"}
    new["input"] = old["input"] | {
        "colour": "BGR", "resize": "letterbox", "resize_size": 8, "fill": [114, 114, 114], "scale": 1.0,
        "mean": [104, 117, 123], "interpolation": "bicubic_opencv",
    }  # fmt: skip
    assert ModelCard.read_onnx_metadata(ModelCard.from_dict(new).to_metadata()).to_dict() == new


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("colour", "BRG"),
        ("colour", "grey"),  # with three means
        ("scale", 0),
        ("scale", 2.0),
        ("scale", float("nan")),
        ("fill", [0, 0]),
        ("fill", [0, 0, 256]),
        ("fill", [0, 0, 0.5]),
        ("interpolation", "bilinear"),
        ("resize", "letterbox"),  # of another size
        ("mean", [104, 117, 123]),  # for pixels in [0, 1]
    ],
)
def test_a_new_field_out_of_range_is_refused(field: str, value: object) -> None:
    card = card_dict()
    card["input"] |= {"resize": "stretch", "resize_size": 9, field: value}
    with pytest.raises(ArtefactError, match=r"input\."):
        ModelCard.from_dict(card)


def test_probabilities_are_answered_as_they_are(make_onnx: Callable[..., Path]) -> None:
    onnx = pytest.importorskip("onnx")
    path = make_onnx(card=card_dict() | {"output": "probabilities"})
    model = onnx.load(path)
    model.graph.node[-1].output[0] = "before"
    model.graph.node.append(onnx.helper.make_node("Sigmoid", ["before"], ["logits"]))
    onnx.save(model, path)
    with Classifier.from_file(path) as classifier:
        prediction = classifier.predict(np.full((8, 8, 3), (255, 0, 255), np.uint8), top=3)
        by_index = [answer.probability for answer in sorted(prediction.answers, key=lambda each: each.index)]
    np.testing.assert_array_equal(np.float32(by_index), prediction.logits)
    assert sum(by_index) > 1.5
