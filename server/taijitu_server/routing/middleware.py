"""The steps of every request: id, host, API key, route, query, response or error, metrics, log line, in this order."""

from __future__ import annotations

import asyncio
import itertools
import logging
import re
import secrets
from typing import Any

from starlette.responses import Response as AnyResponse
from starlette.types import Receive, Scope, Send

from taijitu_server.errors import (
    CLIENT_GONE,
    DRAINING,
    ORIGIN,
    REQUEST_ERRORS,
    ClientGoneError,
    HttpError,
    error_body,
    http_error,
    overloaded,
)
from taijitu_server.http.request import Request, check_names
from taijitu_server.http.response import Response, WholeResponse
from taijitu_server.logs import json_line, now
from taijitu_server.routing.router import Methods, Route, Router
from taijitu_server.state import ServerState

log = logging.getLogger("taijitu.server")

ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
# W3C Trace Context: version, trace, parent, flags; only versions after 00 may append more fields.
TRACEPARENT = re.compile(
    rb"(?!ff|00.{54})[0-9a-f]{2}-(?P<trace>(?!0{32})[0-9a-f]{32})-(?P<parent>(?!0{16})[0-9a-f]{16})-[0-9a-f]{2}"
    rb"(?:-[\x21-\x7e]{0,200})?"
)
MAX_LOGGED_PATH = 200
PREFLIGHT = "taijitu.preflight"  # the key of the ASGI scope for CORS' response to a browser that asks first


class Middleware:
    """ASGI application for HTTP and WebSockets that dispatches to the routes of `router`."""

    def __init__(self, state: ServerState, router: Router) -> None:
        self.state = state
        self.router = router
        self._process = secrets.token_hex(4)
        self._count = itertools.count(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = self._with_id(scope, receive)
        methods, request.path_values = self.router.find(request.path)
        response, reason = await self._answer(request, methods)
        answered_s = request.latency_ms / 1e3  # before it is sent: a stream lasts as long as its viewer stays
        if response is not None:
            await self._send(response, request, send)
        route = next(iter(methods.values()), None)
        status = response.status if response else CLIENT_GONE.status
        self._record(request, route.path if route else "other", status, reason, answered_s)

    async def _answer(self, request: Request, methods: Methods) -> tuple[Response | None, str]:
        route: Route | None = None
        try:
            is_probe = any(route.is_probe for route in methods.values())
            self.state.hosts.check(request, any_name=is_probe)
            if PREFLIGHT in request.scope:
                return _preflight(request.scope[PREFLIGHT]), ""
            if not any(route.is_open for route in methods.values()):
                self.state.keys.check(request)
            route = self.router.route(methods, request)
            if request.scope["query_string"]:
                check_names("the query", request.query, route.query_names)
            return await route.handler(self.state, request), ""
        except ClientGoneError:
            return None, CLIENT_GONE.reason
        except asyncio.CancelledError:  # uvicorn cancels at the end of the time for the shutdown
            return _error(self._draining())
        except Exception as error:
            found = http_error(error)
            if found.status == 500:
                log.error("request %s failed: %s", request.id, error, exc_info=error.__cause__ or error)
            elif route is not None and found.kind not in (*route.errors, *REQUEST_ERRORS):
                text = "request %s: %s was refused as %s, a kind that its route does not declare"
                log.error(text, request.id, route.path, found.reason)
            return _error(found)
        finally:
            self.state.bodies.release(request)

    def _draining(self) -> HttpError:
        error = overloaded(DRAINING, "the server is shutting down", self.state.settings.retry_after_s)
        error.headers["Connection"] = "close"
        return error

    async def _send(self, response: Response, request: Request, send: Send) -> None:
        if self.state.is_draining and isinstance(response, WholeResponse):
            response.headers = {**response.headers, "Connection": "close"}  # sends the client's next request elsewhere
        try:
            await response.send(request, send)
        except Exception as error:
            log.error("request %s failed while its response was sent: %s", request.id, error, exc_info=error)
            raise

    def _with_id(self, scope: Scope, receive: Receive) -> Request:
        request = Request(scope, receive)
        given = request.headers.get(b"x-request-id")
        is_good = given is not None and ID.fullmatch(given)
        request.id = given.decode() if given and is_good else f"{self._process}-{next(self._count):x}"
        trace = TRACEPARENT.fullmatch(request.headers.get(b"traceparent", b""))
        if trace:
            request.traceparent = trace[0]
            request.notes = {"trace_id": trace["trace"].decode(), "parent_id": trace["parent"].decode()}
        return request

    def _record(self, request: Request, path: str, status: int, reason: str, answered_s: float) -> None:
        connection = request.connection
        if status == CLIENT_GONE.status and connection is not None and connection.refused is not None:
            status, reason = connection.refused.status, connection.refused.reason
        self.state.metrics.observe_request(path, status, reason, answered_s)
        if self.state.access_log is None:
            return
        line: dict[str, Any] = {
            "time": now(),
            "level": "error" if status == 500 else "info",
            "id": request.id,
            "method": request.method,
            "path": request.path[:MAX_LOGGED_PATH],
            "status": status,
            "latency_ms": request.latency_ms,
        }
        if reason:
            line["reason"] = reason
        self.state.access_log.put(json_line(line | request.notes))


def _preflight(response: AnyResponse) -> WholeResponse:
    """Return the response to a preflight in the form of all others; HttpError 403 where it is a refusal."""
    headers = {name: text for name, text in response.headers.items() if not name.startswith("content-")}
    text = bytes(response.body).decode()
    if response.status_code != 200:
        raise HttpError(ORIGIN, f"got {text.lower()}, expected GET or POST from an origin of --cors-origins", headers)
    return WholeResponse(text.encode(), content_type="text/plain", headers=headers)


def _error(error: HttpError) -> tuple[Response, str]:
    return WholeResponse(error_body(error.text), error.status, headers=error.headers), error.reason
