"""HTTP by hand, for requests that no client would send."""

from __future__ import annotations

import json
import re
import socket
from typing import TYPE_CHECKING, Any

import httpx

if TYPE_CHECKING:
    from tests.helpers.server_process import Server


def connect(server: Server, receive_bytes: int = 0) -> socket.socket:
    """Connect; `receive_bytes`: the system's buffer for a client that does not read, 0 for its default."""
    url = httpx.URL(server.url)
    connection = socket.socket()
    connection.settimeout(10)
    if receive_bytes:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    connection.connect((url.host, url.port or 80))
    return connection


def received(connection: socket.socket) -> bytes:
    """Receive everything until the server closes."""
    parts = []
    try:
        while part := connection.recv(65536):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


def answers(connection: socket.socket) -> list[tuple[int, Any]]:
    """Receive status and JSON of every response until the server closes."""
    found, rest = [], received(connection)
    while rest:
        head, _, rest = rest.partition(b"\r\n\r\n")
        length = int(re.search(rb"\r\ncontent-length: (\d+)", head)[1])  # type: ignore[index]
        found.append((int(head.split()[1]), json.loads(rest[:length])))
        rest = rest[length:]
    return found
