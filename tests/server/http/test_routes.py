"""The table of routes from the clients' side: methods, paths, query names, host names, and the OpenAPI document."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect as websocket_connect

from tests.helpers.raw_http import answers, connect, received
from tests.helpers.server_process import Server
from tests.helpers.tiny_model import make_tiny_onnx

if TYPE_CHECKING:
    from pathlib import Path


KEY = "0123456789abcdef"
REBOUND = {"Host": "evil.example", "Origin": "http://evil.example"}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_onnx(tmp_path_factory.mktemp("tiny") / "tiny.onnx")


@pytest.fixture(scope="module")
def local(tiny: Path) -> Iterator[Server]:
    """Start a server with the defaults, for its own machine, with a camera that clients may stop."""
    camera = ["--camera", "door=http://127.0.0.1:9/none", "--camera-control"]
    with Server(str(tiny), *camera, "--no-access-log") as running:
        yield running


@pytest.fixture(scope="module")
def document(local: Server) -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(f"{local.url}/openapi.json").json()
    return found


@pytest.mark.parametrize("path", ["/", "/health/live", "/health/ready", "/v2/health/live", "/models", "/openapi.json"])
def test_head_is_get_without_its_body(local: Server, path: str) -> None:
    whole, head = httpx.get(f"{local.url}{path}"), httpx.head(f"{local.url}{path}")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["Content-Length"] == str(len(whole.content))
    assert head.headers["Content-Type"] == whole.headers["Content-Type"]


def test_the_head_of_a_stream_ends(local: Server) -> None:
    reply = httpx.head(f"{local.url}/cameras/door/stream", timeout=10)
    assert (reply.status_code, reply.content) == (200, b"")


def test_a_stream_to_a_client_of_http_1_0_has_no_chunks(local: Server) -> None:
    with connect(local) as old:
        old.sendall(b"GET /cameras/door/stream HTTP/1.0\r\nExpect: 100-continue\r\n\r\n")
        reply = b""
        while reply.count(b"--frame\r\n") < 3:  # a part a second, which says that no frame came yet
            reply += old.recv(65536)
    head, _, body = reply.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert b"transfer-encoding" not in head
    assert body.startswith(b"--frame\r\nContent-Type: image/jpeg\r\n")
    part = re.match(rb"--frame\r\n.*?Content-Length: (\d+)\r\n\r\n", body, re.DOTALL)
    assert part
    assert body[part.end() + int(part[1]) :].startswith(b"\r\n--frame\r\n")


def test_the_time_of_a_stream_is_that_to_its_beginning(local: Server) -> None:
    def measured(what: str) -> float:
        name = f'taijitu_request_seconds_{what}{{path="/cameras/{{name}}/stream"}} '
        lines = httpx.get(f"{local.url}/metrics").text.splitlines()
        return sum(float(line.removeprefix(name)) for line in lines if line.startswith(name))

    count, total_s, began = measured("count"), measured("sum"), time.monotonic()
    with httpx.stream("GET", f"{local.url}/cameras/door/stream", timeout=10) as reply:
        parts = reply.iter_raw()
        while b"Content-Type" not in next(parts):  # the second part comes a second later
            pass
        while b"Content-Type" not in next(parts):
            pass
    watched_s = time.monotonic() - began
    while measured("count") == count:
        assert time.monotonic() < began + 30
        time.sleep(0.05)
    assert measured("sum") - total_s < watched_s / 2


@pytest.mark.parametrize("path", ["/models", "/cameras/door/stream"])
def test_the_head_of_http_1_0_ends_with_its_connection(local: Server, path: str) -> None:
    with connect(local) as old:
        old.sendall(b"HEAD %s HTTP/1.0\r\n\r\n" % path.encode())
        reply = received(old)
    assert reply.startswith(b"HTTP/1.1 200 ")
    assert reply.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/classify", "POST"),
        ("PUT", "/classify", "POST"),
        ("POST", "/health/live", "GET, HEAD"),
        ("DELETE", "/v2/models/tiny", "GET, HEAD"),
        ("GET", "/v2/models/tiny/infer", "POST"),
        ("GET", "/cameras/door/stop", "POST"),
        ("OPTIONS", "/", "GET, HEAD"),
    ],
)
def test_a_wrong_method_is_told_the_right_ones(local: Server, method: str, path: str, allowed: str) -> None:
    reply = httpx.request(method, f"{local.url}{path}")
    assert (reply.status_code, reply.headers["Allow"], list(reply.json())) == (405, allowed, ["error"])


def test_an_unknown_path_names_a_close_one(local: Server) -> None:
    reply = httpx.get(f"{local.url}/clasify")
    assert reply.status_code == 404
    assert "/classify" in reply.json()["error"]


def test_a_websockets_path_says_so(local: Server) -> None:
    reply = httpx.get(f"{local.url}/cameras/door/results")
    assert (reply.status_code, reply.headers["Upgrade"]) == (426, "websocket")
    with pytest.raises(InvalidStatus) as refused, websocket_connect(local.url.replace("http", "ws") + "/classify"):
        pass
    assert refused.value.response.status_code == 404


def test_no_path_takes_a_query_parameter_that_it_does_not_know(local: Server, document: dict[str, Any]) -> None:
    asked = 0
    for path, operations in document["paths"].items():
        for method in operations:
            url = local.url + path.format(model="tiny", version="1", name="door")
            reply = httpx.request(method, url, params={"explained": "1"})
            assert reply.status_code == 400, (method, path)
            assert "'explained'" in reply.json()["error"]
            asked += 1
    assert asked > 15


def test_a_mistyped_query_parameter_names_the_close_one(local: Server) -> None:
    reply = httpx.post(f"{local.url}/classify?versoin=1", content=b"x")
    assert reply.status_code == 400
    assert "did you mean version?" in reply.json()["error"]
    twice = httpx.post(f"{local.url}/classify?top=1&top=2", content=b"x")
    assert (twice.status_code, "top, top" in twice.json()["error"]) == (400, True)


def test_the_document_says_what_each_path_may_refuse(document: dict[str, Any]) -> None:
    paths = document["paths"]
    of_classify = paths["/classify"]["post"]["responses"]
    assert {"400", "401", "404", "408", "413", "415", "421", "422", "431", "500", "503", "504"} < set(of_classify)
    assert "403" not in of_classify
    assert "origin" not in str(of_classify)
    assert "403" in paths["/v2/repository/models/{model}/load"]["post"]["responses"]
    assert "404" not in paths["/health/live"]["get"]["responses"]
    names = [operation["operationId"] for operations in paths.values() for operation in operations.values()]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:80", "app.localhost", "127.0.0.1:9", "127.8.8.8", "[::1]:80"])
def test_a_local_server_answers_under_the_names_of_its_machine(local: Server, host: str) -> None:
    assert httpx.get(f"{local.url}/models", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "a b", "[::1", ""]
)
def test_a_local_server_answers_under_no_other_name(local: Server, host: str) -> None:
    reply = httpx.get(f"{local.url}/models", headers={"Host": host})
    assert reply.status_code == 421
    assert "--allowed-hosts" in reply.json()["error"]
    assert httpx.get(f"{local.url}/health/ready", headers={"Host": host}).status_code == 200


def test_a_rebound_page_stops_no_camera_and_opens_no_websocket(local: Server) -> None:
    assert httpx.post(f"{local.url}/cameras/door/stop", headers=REBOUND).status_code == 421
    with connect(local) as connection:
        connection.sendall(
            b"GET /cameras/door/results HTTP/1.1\r\nHost: evil.example\r\nOrigin: http://evil.example\r\n"
            b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        assert [status for status, _ in answers(connection)] == [421]
    assert httpx.get(f"{local.url}/cameras/door").json()["state"] != "stopped"


@pytest.mark.parametrize("host", [b"", b"Host: localhost\r\nHost: localhost\r\n"], ids=["none", "two"])
def test_a_request_has_one_host(local: Server, host: bytes) -> None:
    with connect(local) as connection:
        connection.sendall(b"GET /v2 HTTP/1.1\r\nConnection: close\r\n" + host + b"\r\n")
        assert [status for status, _ in answers(connection)] == [400]
        # A request of HTTP/1.0 needs none.
    with connect(local) as connection:
        connection.sendall(b"GET /v2 HTTP/1.0\r\n\r\n")
        assert [status for status, _ in answers(connection)] == [200]


def test_allowed_hosts_are_served_and_a_server_for_all_checks_only_with_them(
    start_server: Callable[..., Server], tiny: Path
) -> None:
    for flags, statuses in [
        (["--allowed-hosts", "a.example,*.b.example"], {"a.example:80": 200, "x.b.example": 200, "evil.example": 421}),
        (["--allowed-hosts", "*"], {"evil.example": 200}),
        (["--host", "0.0.0.0"], {"evil.example": 200}),
        (["--host", "0.0.0.0", "--allowed-hosts", "a.example"], {"a.example": 200, "evil.example": 421}),
    ]:
        running = start_server(str(tiny), "--no-access-log", *flags)
        found = {host: httpx.get(f"{running.url}/models", headers={"Host": host}).status_code for host in statuses}
        assert found == statuses, flags


def test_a_browser_that_says_where_its_page_is_from_is_believed(local: Server) -> None:
    start = f"{local.url}/cameras/door/start"
    behind_a_proxy = {"Origin": "https://public.example", "Sec-Fetch-Site": "same-origin"}
    assert httpx.post(start, headers=behind_a_proxy).status_code == 200
    for site in ("cross-site", "same-site"):
        assert httpx.post(start, headers={"Origin": local.url, "Sec-Fetch-Site": site}).status_code == 403
    assert httpx.post(start, headers={"Origin": "https://public.example"}).status_code == 403


def test_open_paths_need_no_key_and_all_others_do(
    start_server: Callable[..., Server], tiny: Path, tmp_path: Path, document: dict[str, Any]
) -> None:
    keys = tmp_path / "keys"
    keys.write_text(KEY)
    camera = ["--camera", "door=http://127.0.0.1:9/none"]
    running = start_server(str(tiny), "--api-keys", str(keys), "--no-access-log", *camera)
    is_open = set()
    for path, operations in document["paths"].items():
        for method in operations:
            url = running.url + path.format(model="tiny", version="1", name="door")
            if httpx.request(method, url).status_code != 401:
                is_open.add(path)
    assert is_open == {"/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready"}
    for path, status in {"/": 200, "/docs": 401, "/openapi.json": 401, "/nowhere": 401, "//": 401, "/models/": 401,
                         "/health/live/": 401, "/cameras/door/results": 401}.items():  # fmt: skip
        assert httpx.get(f"{running.url}{path}").status_code == status, path
