"""The cost of one request for all others: pixels, turns in the decoder, time in the model, and the shutdown."""

from __future__ import annotations

import base64
import concurrent.futures
import gzip
import json
import os
import socket
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.helpers.image_file import image_file
from tests.helpers.raw_http import connect, received
from tests.helpers.server_process import WITH_ERRORS, Server
from tests.helpers.tiny_model import make_tiny_onnx
from tests.helpers.waiting import eventually

LARGE_SIDE = 3000


def saved(side: int, format_: str, colour: tuple[int, ...] = (0, 0, 255)) -> bytes:
    return image_file(Image.new("RGBA" if len(colour) == 4 else "RGB", (side, side), colour), format_, lossless=True)


LARGE = saved(LARGE_SIDE, "WEBP", (0, 0, 255, 255))  # a few hundred bytes, and a good part of a second
SMALL = saved(8, "PNG")


def as_form(pictures: list[bytes]) -> dict[str, Any]:
    return {"url": "/classify", "files": [("file", ("a", picture)) for picture in pictures]}


def as_json(pictures: list[bytes]) -> dict[str, Any]:
    return {"url": "/classify", "json": {"images": [base64.b64encode(picture).decode() for picture in pictures]}}


def as_tensor(pictures: list[bytes]) -> dict[str, Any]:
    data = b"".join(struct.pack("<I", len(picture)) + picture for picture in pictures)
    given = {"name": "images", "shape": [len(pictures)], "datatype": "BYTES"}
    head = json.dumps({"inputs": [{**given, "parameters": {"binary_data_size": len(data)}}]}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    return {"url": "/v2/models/tiny/infer", "content": head + data, "headers": headers}


def as_json_tensor(pictures: list[bytes]) -> dict[str, Any]:
    given = {"name": "images", "shape": [len(pictures)], "datatype": "BYTES"}
    texts = [base64.b64encode(picture).decode() for picture in pictures]
    return {"url": "/v2/models/tiny/infer", "json": {"inputs": [{**given, "data": texts}]}}


WAYS = pytest.mark.parametrize("way", [as_form, as_json, as_tensor, as_json_tensor])


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Start a server whose requests may have three times the pixels of LARGE."""
    model = make_tiny_onnx(tmp_path_factory.mktemp("tiny") / "tiny.onnx")
    with Server(str(model), "--max-request-pixels", str(3 * LARGE_SIDE**2), "--queue-timeout-ms", "60000") as running:
        yield running


@pytest.fixture
def client(small: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=small.url, timeout=60) as connected:
        yield connected


@WAYS
def test_the_pixels_of_a_request_are_counted_together(client: httpx.Client, way: Callable[..., dict[str, Any]]) -> None:
    assert client.post(**way([LARGE] * 3)).status_code == 200
    refused = client.post(**way([LARGE] * 4))
    assert refused.status_code == 413
    assert str(3 * LARGE_SIDE**2) in refused.json()["error"]


def test_one_picture_is_limited_by_its_own_limit_alone(client: httpx.Client) -> None:
    assert client.post("/classify", content=saved(2 * LARGE_SIDE, "PNG")).status_code == 200


def test_pictures_rows_and_headers_have_the_limits_that_the_flags_set(
    start_server: Callable[..., Server], tmp_path: Path
) -> None:
    limits = ["--max-pictures", "2", "--max-rows", "3", "--max-header-bytes", "2000"]
    running = start_server(str(make_tiny_onnx(tmp_path / "tiny.onnx")), *limits)
    with httpx.Client(base_url=running.url, timeout=60) as client:
        for way in (as_form, as_json, as_tensor, as_json_tensor):
            assert [client.post(**way([SMALL] * count)).status_code for count in (2, 3)] == [200, 413], way

        def rows(count: int) -> int:
            data = np.zeros((count, 8, 8, 3), np.uint8)
            given = {"name": "images", "shape": data.shape, "datatype": "UINT8", "data": data.ravel().tolist()}
            return client.post("/v2/models/tiny/infer", json={"inputs": [given]}).status_code

        assert [rows(count) for count in (3, 4)] == [200, 413]
        assert [client.get("/models", headers={"X": size * "a"}).status_code for size in (1500, 2500)] == [200, 431]


def test_the_memory_of_a_large_picture_is_returned(start_server: Callable[..., Server], tmp_path: Path) -> None:
    running = start_server(str(make_tiny_onnx(tmp_path / "tiny.onnx")), "--decode-threads", "2")
    statm = Path(f"/proc/{running.process.pid}/statm")
    picture = saved(2 * LARGE_SIDE, "PNG", (0, 0, 255, 255))  # 144 MB decoded
    with httpx.Client(base_url=running.url, timeout=60) as client:
        client.post("/classify", content=saved(200, "PNG"))
        before = int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        for _ in range(4):
            assert client.post("/classify", content=picture).status_code == 200
        after = int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    assert after - before < 64 * 2**20


def test_a_request_of_many_pictures_lets_others_take_turns(start_server: Callable[..., Server], tmp_path: Path) -> None:
    running = start_server(str(make_tiny_onnx(tmp_path / "tiny.onnx")), "--queue-timeout-ms", "60000")
    with concurrent.futures.ThreadPoolExecutor(1) as pool, httpx.Client(base_url=running.url, timeout=120) as client:
        crowd = pool.submit(
            lambda: httpx.post(**as_form([LARGE] * 24) | {"url": f"{running.url}/classify"}, timeout=120)
        )
        time.sleep(0.3)
        answered = 0
        while not crowd.done():  # pictures that are too large to be decoded in the event loop
            assert client.post("/classify", content=saved(200, "PNG")).status_code == 200
            answered += not crowd.done()
        assert crowd.result().status_code == 200
    assert answered >= 5


def test_a_request_of_many_pictures_ends_at_its_deadline(start_server: Callable[..., Server], tmp_path: Path) -> None:
    running = start_server(str(make_tiny_onnx(tmp_path / "tiny.onnx")), "--queue-timeout-ms", "300")
    late = httpx.post(**as_form([LARGE] * 32) | {"url": f"{running.url}/classify"}, timeout=120)
    assert late.status_code == 504


def test_the_shutdown_does_not_wait_for_all_pictures(start_server: Callable[..., Server], tmp_path: Path) -> None:
    model = make_tiny_onnx(tmp_path / "tiny.onnx")
    limits = ["--queue-timeout-ms", "600000", "--shutdown-s", "1", "--max-request-pixels", str(10**10)]
    running = start_server(str(model), *limits)
    costly = saved(6320, "WEBP", (0, 0, 255, 255))
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        posts = [
            pool.submit(lambda: httpx.post(**as_form([costly] * 32) | {"url": f"{running.url}/classify"}, timeout=120))
            for _ in range(2)
        ]
        both = 'taijitu_pending_requests{model="tiny",version="1"} 2.0'
        eventually(lambda: both in httpx.get(f"{running.url}/metrics").text)
        code, log = running.stop()
        assert code == 0
        assert all(map(json.loads, log.splitlines()))
        assert {post.result().status_code for post in posts} == {503}


@pytest.mark.parametrize("packing", [1, 2])
def test_bombs_are_refused_and_the_server_goes_on(client: httpx.Client, packing: int) -> None:
    bombs = {
        "zeros": bytes(200_000_000),
        "lists": b'{"inputs": [' + b"[]," * 5_000_000,
        "depth": b"[" * 10_000_000,
        "objects": b'{"a":' * 3_000_000,
    }
    for content in bombs.values():
        for _ in range(packing):
            content = gzip.compress(content, 1)
        headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
        for path in ("/classify", "/v2/models/tiny/infer"):
            assert client.post(path, content=content, headers=headers).status_code in (400, 413)
    assert client.post("/classify", content=SMALL).json()["answers"][0]["label"] == "blue"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\1",
        struct.pack("<I", 2**32 - 1) + SMALL,
        struct.pack("<I", len(SMALL) + 1) + SMALL,
        struct.pack("<I", len(SMALL) - 1) + SMALL,
        struct.pack("<I", 0) * 3,
        (struct.pack("<I", len(SMALL)) + SMALL) * 2,
    ],
)
def test_bytes_tensors_of_wrong_lengths(client: httpx.Client, data: bytes) -> None:
    given = {"name": "images", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": len(data)}}
    head = json.dumps({"inputs": [given]}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    assert client.post("/v2/models/tiny/infer", content=head + data, headers=headers).status_code == 400


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_tensors_that_are_not_finite(start_server: Callable[..., Server], tmp_path: Path, value: float) -> None:
    running = start_server(str(make_tiny_onnx(tmp_path / "tiny.onnx", layout="float32")))
    rows = np.zeros((1, 3, 8, 8), "<f4")
    rows[0, 1, 2, 3] = value
    given = {"name": "images", "shape": [1, 3, 8, 8], "datatype": "FP32"}
    head = json.dumps({"inputs": [{**given, "parameters": {"binary_data_size": rows.nbytes}}]}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    url = f"{running.url}/v2/models/tiny/infer"
    assert httpx.post(url, content=head + rows.tobytes(), headers=headers).status_code == 400
    text = json.dumps({"inputs": [{**given, "data": rows.ravel().tolist()}]})  # NaN, Infinity: no JSON, but common
    assert httpx.post(url, content=text).status_code == 400


@pytest.fixture
def hanging(
    start_server: Callable[..., Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[Server, Path]]:
    def start(*arguments: str) -> tuple[Server, Path]:
        monkeypatch.setenv("RELEASE", str(tmp_path / "release"))
        (tmp_path / "release").touch()  # so that the model is found fine when it is loaded
        model = str(make_tiny_onnx(tmp_path / "tiny.onnx"))
        limits = ["--run-timeout-s", "0.5", "--queue-timeout-ms", "500", "--shutdown-s", "1", "--instances", "1"]
        script = str(Path(__file__).parents[1] / "helpers" / "hanging_server.py")
        running = start_server(model, *limits, *arguments, script=script, levels=WITH_ERRORS)
        (tmp_path / "release").unlink()
        return running, tmp_path / "release"

    return start


WHITE = saved(8, "PNG", (255, 255, 255))


def test_a_model_that_hangs_is_reported_and_recovers(hanging: Callable[..., tuple[Server, Path]]) -> None:
    running, release = hanging()
    assert httpx.post(f"{running.url}/classify", content=WHITE, timeout=30).status_code == 504
    assert httpx.get(f"{running.url}/health/live").status_code == 200
    assert httpx.get(f"{running.url}/health/ready").status_code == 503
    assert httpx.post(f"{running.url}/classify", content=SMALL, timeout=30).status_code == 503
    release.touch()
    running.wait_until_ready()
    assert httpx.post(f"{running.url}/classify", content=WHITE, timeout=30).status_code == 200


def test_a_model_that_hangs_does_not_hold_the_shutdown(hanging: Callable[..., tuple[Server, Path]]) -> None:
    running, _ = hanging()
    assert httpx.post(f"{running.url}/classify", content=WHITE, timeout=30).status_code == 504
    code, log = running.stop()  # within the helper's limit on time
    assert code == 1
    assert json.loads(log.splitlines()[-1])["level"] == "error"


def test_a_camera_stops_while_its_model_hangs(hanging: Callable[..., tuple[Server, Path]], tmp_path: Path) -> None:
    (tmp_path / "white.png").write_bytes(WHITE)
    camera = ["--camera", f"white={tmp_path}/white.png", "--camera-control"]
    running, release = hanging("--run-timeout-s", "600", *camera)
    url = f"{running.url}/cameras/white"
    assert httpx.post(f"{url}/stop", timeout=30).is_success  # it may have seen the picture before the model hung
    for _ in range(2):
        assert httpx.post(f"{url}/start").is_success
        idle = 'taijitu_pending_requests{model="tiny",version="1"} 0.0'
        eventually(lambda: idle not in httpx.get(f"{running.url}/metrics").text)  # noqa: B023  # called at once
        assert httpx.post(f"{url}/stop", timeout=30).json()["state"] == "stopped"
    release.touch()


def test_clients_that_left_are_told_from_those_that_send_no_more(hanging: Callable[..., tuple[Server, Path]]) -> None:
    running, release = hanging("--run-timeout-s", "30", "--queue-timeout-ms", "30000")
    head = b"POST /classify HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
    with connect(running) as hangs, connect(running) as waits:
        for connection, picture in ((hangs, WHITE), (waits, SMALL)):
            connection.sendall(head % len(picture) + picture)
            connection.shutdown(socket.SHUT_WR)
        with connect(running) as leaves:
            leaves.sendall(head % len(SMALL) + SMALL)
        gone = 'taijitu_requests_total{path="/classify",status="499"} 1.0'
        eventually(lambda: gone in httpx.get(f"{running.url}/metrics").text)
        release.touch()
        for connection in (hangs, waits):
            interim, _, final = received(connection).partition(b"\r\n\r\n")
            assert interim == b"HTTP/1.1 100 Continue"
            assert final.startswith(b"HTTP/1.1 200")


def test_bodies_of_clients_that_left_count_as_long_as_the_model_holds_them(
    hanging: Callable[..., tuple[Server, Path]],
) -> None:
    rows = np.zeros((1000, 8, 8, 3), np.uint8)
    running, release = hanging("--run-timeout-s", "600", "--max-buffered-bytes", str(5 * rows.nbytes // 2))
    size = {"binary_data_size": rows.nbytes}
    given = {"name": "images", "shape": [*rows.shape], "datatype": "UINT8", "parameters": size}
    head = json.dumps({"inputs": [given]}).encode()
    length = {"Inference-Header-Content-Length": str(len(head))}
    request = httpx.Request(
        "POST", f"{running.url}/v2/models/tiny/infer", headers=length, content=head + rows.tobytes()
    )
    text = b"".join(b"%s: %s\r\n" % header for header in request.headers.raw)
    with connect(running) as hangs:
        hangs.sendall(b"POST /classify HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(WHITE) + WHITE)
        for count in (1, 2):
            with connect(running) as leaves:
                leaves.sendall(b"POST %s HTTP/1.1\r\n%s\r\n" % (request.url.raw_path, text) + request.content)
            gone = f'taijitu_requests_total{{path="/v2/models/{{model}}/infer",status="499"}} {count}.0'
            eventually(lambda: gone in httpx.get(f"{running.url}/metrics").text)  # noqa: B023  # called at once
        with httpx.Client(timeout=30) as client:
            refused = client.send(request)
            assert (refused.status_code, "bytes" in refused.json()["error"]) == (503, True)
            release.touch()
            eventually(lambda: client.send(request).status_code == 200)
