"""Connections at the edge of HTTP, against a real server: upgrades, trailers, pipelines, and clients that never end."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import socket
import time
from collections.abc import Iterator

import httpx
import pytest
from PIL import Image
from websockets.sync.client import connect as websocket_connect

from tests.helpers.raw_http import answers, connect, received
from tests.helpers.server_process import Server
from tests.helpers.tiny_model import make_tiny_onnx

ASK = b"GET /v2 HTTP/1.1\r\nHost: localhost\r\n\r\n"
BROKEN_BODY = b"POST /classify HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nno chunk\r\n"
DAMAGED_TARGET = b"GET http://[::1/ HTTP/1.1\r\nHost: localhost\r\n\r\n"
WEBSOCKET = b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
H2C = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    model = make_tiny_onnx(tmp_path_factory.mktemp("tiny") / "tiny.onnx")
    limits = ["--header-timeout-s", "1", "--body-timeout-s", "1", "--keep-alive-s", "0.9"]
    with Server(str(model), "--camera", "door=http://127.0.0.1:9/none", *limits) as running:
        yield running


@pytest.fixture(autouse=True)
def still_right_afterwards(edge: Server, blue: bytes) -> Iterator[None]:
    yield
    assert label(httpx.post(f"{edge.url}/classify", content=blue).json()) == "blue"


def label(reply: dict[str, list[dict[str, str]]]) -> str:
    return reply["answers"][0]["label"]


def sent_picture(picture: bytes, headers: bytes = b"") -> bytes:
    return (
        b"POST /classify HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n%s\r\n" % (len(picture), headers)
        + picture
    )


@pytest.mark.parametrize("size", [1, 100, 10_000])
@pytest.mark.parametrize("upgrade", [H2C, b"Connection: upgrade\r\nUpgrade: something\r\n"])
def test_a_request_for_another_protocol_is_answered_in_http(
    edge: Server, blue: bytes, upgrade: bytes, size: int
) -> None:
    data = (ASK.replace(b"\r\n\r\n", b"\r\n" + upgrade + b"\r\n") + sent_picture(blue, upgrade)) * 2
    with connect(edge) as connection:
        for start in range(0, len(data), size):
            connection.sendall(data[start : start + size])
        found = answers(connection)
    assert [status for status, _ in found] == [200] * 4
    assert [label(found[1][1]), label(found[3][1])] == ["blue", "blue"]


def test_spaces_behind_the_value_of_a_header_do_not_belong_to_it(edge: Server) -> None:
    with connect(edge) as connection:
        connection.sendall(
            b"GET /models HTTP/1.1\r\nHost: localhost \t\r\nX-Request-Id: mine \r\nConnection: close\r\n\r\n"
        )
        head = received(connection).partition(b"\r\n\r\n")[0]
    assert head.startswith(b"HTTP/1.1 200")
    assert b"\r\nx-request-id: mine\r\n" in head + b"\r\n"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (b"Content-Encoding: gzip\r\nContent-Encoding: gzip\r\n", b"415"),
        (b"Content-Encoding: identity\r\nContent-Encoding: br\r\n", b"415"),
        (b"Content-Type: text/plain\r\nContent-Type: image/png\r\n", b"415"),
        (b"Transfer-Encoding: gzip, chunked\r\n", b"400"),
    ],
)
def test_what_was_done_twice_to_a_body_is_not_undone_once(
    edge: Server, blue: bytes, headers: bytes, status: bytes
) -> None:
    packed = gzip.compress(gzip.compress(blue))
    body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(packed), packed) if b"chunked" in headers else packed
    length = b"" if b"chunked" in headers else b"Content-Length: %d\r\n" % len(packed)
    with connect(edge) as connection:
        connection.sendall(b"POST /classify HTTP/1.1\r\nHost: localhost\r\n%s%s\r\n%s" % (headers, length, body))
        assert received(connection).split()[1] == status


def test_a_body_after_an_upgrade_is_not_a_request(edge: Server) -> None:
    with connect(edge) as connection:
        head, _, body = sent_picture(ASK, H2C).partition(b"\r\n\r\n")
        connection.sendall(head + b"\r\n\r\n")
        time.sleep(0.1)
        connection.sendall(body)
        assert [status for status, _ in answers(connection)] == [422]


def test_bytes_for_a_tunnel_are_not_a_request(edge: Server) -> None:
    with connect(edge) as connection:
        connection.sendall(b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n" + ASK)
        assert [status for status, _ in answers(connection)] == [400]


CHUNKED = b"Transfer-Encoding: chunked\r\n"


@pytest.mark.parametrize("trailers", [b"a: b\r\n" * 200_000, b"a: " + b"b" * 1_200_000, b"1;" + b"b" * 1_200_000])
def test_trailers_count_as_headers(edge: Server, trailers: bytes) -> None:
    end = b"" if trailers.startswith(b"1;") else b"0\r\n"  # what comes behind the chunk's length counts too
    with connect(edge) as connection:
        connection.sendall(sent_picture(b"", CHUNKED).replace(b"Content-Length: 0\r\n", b"") + end)
        time.sleep(0.05)
        with contextlib.suppress(OSError):
            connection.sendall(trailers)
        found = answers(connection)
    assert [status for status, _ in found] == [431]
    assert found[0][1]["error"].endswith("larger than 65536 bytes; send less")


def test_a_body_in_small_chunks_is_taken_and_its_trailers_change_nothing(edge: Server) -> None:
    out = io.BytesIO()
    Image.new("RGB", (90, 60), (0, 0, 255)).save(out, "BMP")
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in out.getvalue())
    assert len(chunks) - out.tell() > 65_536  # more bytes around the body than headers may have
    head = b"POST /classify HTTP/1.1\r\nHost: localhost\r\nX-Request-ID: one\r\n" + CHUNKED + b"\r\n"
    with connect(edge) as connection:
        connection.sendall(head)
        time.sleep(0.05)
        connection.sendall(chunks + b"0\r\nX-Request-ID: two\r\nContent-Type: text/plain\r\n\r\n")
        reply = received(connection)
    assert reply.startswith(b"HTTP/1.1 200")
    assert b"x-request-id: one\r\n" in reply


def test_a_client_that_reads_no_responses_is_disconnected(edge: Server) -> None:
    count = 400
    with connect(edge, receive_bytes=4096) as connection:
        connection.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * count)
        time.sleep(2)
        taken = received(connection)
    assert 0 < taken.count(b"HTTP/1.1 200") < count


@pytest.mark.parametrize("body", [b"", b"0123"])
def test_a_handshake_that_waits_for_a_body_is_ended(edge: Server, body: bytes) -> None:
    upgrade = WEBSOCKET + b"Content-Length: 10\r\n"
    with connect(edge) as connection:
        connection.sendall(b"GET /cameras/door/results HTTP/1.1\r\nHost: localhost\r\n" + upgrade + b"\r\n" + body)
        assert [status for status, _ in answers(connection)] == [408]


def test_a_good_handshake_outlives_the_time_for_it(edge: Server) -> None:
    with websocket_connect(edge.url.replace("http", "ws") + "/cameras/door/results") as results:
        until = time.monotonic() + 1.3
        while time.monotonic() < until:
            assert json.loads(results.recv(timeout=3))["name"] == "door"


def test_a_client_that_disconnects_with_requests_waiting_is_not_an_error(edge: Server, blue: bytes) -> None:
    for count in (2, 20, 200):
        with connect(edge) as connection:
            connection.sendall((sent_picture(blue) + ASK) * count)
            connection.recv(1)  # the fixture `edge` looks for errors in the log


def test_pipelined_requests_have_time_of_their_own_each(edge: Server, blue: bytes) -> None:
    request = sent_picture(blue)
    pieces = [request[:-1], *[request[-1:] + request[:-1]] * 4, request[-1:]]
    with connect(edge) as connection:
        for piece in pieces:  # 2 s all together, of which each request may take 1
            connection.sendall(piece)
            time.sleep(0.4)
        assert [status for status, _ in answers(connection)] == [200] * 5


def test_an_idle_connection_is_kept_for_a_part_of_a_second(edge: Server) -> None:
    with connect(edge) as connection:
        for _ in range(3):
            connection.sendall(ASK)
            time.sleep(0.3)
        began = time.monotonic()
        assert [status for status, _ in answers(connection)] == [200] * 3
    assert time.monotonic() - began < 5  # by the server, not by the test's own timeout


def counted(server: Server) -> float:
    """Return how many responses the metrics have counted, except those of /metrics."""
    lines = httpx.get(f"{server.url}/metrics").text.splitlines()
    return sum(
        float(line.split()[-1])
        for line in lines
        if line.startswith("taijitu_requests_total{") and 'path="/metrics"' not in line
    )


@pytest.mark.parametrize("is_complete", [True, False])
def test_a_connection_whose_request_was_answered_before_its_body_came_is_closed(
    edge: Server, is_complete: bool
) -> None:
    before = counted(edge)
    with connect(edge) as connection:
        request = sent_picture(b"abcdefg").replace(b"/classify", b"/nowhere")
        connection.sendall(request[:-7])
        assert connection.recv(1000).startswith(b"HTTP/1.1 404")
        connection.sendall(request[-7:] if is_complete else request[-7:-2])
        began = time.monotonic()
        assert received(connection) == b""
    assert time.monotonic() - began < 5  # by the server, not by the test's own timeout
    assert counted(edge) == before + 1


@pytest.mark.parametrize("path", ["/nowhere", "/classify"])
def test_a_client_that_wants_no_further_request_can_send_its_body_to_the_end(edge: Server, path: str) -> None:
    with connect(edge) as connection:
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 17000000\r\n\r\n"
        connection.sendall(head.encode())
        time.sleep(0.1)  # it is answered now, as its path or its length is wrong
        connection.sendall(bytes(17_000_000))
        assert connection.recv(1000).split()[1] in (b"404", b"413")


@pytest.mark.parametrize("body", [b"", b"Content-Length: 10\r\n"])
@pytest.mark.parametrize("count", [1, 2])
def test_a_handshake_does_not_overtake_responses(edge: Server, blue: bytes, count: int, body: bytes) -> None:
    handshake = b"GET /cameras/door/results HTTP/1.1\r\nHost: localhost\r\n" + WEBSOCKET + body + b"\r\n"
    assert answers_of_a_pipeline(edge, blue, count, handshake, sends_no_more=False) == [400]


@pytest.mark.parametrize(
    "target", [b"http://[::1/", b"/caf\xe9", b"http://a:99999999/", b"//", b"\xff\xfe", b"http://a b/", b"http://@/"]
)
@pytest.mark.parametrize("headers", [b"", WEBSOCKET])
def test_a_damaged_target_is_answered(edge: Server, target: bytes, headers: bytes) -> None:
    with connect(edge) as connection:
        connection.sendall(b"GET " + target + b" HTTP/1.1\r\nHost: localhost\r\n" + headers + b"\r\n")
        assert received(connection).split()[1] in (b"400", b"404")  # and nothing in the log: see `edge`


def test_a_damaged_target_after_a_good_request_is_answered_too(edge: Server) -> None:
    with connect(edge) as connection:
        connection.sendall(ASK)
        assert connection.recv(1000).startswith(b"HTTP/1.1 200")
        connection.sendall(DAMAGED_TARGET)
        assert [status for status, _ in answers(connection)] == [400]


def answers_of_a_pipeline(server: Server, picture: bytes, count: int, rest: bytes, sends_no_more: bool) -> list[int]:
    """Send `count` complete requests and `rest` at once; return the statuses of what follows the complete ones."""
    with connect(server) as connection:
        connection.sendall(sent_picture(picture) * count + rest)
        if sends_no_more:
            connection.shutdown(socket.SHUT_WR)
        began = time.monotonic()
        found = answers(connection)
    assert time.monotonic() - began < 5  # closed by the server, not by the test's own timeout
    assert [label(reply) for _, reply in found[:count]] == ["blue"] * count
    return [status for status, _ in found[count:]]


@pytest.mark.parametrize("count", [1, 2, 20])
@pytest.mark.parametrize("rest", [b"", ASK[:9], ASK[:-1], sent_picture(b"abcdefg")[:-2]])
def test_complete_requests_are_answered_though_the_client_sends_no_more(
    edge: Server, blue: bytes, count: int, rest: bytes
) -> None:
    expected = [400] if rest else []
    assert answers_of_a_pipeline(edge, blue, count, rest, sends_no_more=True) == expected


@pytest.mark.parametrize("count", [1, 2, 20])
@pytest.mark.parametrize("sends_no_more", [False, True])
@pytest.mark.parametrize("rest", [b"no HTTP\r\n\r\n", DAMAGED_TARGET, BROKEN_BODY])
def test_a_damaged_request_is_answered_after_the_complete_ones(
    edge: Server, blue: bytes, count: int, rest: bytes, sends_no_more: bool
) -> None:
    assert answers_of_a_pipeline(edge, blue, count, rest, sends_no_more) == [400]


@pytest.mark.parametrize("rest", [ASK[:9], sent_picture(b"abcdefg")[:-2]])
def test_a_request_that_comes_too_slowly_is_answered_after_the_complete_ones(
    edge: Server, blue: bytes, rest: bytes
) -> None:
    assert answers_of_a_pipeline(edge, blue, 2, rest, sends_no_more=False) == [408]


@pytest.mark.parametrize("part", [ASK[:9], ASK[:-1], sent_picture(b"abcdefg")[:-2]])
def test_a_request_that_ends_too_early_is_told_so(edge: Server, part: bytes) -> None:
    with connect(edge) as connection:
        connection.sendall(part)
        connection.shutdown(socket.SHUT_WR)
        assert [status for status, _ in answers(connection)] == [400]


def test_a_client_that_sends_nothing_and_no_more_is_sent_nothing(edge: Server) -> None:
    with connect(edge) as connection:
        connection.shutdown(socket.SHUT_WR)
        assert received(connection) == b""
