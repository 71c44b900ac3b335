"""The server from its clients' side: a real process, a real socket, real pictures."""

from __future__ import annotations

import base64
import io
import random
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from PIL import Image

from taijitu_runtime.classifier import Classifier
from tests.helpers.image_file import png_declaring
from tests.helpers.server_process import Server

JPEG = {"Content-Type": "image/jpeg"}
BOMB = png_declaring(30_000, 30_000, bytes(1000))


@pytest.fixture(scope="module")
def expected(shipped_onnx: Path, jpeg: bytes) -> list[tuple[str, int]]:
    with Classifier.from_file(shipped_onnx) as classifier:
        return [(answer.label, answer.index) for answer in classifier.predict(jpeg, top=10).answers]


@pytest.fixture(autouse=True)
def still_right_afterwards(client: httpx.Client, jpeg: bytes, expected: list[tuple[str, int]]) -> Iterator[None]:
    """Check after each test that the server is alive and answers a good request as before."""
    yield
    assert client.get("/health/live").json() == {"status": "live"}
    reply = client.post("/classify", content=jpeg, headers=JPEG)
    assert reply.status_code == 200
    assert reply.json()["answers"][0]["label"] == expected[0][0]


def test_a_raw_body_gets_the_classifiers_answers(
    client: httpx.Client, jpeg: bytes, expected: list[tuple[str, int]]
) -> None:
    reply = client.post("/classify", content=jpeg, headers=JPEG)
    body = reply.json()
    assert reply.status_code == 200
    assert body["model"] == "yynet_small_16"
    assert [(answer["label"], answer["index"]) for answer in body["answers"]] == expected[:5]
    probabilities = [answer["probability"] for answer in body["answers"]]
    assert probabilities == sorted(probabilities, reverse=True)
    assert 0 < body["latency_ms"] < 30_000
    assert list(body["stages_ms"]) == ["read", "decode", "queue", "infer"]
    assert sum(body["stages_ms"].values()) <= body["latency_ms"]
    assert reply.headers["Server-Timing"] == ", ".join(f"{k};dur={v}" for k, v in body["stages_ms"].items())


@pytest.mark.parametrize("headers", [{}, {"Content-Type": "application/octet-stream"}, {"Content-Type": "image/png"}])
def test_the_content_decides_what_a_picture_is(
    client: httpx.Client, photograph: Path, expected: list[tuple[str, int]], headers: dict[str, str]
) -> None:
    reply = client.post("/classify", content=photograph.read_bytes(), headers=headers)
    assert reply.status_code == 200
    assert reply.json()["answers"][0]["label"] == expected[0][0]


def test_a_form_gets_the_same_answers(client: httpx.Client, jpeg: bytes) -> None:
    raw = client.post("/classify", content=jpeg, headers=JPEG).json()
    form = client.post("/classify", files={"file": ("cat.jpg", jpeg, "image/jpeg")}).json()
    assert form["answers"] == raw["answers"]


def test_several_pictures_get_several_answers_in_their_order(client: httpx.Client, jpeg: bytes) -> None:
    black = io.BytesIO()
    Image.new("RGB", (40, 40)).save(black, "PNG")
    alone = [client.post("/classify", content=picture).json()["answers"] for picture in (jpeg, black.getvalue())]
    form = [("file", ("a.jpg", jpeg)), ("file", ("b.png", black.getvalue()))]
    texts = [base64.b64encode(picture).decode() for picture in (jpeg, black.getvalue())]
    for reply in (client.post("/classify", files=form), client.post("/classify", json={"images": texts})):
        found = [[answer["label"] for answer in result["answers"]] for result in reply.json()["results"]]
        assert found == [[answer["label"] for answer in answers] for answers in alone]
    one = client.post("/classify", json={"image": texts[0]})
    assert [a["index"] for a in one.json()["answers"]] == [a["index"] for a in alone[0]]


def test_one_bad_picture_of_several_is_named(client: httpx.Client, jpeg: bytes) -> None:
    reply = client.post("/classify", files=[("file", ("a.jpg", jpeg)), ("file", ("b.jpg", jpeg[:2000]))])
    assert reply.status_code == 422
    assert reply.json()["error"].startswith("picture 1: ")


@pytest.mark.parametrize(("top", "count"), [("1", 1), ("3", 3), ("10", 10), ("1000", 10)])
def test_top_chooses_how_many(client: httpx.Client, jpeg: bytes, top: str, count: int) -> None:
    reply = client.post("/classify", params={"top": top}, content=jpeg, headers=JPEG)
    assert len(reply.json()["answers"]) == count


def test_health(client: httpx.Client) -> None:
    assert client.get("/health/live").json() == {"status": "live"}
    ready = client.get("/health/ready").json()
    assert ready.pop("proofs")["yynet_small_16/1"].startswith("proven")
    assert ready == {"status": "ready", "models": {"yynet_small_16": ["1"]}, "failures": {}}


