"""Servers for the tests, and a client."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from PIL import Image

from tests.helpers.image_file import image_file
from tests.helpers.server_process import Server


@pytest.fixture
def start_server() -> Iterator[Callable[..., Server]]:
    """Return a function that starts a server with the given arguments, which ends with the test."""
    with contextlib.ExitStack() as running:
        yield lambda *arguments, **options: running.enter_context(Server(*arguments, **options))


@pytest.fixture(scope="module")
def server(shipped_onnx: Path) -> Iterator[Server]:
    with Server(str(shipped_onnx), levels=("info",)) as running:
        yield running


@pytest.fixture(scope="session")
def jpeg(photograph: Path) -> bytes:
    return image_file(Image.open(photograph), "JPEG", quality=90)


@pytest.fixture(scope="session")
def blue() -> bytes:
    return image_file(Image.new("RGB", (64, 64), (0, 0, 255)))


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=30) as connected:
        yield connected
