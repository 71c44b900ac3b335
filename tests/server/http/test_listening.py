"""The addresses of a server."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.helpers.server_process import Server
from tests.helpers.tiny_model import make_tiny_onnx


@pytest.mark.parametrize("host", ["::1", "::"])
def test_ipv6(start_server: Callable[..., Server], tmp_path: Path, photograph: Path, host: str) -> None:
    if not socket.has_ipv6 or not Path("/proc/net/if_inet6").is_file():
        pytest.skip("no IPv6 here")
    running = start_server(str(make_tiny_onnx(tmp_path / "tiny.onnx")), "--host", host)
    port = running.url.rpartition(":")[2]
    assert running.url == f"http://[{host}]:{port}"
    reply = httpx.post(f"http://[::1]:{port}/classify", content=photograph.read_bytes(), timeout=30)
    assert reply.status_code == 200


@pytest.mark.parametrize("host", ["/tmp/taijitu.sock", "unix:/tmp/taijitu.sock", "nowhere.invalid", 70 * "ü"])
def test_a_wrong_address_is_one_line(tmp_path: Path, host: str) -> None:
    code, log = Server(str(make_tiny_onnx(tmp_path / "tiny.onnx")), "--host", host).ended()
    assert code == 2
    assert len(log.splitlines()) == 1
    assert host in log
