"""The way of every request: its id, host, key, route, query, answer or error, metrics and log line, in this order."""

from __future__ import annotations

import asyncio
import itertools
import logging
import re
import secrets
from typing import Any

from starlette.types import Receive, Scope, Send

from taijitu_server.errors import (
    DRAINING,
    OF_EVERY_REQUEST,
    ClientGoneError,
    HttpError,
    error_body,
    http_error,
    overloaded,
)
from taijitu_server.http.exchange import Call, Reply, WholeReply, check_names
from taijitu_server.http.router import Methods, Route, Router
from taijitu_server.logs import json_line, now
from taijitu_server.state import ServerState

log = logging.getLogger("taijitu.server")

ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
GONE = 499  # nginx's number, for a client that left; never sent
MAX_LOGGED_PATH = 200


class Middleware:
    """ASGI application for HTTP and WebSockets around the routes of `router`."""

    def __init__(self, state: ServerState, router: Router) -> None:
        self.state = state
        self.router = router
        self._process = secrets.token_hex(4)
        self._count = itertools.count(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        call = self._with_id(scope, receive)
        methods, call.names = self.router.find(call.path)
        reply, reason = await self._answer(call, methods)
        if reply is not None:
            await self._send(reply, call, send)
        route = next(iter(methods.values()), None)
        self._record(call, route.path if route else "other", reply.status if reply else GONE, reason)

    async def _answer(self, call: Call, methods: Methods) -> tuple[Reply | None, str]:
        route: Route | None = None
        try:
            is_probe = any(route.is_probe for route in methods.values())
            self.state.hosts.check(call, any_name=is_probe)
            if not any(route.is_open for route in methods.values()):
                self.state.keys.check(call)
            route = self.router.route(methods, call)
            if call.scope["query_string"]:
                check_names("the query", call.query, route.query_names)
            return await route.handler(self.state, call), ""
        except ClientGoneError:
            return None, "client_gone"
        except asyncio.CancelledError:  # uvicorn gives up at the end of the shutdown's time
            return _error(self._draining())
        except Exception as error:
            found = http_error(error)
            if found.status == 500:
                log.error("request %s failed: %s", call.id, error, exc_info=error.__cause__ or error)
            elif route is not None and found.kind not in (*route.errors, *OF_EVERY_REQUEST):
                log.error("request %s: %s may be refused as %s, and does not say so", call.id, route.path, found.reason)
            return _error(found)
        finally:
            self.state.bodies.release(call)

    def _draining(self) -> HttpError:
        error = overloaded(DRAINING, "the server is shutting down", self.state.settings.retry_after_s)
        error.headers["Connection"] = "close"
        return error

    async def _send(self, reply: Reply, call: Call, send: Send) -> None:
        if self.state.is_draining and isinstance(reply, WholeReply):
            reply.headers = {**reply.headers, "Connection": "close"}  # the client's next request goes elsewhere
        try:
            await reply.send(call, send)
        except Exception as error:
            log.error("request %s failed while it was answered: %s", call.id, error, exc_info=error)
            raise

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
            "method": call.method,
            "path": call.path[:MAX_LOGGED_PATH],
            "status": status,
            "latency_ms": latency_ms,
        }
        if reason:
            line["reason"] = reason
        self.state.access_log.put(json_line(line | call.notes))


def _error(error: HttpError) -> tuple[Reply, str]:
    return WholeReply(error_body(error.text), error.status, headers=error.headers), error.reason
