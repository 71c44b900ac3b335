"""A server for the tests of a module, and a client of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.helpers.server_process import Server


@pytest.fixture(scope="session")
def start_server() -> Callable[..., Server]:
    """Return a function that starts a server with the given arguments."""
    return Server


@pytest.fixture(scope="module")
def server(start_server: Callable[..., Server], shipped_onnx: Path) -> Iterator[Server]:
    running = start_server(str(shipped_onnx), "--port", "0")
    running.wait_until_ready()
    yield running
    code, log = running.stop()
    assert code == 0
    assert {line["level"] for line in map(json.loads, log.splitlines())} <= {"info"}  # for anything that the tests sent


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=30) as connected:
        yield connected
