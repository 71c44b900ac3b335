"""Pictures as small as those of CIFAR-10: prepared in the event loop, not by the decoder's threads."""

from __future__ import annotations

import base64
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import httpx
import pytest
from PIL import Image

from taijitu_runtime.classifier import Classifier
from tests.helpers.image_file import image_file

JPEG = {"Content-Type": "image/jpeg"}
TURNED_RIGHT = 6  # EXIF's orientation


def encoded(picture: Image.Image, side: int, **options: object) -> bytes:
    return image_file(picture.resize((side, side)), "JPEG", quality=90, **options)


@pytest.fixture(scope="module")
def picture(photograph: Path) -> Image.Image:
    return Image.open(photograph).convert("RGB")


def as_body(client: httpx.Client, icon: bytes) -> httpx.Response:
    return client.post("/classify", content=icon, headers=JPEG)


def as_form(client: httpx.Client, icon: bytes) -> httpx.Response:
    return client.post("/classify", files={"file": ("a.jpg", icon)})


def as_json(client: httpx.Client, icon: bytes) -> httpx.Response:
    return client.post("/classify", json={"image": base64.b64encode(icon).decode()})


@pytest.mark.parametrize("post", [as_body, as_form, as_json])
@pytest.mark.parametrize("side", [1, 32, 64, 65])
def test_an_icon_gets_the_classifiers_answers(
    client: httpx.Client,
    shipped_onnx: Path,
    picture: Image.Image,
    side: int,
    post: Callable[[httpx.Client, bytes], httpx.Response],
) -> None:
    exif = Image.Exif()
    exif[0x112] = TURNED_RIGHT
    for icon in (encoded(picture, side), encoded(picture, side, exif=exif), encoded(picture, side, progressive=True)):
        with Classifier.from_file(shipped_onnx) as classifier:
            expected = classifier.predict(icon).best
        best = post(client, icon).json()["answers"][0]
        assert best["label"] == expected.label
        assert best["probability"] == pytest.approx(expected.probability, abs=1e-5)


def test_a_damaged_icon_is_refused_and_the_next_one_answered(client: httpx.Client, picture: Image.Image) -> None:
    icon = encoded(picture, 32)
    for damaged in (icon[:-40], icon[:30], icon[:-40] + icon[-2:]):
        assert as_body(client, damaged).status_code == 422
        assert as_body(client, icon).status_code == 200


def test_an_icon_does_not_wait_for_large_pictures_to_be_decoded(client: httpx.Client, picture: Image.Image) -> None:
    large = encoded(picture, 4000)
    with ThreadPoolExecutor(9) as pool:
        waiting = [pool.submit(as_body, client, large) for _ in range(8)]
        next(as_completed(waiting))  # the others have arrived by now
        icon = pool.submit(as_body, client, encoded(picture, 32))
        assert icon.result().status_code == 200
        assert not all(one.done() for one in waiting)
        assert {one.result().status_code for one in waiting} == {200}
