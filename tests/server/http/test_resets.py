"""Clients that end with a reset (RST), as those behind a load balancer do, instead of a FIN."""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.helpers.raw_http import connect
from tests.helpers.server_process import Server
from tests.helpers.tiny_model import make_tiny_onnx

COUNT = 600
UPGRADE = b"Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 10\r\n"
LARGE = b"X-Large: " + b"x" * 60_000 + b"\r\n"  # 36 MB for all of them


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Start a server whose timers outlast the tests."""
    model = make_tiny_onnx(tmp_path_factory.mktemp("tiny") / "tiny.onnx")
    limits = ["--keep-alive-s", "600", "--header-timeout-s", "600", "--body-timeout-s", "600"]
    with Server(str(model), "--camera", "door=http://127.0.0.1:9/none", *limits) as running:
        yield running


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def memory_mb(server: Server) -> float:
    pages = int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def growth_mb(server: Server, act: Callable[[], None]) -> float:
    """Return the memory that a third of the clients do not cost, and all of them would."""
    for _ in range(COUNT // 3):
        act()
    before = memory_mb(server)
    for _ in range(COUNT):
        act()
    time.sleep(0.5)
    return memory_mb(server) - before


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /v2 HTTP/1.1\r\nHost: localhost\r\n" + LARGE + b"\r\n",
        b"GET /cameras/door/results HTTP/1.1\r\nHost: localhost\r\n" + UPGRADE + LARGE + b"\r\n",
        b"POST /classify HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n" + LARGE + b"\r\n" + b"x" * 50_000,
    ],
    ids=["an idle connection", "a handshake", "half a body"],
)
def test_a_reset_frees_what_the_connection_held(patient: Server, request_: bytes) -> None:
    def act() -> None:
        connection = connect(patient)
        connection.sendall(request_)
        if b"/v2" in request_:
            connection.recv(1000)
        reset(connection)

    assert growth_mb(patient, act) < 15
    assert httpx.get(f"{patient.url}/health/ready").status_code == 200


def test_a_reset_at_any_moment_is_not_an_error(patient: Server, photograph: Path) -> None:
    picture = photograph.read_bytes()
    whole = b"POST /classify HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(picture) + picture
    for request_ in (
        whole,
        whole * 3,
        b"broken\r\n\r\n",
        whole + b"broken\r\n\r\n",
        b"GET /openapi.json HTTP/1.1\r\n\r\n" * 9,
    ):
        for pause_s in (0.0, 0.001, 0.01, 0.05):
            connection = connect(patient)
            connection.sendall(request_)
            time.sleep(pause_s)
            reset(connection)  # the fixture looks for errors in the log
    assert httpx.post(f"{patient.url}/classify", content=picture).status_code == 200
