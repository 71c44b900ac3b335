"""?explain=1: maps next to the answers, the same as in Python; and what models without maps say."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from taijitu_runtime.classifier import Classifier
from tests.helpers.fragile_model import make_fragile_onnx
from tests.helpers.server_process import WITH_ERRORS, Server
from tests.helpers.tiny_model import make_tiny_onnx


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a model with maps, and one that does not end in a layer of averaged features."""
    made = tmp_path_factory.mktemp("models")
    make_tiny_onnx(made / "maps.onnx", size=(8, 6))
    make_fragile_onnx(made / "none.onnx")
    return made


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    with Server("--models", str(folder)) as running:
        yield running


@pytest.fixture(scope="module")
def picture() -> bytes:
    out = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def asked(server: Server, **request: Any) -> httpx.Response:
    query = {"model": "maps", "explain": "1", **request.pop("params", {})}
    return httpx.post(f"{server.url}/classify", timeout=30, params=query, **request)


def test_each_answer_has_its_map_and_the_picture_its_region(server: Server, folder: Path, picture: bytes) -> None:
    reply = asked(server, content=picture, params={"top": "2"}).json()
    with Classifier.from_file(folder / "maps.onnx") as classifier:
        explanation = classifier.explain(picture, 2)
    assert [answer["label"] for answer in reply["answers"]] == [a.label for a in explanation.prediction.answers]
    np.testing.assert_allclose([answer["map"] for answer in reply["answers"]], explanation.maps, atol=1e-4)
    np.testing.assert_allclose(reply["region"], explanation.region, atol=1e-4)
    plain = asked(server, content=picture, params={"explain": "0", "top": "2"}).json()
    assert [answer["index"] for answer in plain["answers"]] == [answer["index"] for answer in reply["answers"]]
    assert "region" not in plain
    assert set(plain["answers"][0]) == {"label", "index", "probability"}


def test_several_pictures_are_explained_each_and_a_bad_one_is_named(server: Server, picture: bytes) -> None:
    texts = [base64.b64encode(each).decode() for each in (picture, picture, picture[:90])]
    good = asked(server, json={"images": texts[:2]}, params={"threshold": "0.99"}).json()["results"]
    assert [(len(each["answers"]), each["known"]) for each in good] == [(3, False)] * 2
    bad = asked(server, json={"images": texts})
    assert (bad.status_code, "picture 2" in bad.json()["error"]) == (422, True)


def test_a_model_whose_file_was_replaced_is_not_explained_until_it_is_loaded_again(
    start_server: Callable[..., Server], tmp_path: Path, picture: bytes
) -> None:
    make_tiny_onnx(tmp_path / "maps.onnx")
    running = start_server("--models", str(tmp_path), "--reload-by-post", levels=WITH_ERRORS)
    make_tiny_onnx(tmp_path / "new", scale=-1).replace(tmp_path / "maps.onnx")
    refused = asked(running, content=picture)
    assert (refused.status_code, "Retry-After" in refused.headers) == (503, True)
    assert asked(running, content=picture, params={"explain": "0"}).is_success
    assert httpx.post(f"{running.url}/v2/repository/models/maps/load", timeout=30).is_success
    assert asked(running, content=picture).is_success


def test_a_model_without_maps_says_so_in_the_list_and_when_it_is_asked(server: Server, picture: bytes) -> None:
    models = {each["model"]: each["explains"] for each in httpx.get(f"{server.url}/models").json()}
    assert models == {"maps": True, "none": False}
    refused = asked(server, content=picture, params={"model": "none"})
    assert refused.status_code == 400
    assert "Add" in refused.json()["error"]  # what it ends in
    assert asked(server, content=picture, params={"model": "none", "explain": "0"}).status_code == 200
