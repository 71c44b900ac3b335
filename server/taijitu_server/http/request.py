"""A request as the handlers see it. This is the hot path: bytes and few objects."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Collection, Iterable, Mapping
from functools import cached_property
from typing import Any
from urllib.parse import parse_qsl

from starlette.types import Receive, Scope

from taijitu_runtime.answers import Scores
from taijitu_runtime.errors import close_names
from taijitu_server.errors import ClientGoneError, HttpError, bad_request
from taijitu_server.http.connection import CONNECTION, Connection
from taijitu_server.models.batcher import Job

WEBSOCKET = "WEBSOCKET"  # the method of a WebSocket's route, where others have GET or POST
MAX_QUERY_FIELDS = 16
PROBABILITY = re.compile(r"[0-9]{1,20}(\.[0-9]{1,40})?(e[+-]?[0-9]{1,3})?", re.IGNORECASE)


class Request:
    """One request, or the handshake of a WebSocket.

    Attributes:
        id: The value of X-Request-ID, which the client gave or the middleware made.
        traceparent: The client's W3C trace context, b"" without a valid one.
        path_values: The values of the placeholders in the route's path, by name.
        notes: Further fields of the request's line in the access log.
        held_bytes: Bytes of the body that `BodyReader` counts as held.
        job: What a model was asked for this request; None before that.
        read_s: Time that reading the body took.
    """

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self.scope = scope
        self.receive = receive
        self.id = ""
        self.traceparent = b""
        self.path: str = scope["path"]
        self.method: str = scope["method"] if scope["type"] == "http" else WEBSOCKET
        self.headers = _joined(scope["headers"])
        self.path_values: Mapping[str, str] = {}
        self.began = time.perf_counter()
        self.read_s = 0.0
        self.held_bytes = 0
        self.job: Job | None = None
        self.notes: dict[str, Any] = {}

    @property
    def connection(self) -> Connection | None:
        """The client's connection; None under another server's protocol, such as Ray's."""
        extensions = self.scope.get("extensions")
        return extensions[CONNECTION]["connection"] if extensions and CONNECTION in extensions else None

    @property
    def identity_headers(self) -> list[tuple[bytes, bytes]]:
        """The headers by which a client recognises the response to this request."""
        trace = [(b"traceparent", self.traceparent)] if self.traceparent else []
        return [(b"x-request-id", self.id.encode()), *trace]

    def header(self, name: bytes) -> str:
        """Return the value of a header, named in lower case; empty if it is absent."""
        return self.headers.get(name, b"").decode("latin-1")

    @cached_property
    def query(self) -> Mapping[str, str]:
        """The fields of the query; HttpError 400 for too many of them or for a repeated name."""
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
        """Return a field of the query as a number of at least 1; HttpError 400 for any other value."""
        text = self.query.get(name)
        if text is None:
            return default
        if not (text.isascii() and text.isdigit() and len(text) < 20 and int(text) > 0):
            raise bad_request(f"query.{name}: got {text[:40]!r}, expected a whole number from 1")
        return int(text)

    def flag(self, name: str) -> bool:
        """Return whether a field of the query is 1; HttpError 400 for any other value than 0 and 1."""
        text = self.query.get(name, "0")
        if text not in ("0", "1"):
            raise bad_request(f"query.{name}: got {text[:40]!r}, expected 0 or 1")
        return text == "1"

    def probability(self, name: str) -> float | None:
        """Return a field of the query as a number from 0 to 1, None without it; HttpError 400 for any other value."""
        text = self.query.get(name)
        return None if text is None else probability_from_text(f"query.{name}", text)

    async def scores_of(self, job: Job) -> Scores:
        """Wait for the scores of a job. If the client leaves first, drop the job and raise ClientGoneError."""
        self.job = job
        connection = self.connection
        if connection is None:
            return await job.future
        if connection.is_gone:  # it left while a thread decompressed its body
            job.future.cancel()
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
        """Note the time of each stage for the access log, and return it, in milliseconds by stage."""
        stages = {"read": self.read_s, "decode": job.decode_s, "queue": job.queue_s, "infer": job.infer_s}
        stages_ms = {name: round(1e3 * seconds, 3) for name, seconds in stages.items()}
        self.notes["stages_ms"] = stages_ms
        self.notes["batch"] = job.batch
        return stages_ms

    @property
    def latency_ms(self) -> float:
        """Milliseconds since the request's headers arrived."""
        return round(1e3 * (time.perf_counter() - self.began), 3)


def probability_from_text(where: str, text: str) -> float:
    """Return a number from 0 to 1 as JSON writes it; HttpError 400 for any other text."""
    if not PROBABILITY.fullmatch(text) or not float(text) <= 1:
        raise bad_request(f"{where}: got {text[:40]!r}, expected a probability from 0 to 1")
    return float(text)


def check_names(where: str, given: Collection[str], known: Collection[str]) -> None:
    """Raise HttpError 400 for a name in `given` that is not in `known`: no field is ignored silently."""
    for name in given:
        if name not in known:
            raise unknown_name(where, name, known)


def unknown_name(where: str, name: str, known: Collection[str]) -> HttpError:
    """Return the error about a name that is not in `known`, with the closest known one."""
    close = close_names(name[:40], known, 1)
    hint = f"; did you mean {close[0]}?" if close else ""
    return bad_request(f"{where}: got {name[:40]!r}, expected {' or '.join(known) or 'none'}{hint}")


def _joined(headers: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Return the value of each header, those of a repeated one as a list: RFC 9110, section 5.3.

    The parser leaves the spaces behind a value, which do not belong to it.
    """
    found: dict[bytes, bytes] = {}
    for name, value in headers:
        value = value.rstrip(b" \t")
        found[name] = value if name not in found else b", ".join((found[name], value))
    return found
