"""A request as our handlers see it, and what they answer: bytes and a few words, for it is the hot path."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import parse_qsl

from starlette.types import Receive, Scope

from taijitu_server.errors import ClientGoneError, bad_request
from taijitu_server.http.connection import CONNECTION, Connection
from taijitu_server.models.batcher import Job, Scores

JSON = "application/json"
MAX_QUERY_FIELDS = 16


@dataclass(slots=True)
class Reply:
    """A whole answer."""

    body: bytes
    status: int = 200
    content_type: str = JSON
    headers: dict[str, str] = field(default_factory=dict)


class Call:
    """One request. `notes` goes into its log line."""

    def __init__(self, scope: Scope, receive: Receive, id_: str) -> None:
        self.scope = scope
        self.receive = receive
        self.id = id_
        self.path: str = scope["path"]
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
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
        """The query's fields; HttpError 400 for too many."""
        text = self.scope["query_string"].decode("latin-1")
        if not text:
            return {}
        try:
            return dict(parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_QUERY_FIELDS))
        except ValueError:
            raise bad_request(f"the query has more than {MAX_QUERY_FIELDS} fields") from None

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


def server_timing(stages_ms: Mapping[str, float]) -> str:
    """The value of a Server-Timing header."""
    return ", ".join(f"{name};dur={ms}" for name, ms in stages_ms.items())
