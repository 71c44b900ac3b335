"""The outermost layer: every request passes here for its id, key, limits, errors, metrics and log line.

The requests that carry data are answered by our own handlers, straight from bytes to bytes; FastAPI gets the others.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import re
import secrets
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from taijitu_server.errors import ClientGoneError, HttpError, error_body, http_error, overloaded
from taijitu_server.http.exchange import Call, Reply
from taijitu_server.logs import json_line, now
from taijitu_server.state import ServerState

log = logging.getLogger("taijitu.server")

Handler = Callable[[Call], Awaitable[Reply]]
Find = Callable[[str], tuple[str, Handler] | None]  # path -> its documented form, and who answers POST there

ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
GONE = 499  # nginx's number, for a client that left; never sent
MAX_LOGGED_PATH = 200


class Middleware:
    """ASGI middleware around the FastAPI application."""

    def __init__(self, app: ASGIApp, state: ServerState, find: Find) -> None:
        self.app = app
        self.state = state
        self.find = find
        self._process = secrets.token_hex(4)
        self._count = itertools.count(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            return await self._pass_on(self._with_id(scope, receive), send)
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        call = self._with_id(scope, receive)
        path, handler = self.find(call.path) or ("", None)
        if handler is None:
            return await self._pass_on(call, send)
        reply, reason = await self._answer(call, handler)
        if reply is not None:
            await _send(reply, call.id, send)
        self._record(call, path, reply.status if reply else GONE, reason)

    async def _answer(self, call: Call, handler: Handler) -> tuple[Reply | None, str]:
        try:
            self.state.keys.check(call)
            if call.scope["method"] != "POST":
                raise HttpError(405, "method", f"got {call.scope['method'][:20]}, expected POST", {"Allow": "POST"})
            if self.state.is_draining:
                raise self._draining()
            return await handler(call), ""
        except ClientGoneError:
            return None, "client_gone"
        except asyncio.CancelledError:  # uvicorn gives up at the end of the shutdown's time
            return _error(self._draining())
        except Exception as error:
            found = http_error(error)
            if found.status == 500:
                log.error("request %s failed: %s", call.id, error, exc_info=error.__cause__ or error)
            return _error(found)
        finally:
            self.state.bodies.release(call)

    def _draining(self) -> HttpError:
        error = overloaded("draining", "the server is shutting down", self.state.settings.retry_after_s)
        error.headers["Connection"] = "close"
        return error

    async def _pass_on(self, call: Call, send: Send) -> None:
        """Let FastAPI answer an HTTP request, or the handshake of a WebSocket and all that follows."""
        status = 0
        kind = "websocket." if call.scope["type"] == "websocket" else ""

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] in (f"{kind}http.response.start", "websocket.accept"):
                status = message.get("status", 101)
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", call.id.encode())]
            await send(message)

        try:
            self.state.keys.check(call)
            await self.app(call.scope, call.receive, noted)
        except HttpError as error:
            status = error.status
            await _send(_error(error)[0], call.id, send, kind)
        except Exception as error:
            log.error("request %s failed: %s", call.id, error, exc_info=error)
            if status:
                raise
            status = 500
            await _send(Reply(error_body("internal error"), 500), call.id, send, kind)
        route = call.scope.get("route")
        self._record(call, getattr(route, "path", "other"), status, "")

    def _with_id(self, scope: Scope, receive: Receive) -> Call:
        call = Call(scope, receive, "")
        given = call.headers.get(b"x-request-id")
        is_good = given is not None and ID.fullmatch(given)
        call.id = given.decode() if given and is_good else f"{self._process}-{next(self._count):x}"
        return call

    def _record(self, call: Call, path: str, status: int, reason: str) -> None:
        connection = call.connection
        if status == GONE and connection is not None and connection.refused is not None:
            status, reason = connection.refused
        latency_ms = call.latency_ms
        self.state.metrics.observe_request(path, status, reason, latency_ms / 1e3)
        if self.state.access_log is None:
            return
        line: dict[str, Any] = {
            "time": now(),
            "level": "error" if status == 500 else "info",
            "id": call.id,
            "method": call.scope.get("method", "WEBSOCKET"),
            "path": call.path[:MAX_LOGGED_PATH],
            "status": status,
            "latency_ms": latency_ms,
        }
        if reason:
            line["reason"] = reason
        self.state.access_log.put(json_line(line | call.notes))


def _error(error: HttpError) -> tuple[Reply, str]:
    return Reply(error_body(error.text), error.status, headers=error.headers), error.reason


async def _send(reply: Reply, id_: str, send: Send, kind: str = "") -> None:
    headers = [
        (b"content-type", reply.content_type.encode()),
        (b"content-length", b"%d" % len(reply.body)),
        (b"x-request-id", id_.encode()),
    ]
    if reply.headers:
        headers += [(name.lower().encode("latin-1"), text.encode("latin-1")) for name, text in reply.headers.items()]
    await send({"type": f"{kind}http.response.start", "status": reply.status, "headers": headers})
    await send({"type": f"{kind}http.response.body", "body": reply.body})
