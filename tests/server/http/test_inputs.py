"""Pictures as clients really send them: base64 of every kind, forms of every kind, and what is refused by its name."""

from __future__ import annotations

import base64
import contextlib
import gc
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from taijitu_server.errors import HttpError
from taijitu_server.http.forms import bytes_from_base64, pictures_from_json
from tests.helpers.server_process import Server
from tests.helpers.tiny_model import make_tiny_onnx

BYTES = bytes(range(256)) + b"\xff\xfe\xfb"  # of which base64 has + and /, and padding in one length of three
LABEL = "weiß-blau"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    model = make_tiny_onnx(tmp_path_factory.mktemp("tiny") / "tiny.onnx", labels=("rot", "grün", LABEL))
    with Server(str(model)) as running:
        yield running


@pytest.mark.parametrize("length", [256, 257, 258, 259])
@pytest.mark.parametrize(
    "written",
    [
        lambda text: text,
        lambda text: "\n".join(textwrap.wrap(text, 76)),
        lambda text: "\r\n".join(textwrap.wrap(text, 64)) + "\r\n",
        lambda text: text.rstrip("="),
        lambda text: text.replace("+", "-").replace("/", "_"),
        lambda text: text.replace("+", "-").replace("/", "_").rstrip("="),
        lambda text: "data:image/png;base64," + text,
        lambda text: "data:image/png;charset=utf-8;base64," + text.rstrip("="),
    ],
    ids=["plain", "lines of 76", "lines of 64", "unpadded", "urls", "urls unpadded", "data URL", "data URL unpadded"],
)
def test_base64_is_read_in_every_form(length: int, written: Callable[[str], str]) -> None:
    assert bytes_from_base64(written(base64.b64encode(BYTES[:length]).decode())) == BYTES[:length]


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("https://example.com/cat.jpg", "URL"),
        ("data:image/svg+xml,<svg/>", "without ';base64,'"),
        ("data:image/png;base64,AA%3D%3D", "not base64"),
        ("cat.jpg", "base64"),
        ("AAAAA", "base64"),
        ("AA=AA===", "base64"),
        ("\u00e4\u00f6", "base64"),
    ],
)
def test_other_text_is_refused_with_its_kind(text: str, hint: str) -> None:
    with pytest.raises(HttpError, match=hint) as refused:
        bytes_from_base64(text)
    assert refused.value.status == 400


def test_json_of_many_lists_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(HttpError, match="lists") as refused:
        pictures_from_json(b'{"images":[' + b"{}," * 2000 + b"{}]}", 32)
    assert refused.value.status == 400


@pytest.mark.parametrize("text", [b'{"image":"AAAA"}', b'{"image":'])
@pytest.mark.parametrize("collects", [True, False])
def test_garbage_is_collected_after_json_as_before_it(text: bytes, collects: bool) -> None:
    (gc.enable if collects else gc.disable)()
    try:
        with contextlib.suppress(HttpError):
            pictures_from_json(text, 32)
        assert gc.isenabled() is collects
    finally:
        gc.enable()


def test_threads_that_parse_json_at_once_leave_the_garbage_collector_on() -> None:
    def parse() -> None:
        for _ in range(1000):
            pictures_from_json(b'{"image":"AAAA"}', 32)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    threads = [threading.Thread(target=parse) for _ in range(8)]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert gc.isenabled()
    finally:
        sys.setswitchinterval(interval)
        gc.enable()


def classified(server: Server, **request: Any) -> httpx.Response:
    return httpx.post(f"{server.url}/classify", timeout=30, **request)


@pytest.mark.parametrize("kind", ["binary/octet-stream", "application/octet-stream", "IMAGE/PNG; charset=binary"])
def test_a_body_of_any_binary_type_is_a_picture(server: Server, blue: bytes, kind: str) -> None:
    reply = classified(server, content=blue, headers={"Content-Type": kind})
    assert reply.json()["answers"][0]["label"] == LABEL
    assert LABEL.encode() in reply.content  # its letters are not escaped


@pytest.mark.parametrize(
    "disposition",
    [
        b'form-data; name="file"; filename="a.png"',
        b"form-data; name=\"file\"; filename*=UTF-8''a%20b.png",
        b'form-data; name="file"',
        b"form-data; name=file",
        b'form-data; filename="a.png"; name="file"',
    ],
)
def test_a_form_field_called_file_is_a_picture(server: Server, blue: bytes, disposition: bytes) -> None:
    form = b"--b\r\nContent-Disposition: " + disposition + b"\r\n\r\n" + blue + b"\r\n--b--\r\n"
    reply = classified(server, content=form, headers={"Content-Type": "multipart/form-data; boundary=b"})
    assert reply.json()["answers"][0]["label"] == LABEL