def chunks(size: int) -> Iterator[bytes]:
    for _ in range(size // 65536 + 1):
        yield bytes(65536)


@pytest.mark.parametrize(
    ("request_", "status", "text"),
    [
        ({"content": b""}, 400, "the body is empty"),
        ({"content": b"x", "params": {"top": "0"}, "headers": JPEG}, 400, "query.top"),
        ({"content": b"x", "params": {"top": "many"}, "headers": JPEG}, 400, "query.top"),
        ({"files": {"picture": ("a.jpg", b"x", "image/jpeg")}}, 400, "got 'picture'"),
        ({"content": b"no boundary", "headers": {"Content-Type": "multipart/form-data"}}, 400, "boundary"),
        ({"content": b"x", "headers": {"Content-Type": "multipart/form-data; boundary=b"}}, 400, "malformed"),
        ({"content": b"--b\r\n", "headers": {"Content-Type": "multipart/form-data; boundary=b"}}, 400, "boundary"),
        ({"data": {"file": "text"}}, 415, "got Content-Type application/x-www-form-urlencoded"),
        ({"json": {"file": "text"}}, 400, 'expected {"image": base64}'),
        ({"json": {"image": "http://example.com/cat.jpg"}}, 400, "URL"),
        ({"content": b"{", "headers": {"Content-Type": "application/json"}}, 400, "not JSON"),
        ({"json": {"images": ["AA=="] * 33}}, 413, "32"),
        ({"files": [("file", ("a.jpg", b"x", "image/jpeg"))] * 33}, 413, "32"),
        ({"content": b"x", "headers": JPEG, "params": {"model": "yynet_smal"}}, 404, "yynet_small_16"),
        ({"content": b"x", "headers": JPEG, "params": {"version": "7"}}, 404, "no version '7'"),
        ({"content": bytes(17 * 2**20), "headers": JPEG}, 413, "larger than 16777216 bytes"),
        ({"content": chunks(17 * 2**20), "headers": JPEG}, 413, "larger than 16777216 bytes"),
        ({"files": {"file": ("a.jpg", bytes(17 * 2**20), "image/jpeg")}}, 413, "larger than 16777216 bytes"),
        ({"json": {"image": "A" * (17 * 2**20)}}, 413, "larger than 16777216 bytes"),
        ({"content": b"\xff\xd8\xff truncated", "headers": JPEG}, 422, "picture"),
        ({"content": b"<svg xmlns='http://www.w3.org/2000/svg'/>", "headers": JPEG}, 422, "picture"),
        ({"content": b"PK\x03\x04 zip", "headers": JPEG}, 422, "picture"),
        ({"content": random.Random(0).randbytes(5000), "headers": JPEG}, 422, "picture"),
        ({"files": {"file": ("a.jpg", b"", "image/jpeg")}}, 422, "empty"),
        (
            {"content": BOMB, "headers": {"Content-Type": "image/png"}},
            413,
            "expected at most 40000000",
        ),
    ],
)
def test_bad_requests_get_one_line_and_the_right_status(
    client: httpx.Client, request_: dict[str, object], status: int, text: str
) -> None:
    reply = client.post("/classify", **request_)  # type: ignore[arg-type]
    assert reply.status_code == status
    assert list(reply.json()) == ["error"]
    assert text in reply.json()["error"]
    assert "\n" not in reply.json()["error"]


def test_truncated_pictures_are_refused_not_guessed(client: httpx.Client, jpeg: bytes) -> None:
    for share in (0.3, 0.6, 0.95):
        reply = client.post("/classify", content=jpeg[: int(len(jpeg) * share)], headers=JPEG)
        assert reply.status_code == 422, share


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/nowhere", 404), ("GET", "/classify", 405), ("POST", "/health/live", 405)]
)
def test_unknown_paths_and_methods(client: httpx.Client, method: str, path: str, status: int) -> None:
    reply = client.request(method, path)
    assert reply.status_code == status
    assert list(reply.json()) == ["error"]


def test_no_torch_in_the_process(server: Server) -> None:
    assert "libtorch" not in Path(f"/proc/{server.process.pid}/maps").read_text()


def test_without_cameras_opencv_is_not_imported(server: Server, client: httpx.Client) -> None:
    assert client.get("/cameras").json() == []
    assert client.get("/cameras/door/stream").status_code == 404
    assert "cv2" not in Path(f"/proc/{server.process.pid}/maps").read_text()


def test_a_client_that_disconnects_midway_harms_no_other(server: Server, client: httpx.Client) -> None:
    host, port = client.base_url.host, client.base_url.port
    for _ in range(5):
        with socket.create_connection((host, port)) as connection:
            connection.sendall(b"POST /classify HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\nabc")
    assert client.get("/health/ready").status_code == 200


def test_what_cannot_start_says_why_in_one_line(server: Server, shipped_onnx: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(shipped_onnx.read_bytes()[:1000])
    port = str(httpx.URL(server.url).port)
    for arguments, text in [
        ([str(shipped_onnx), "--port", port], f"cannot listen on 127.0.0.1 port {port}"),
        ([str(shipped_onnx), "--port", "99999"], "cannot listen on 127.0.0.1 port 99999"),
        ([str(broken)], "broken.onnx"),
        ([str(tmp_path / "missing.onnx")], "missing.onnx"),
    ]:
        code, error = Server(*arguments).ended()
        assert code == 2
        assert text in error
        assert error.count("\n") == 1
