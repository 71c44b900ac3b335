"""What a handler returns: something that sends itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from starlette.types import Send

from taijitu_server.http.request import WEBSOCKET, Request

JSON = "application/json"


class Response(Protocol):
    """A response: the middleware sends it, then logs it with its status."""

    status: int

    async def send(self, request: Request, send: Send) -> None:
        """Send the whole response."""


@dataclass(slots=True)
class WholeResponse:
    """A response whose body is complete before it is sent. For a HEAD request, the body is omitted."""

    body: bytes
    status: int = 200
    content_type: str = JSON
    headers: dict[str, str] = field(default_factory=dict)

    async def send(self, request: Request, send: Send) -> None:
        """Send headers and body; in answer to a WebSocket's handshake, as its refusal."""
        headers = [
            (b"content-type", self.content_type.encode()),
            (b"content-length", b"%d" % len(self.body)),
            *request.identity_headers,
        ]
        if self.headers:
            headers += [(name.lower().encode("latin-1"), text.encode("latin-1")) for name, text in self.headers.items()]
        kind = "websocket." if request.method == WEBSOCKET else ""
        await send({"type": f"{kind}http.response.start", "status": self.status, "headers": headers})
        await send({"type": f"{kind}http.response.body", "body": b"" if request.method == "HEAD" else self.body})


def server_timing(stages_ms: Mapping[str, float]) -> str:
    """Return the value of a Server-Timing header for the time of each stage, in milliseconds."""
    return ", ".join(f"{name};dur={ms}" for name, ms in stages_ms.items())