def test_unknown_parameters_are_refused_by_name(server: Server, blue: bytes) -> None:
    text = base64.b64encode(blue).decode()
    good = {"name": "images", "shape": [1], "datatype": "BYTES", "data": [text]}
    infer = f"{server.url}/v2/models/tiny/infer"
    for reply, name in [
        (classified(server, files={"files": ("a.png", blue)}), "files"),
        (classified(server, files={"file": ("a.png", blue)}, data={"top": "1"}), "top"),
        (classified(server, json={"image": text, "top": 1}), "top"),
        (classified(server, content=blue, params={"explained": "1"}), "explain"),
        (classified(server, content=blue, params={"explain": "yes"}), "yes"),
        (classified(server, content=blue, params={"threshold": "1.5"}), "1.5"),
        (classified(server, json={"image": text, "images": [text]}), "images"),
        (httpx.post(infer, json={"inputs": [good], "threshold": 1}), "threshold"),
        (httpx.post(infer, json={"inputs": [good], "parameters": {"treshold": 1}}), "threshold"),
        (httpx.post(infer, json={"inputs": [good | {"layout": "NCHW"}]}), "layout"),
        (httpx.post(infer, json={"inputs": [good], "outputs": [{"name": "logits", "datatype": "FP32"}]}), "datatype"),
        (httpx.post(infer, json={"inputs": [good], "model_name": "other"}), "other"),
        (httpx.post(f"{server.url}/v2/repository/index", json={"redy": True}), "redy"),
    ]:
        assert reply.status_code == 400
        assert name in reply.json()["error"]
    named = httpx.post(infer, json={"inputs": [good], "model_name": "tiny", "id": None, "outputs": None})
    assert named.status_code == 200
    ready = httpx.post(f"{server.url}/v2/repository/index", json={"ready": True})
    assert [row["name"] for row in ready.json()] == ["tiny"]


@pytest.mark.parametrize("number", ["1.0E-4", "1e-100", "5E-1", "0.12345678901234567890123"])  # as Java writes one
def test_a_threshold_is_any_number_of_json(server: Server, blue: bytes, number: str) -> None:
    assert classified(server, content=blue, params={"threshold": number}).status_code == 200
    data = f'["{base64.b64encode(blue).decode()}"]'
    inputs = f'[{{"name": "images", "shape": [1], "datatype": "BYTES", "data": {data}}}]'
    text = f'{{"parameters": {{"threshold": {number}}}, "inputs": {inputs}}}'
    assert httpx.post(f"{server.url}/v2/models/tiny/infer", content=text).status_code == 200


@pytest.mark.parametrize("where", ["request", "input", "output"])
def test_null_parameters_are_none(server: Server, where: str) -> None:
    tensor = {"name": "images", "shape": [1, 8, 8, 3], "datatype": "UINT8", "data": [0] * 192}
    output: dict[str, Any] = {"name": "logits", "parameters": {"binary_data": None, "classification": None}}
    content: dict[str, Any] = {"inputs": [tensor], "outputs": [output]}
    {"request": content, "input": tensor, "output": output}[where]["parameters"] = None
    reply = httpx.post(f"{server.url}/v2/models/tiny/infer", json=content)
    assert (reply.status_code, reply.json()["outputs"][0]["shape"]) == (200, [1, 3])


def test_whole_numbers_may_have_a_point(server: Server) -> None:
    outputs = []
    for number in (12, 12.0):
        tensor = {"name": "images", "shape": [1, 8, 8, 3], "datatype": "UINT8", "data": [number] * 192}
        reply = httpx.post(f"{server.url}/v2/models/tiny/infer", json={"inputs": [tensor]})
        outputs.append(reply.json()["outputs"])
    assert outputs[0] == outputs[1]
    tensor["data"] = [12.5] * 192
    assert httpx.post(f"{server.url}/v2/models/tiny/infer", json={"inputs": [tensor]}).status_code == 400


def test_curls_default_content_type_is_refused_with_the_header_to_add(server: Server, blue: bytes) -> None:
    reply = classified(server, content=blue, headers={"Content-Type": "application/x-www-form-urlencoded"})
    assert reply.status_code == 415
    assert "-H 'Content-Type: image/jpeg'" in reply.json()["error"]
