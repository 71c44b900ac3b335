"""A request as our handlers see it, and what they answer: bytes and a few words, for it is the hot path."""

from __future__ import annotations

import asyncio
import difflib
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol
from urllib.parse import parse_qsl

from starlette.types import Receive, Scope, Send

from taijitu_runtime.answers import Scores
from taijitu_server.errors import ClientGoneError, HttpError, bad_request
from taijitu_server.http.connection import CONNECTION, Connection
from taijitu_server.models.batcher import Job

JSON = "application/json"
WEBSOCKET = "WEBSOCKET"  # the method of a route, where others have GET or POST
MAX_QUERY_FIELDS = 16


class Call:
    """One request, or the handshake of a WebSocket. `names`: the values in its path; `notes` goes into its log line."""

    def __init__(self, scope: Scope, receive: Receive, id_: str) -> None:
        self.scope = scope
        self.receive = receive
        self.id = id_
        self.path: str = scope["path"]
        self.method: str = scope["method"] if scope["type"] == "http" else WEBSOCKET
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.names: Mapping[str, str] = {}
        self.began = time.perf_counter()
        self.read_s = 0.0
        self.held_bytes = 0
        self.notes: dict[str, Any] = {}

    @property
    def connection(self) -> Connection | None:
        """Its connection, where our protocol serves it."""
        extensions = self.scope.get("extensions")
        return extensions[CONNECTION]["connection"] if extensions and CONNECTION in extensions else None

    def header(self, name: bytes) -> str:
        """A header's value, or nothing."""
        return self.headers.get(name, b"").decode("latin-1")

    @cached_property
    def query(self) -> Mapping[str, str]:
        """The query's fields; HttpError 400 for too many, or one that is there twice."""
        text = self.scope["query_string"].decode("latin-1")
        if not text:
            return {}
        try:
            fields = parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_QUERY_FIELDS)
        except ValueError:
            raise bad_request(f"the query has more than {MAX_QUERY_FIELDS} fields") from None
        found = dict(fields)
        if len(found) < len(fields):
            raise bad_request(f"got {', '.join(name[:40] for name, _ in fields)} in the query, expected each name once")
        return found

    def whole_number(self, name: str, default: int) -> int:
        """A field of the query as a number of at least 1; HttpError 400 for any other."""
        text = self.query.get(name)
        if text is None:
            return default
        if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text) > 0):
            raise bad_request(f"query.{name}: got {text[:40]!r}, expected a whole number from 1")
        return int(text)

    async def answered(self, job: Job) -> Scores:
        """The scores of a job, which is dropped where the client leaves before; then ClientGoneError."""
        connection = self.connection
        if connection is None:
            return await job.future
        connection.waiting = job.future
        try:
            return await job.future
        except asyncio.CancelledError:
            if connection.is_gone:
                raise ClientGoneError from None
            raise
        finally:
            connection.waiting = None

    def note_stages(self, job: Job) -> dict[str, float]:
        """Milliseconds in each stage, noted for the log."""
        stages = {"read": self.read_s, "decode": job.decode_s, "queue": job.queue_s, "infer": job.infer_s}
        stages_ms = {name: round(1e3 * seconds, 3) for name, seconds in stages.items()}
        self.notes["stages_ms"] = stages_ms
        self.notes["batch"] = job.batch
        return stages_ms

    @property
    def latency_ms(self) -> float:
        """Milliseconds since its headers were there."""
        return round(1e3 * (time.perf_counter() - self.began), 3)


class Reply(Protocol):
    """What a handler gives back: it is sent, then noted in the log with its status."""

    status: int

    async def send(self, call: Call, send: Send) -> None:
        """Send all of it."""


@dataclass(slots=True)
class WholeReply:
    """An answer that is there as a whole. For a HEAD request all but its body is sent."""

    body: bytes
    status: int = 200
    content_type: str = JSON
    headers: dict[str, str] = field(default_factory=dict)

    async def send(self, call: Call, send: Send) -> None:
        """Send its headers and its body; to a WebSocket's handshake, as the refusal that it is."""
        headers = [
            (b"content-type", self.content_type.encode()),
            (b"content-length", b"%d" % len(self.body)),
            (b"x-request-id", call.id.encode()),
        ]
        if self.headers:
            headers += [(name.lower().encode("latin-1"), text.encode("latin-1")) for name, text in self.headers.items()]
        kind = "websocket." if call.method == WEBSOCKET else ""
        await send({"type": f"{kind}http.response.start", "status": self.status, "headers": headers})
        await send({"type": f"{kind}http.response.body", "body": b"" if call.method == "HEAD" else self.body})


def server_timing(stages_ms: Mapping[str, float]) -> str:
    """The value of a Server-Timing header."""
    return ", ".join(f"{name};dur={ms}" for name, ms in stages_ms.items())


def check_names(where: str, given: Collection[str], known: Collection[str]) -> None:
    """HttpError 400 for a name in `given` that is not `known`, with the closest one: nothing is ignored silently."""
    for name in given:
        if name not in known:
            raise unknown_name(where, name, known)


def unknown_name(where: str, name: str, known: Collection[str]) -> HttpError:
    """The error about one name that is not `known`."""
    close = difflib.get_close_matches(name[:40], known, 1)
    hint = f"; did you mean {close[0]}?" if close else ""
    return bad_request(f"{where}: got {name[:40]!r}, expected {' or '.join(known) or 'none'}{hint}")
