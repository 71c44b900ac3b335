"""Routes, and the choice of a request's route. The OpenAPI document is made of the same rows (openapi.py)."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from taijitu_runtime.errors import close_names
from taijitu_server.errors import METHOD, PATH, UPGRADE, ErrorKind, HttpError
from taijitu_server.http.request import WEBSOCKET, Request
from taijitu_server.http.response import JSON, Response
from taijitu_server.routing.schemas import Schema
from taijitu_server.state import ServerState

Handler = Callable[[ServerState, Request], Awaitable[Response]]
PLACEHOLDER = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Parameter:
    """A field of the query."""

    name: str
    schema: Schema
    description: str


@dataclass(frozen=True)
class Route:
    """One method on one path: its handler, its parameters, its response and its errors.

    The first line of the handler's docstring becomes the summary in the OpenAPI document.

    Attributes:
        query: Every parameter that the query may have.
        body: OpenAPI's media types of the body, by content type.
        body_required: A request without a body is refused.
        response: The schemas of a successful response, by content type.
        errors: The kinds that the handler may raise, in addition to REQUEST_ERRORS.
        is_open: The route needs no API key.
        is_probe: Orchestrators call the route, under any host name.
        is_documented: The route is part of the API.
    """

    method: str
    path: str
    handler: Handler
    tag: str
    query: tuple[Parameter, ...] = ()
    body: Mapping[str, Any] = field(default_factory=dict)
    body_required: bool = False
    response: Mapping[str, Schema] = field(default_factory=lambda: {JSON: {"type": "object"}})
    errors: tuple[ErrorKind, ...] = ()
    is_open: bool = False
    is_probe: bool = False
    is_documented: bool = True
    query_names: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "query_names", tuple(parameter.name for parameter in self.query))

    @property
    def placeholders(self) -> list[str]:
        """The names of the placeholders in the path."""
        return PLACEHOLDER.findall(self.path)


Methods = dict[str, Route]


class Router:
    """Finds a route by path and method. Paths without placeholders take one look-up; others are tried in order."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self.routes = routes
        self._plain: dict[str, Methods] = {}
        by_pattern: dict[str, Methods] = {}
        for route in routes:
            by_path = by_pattern if route.placeholders else self._plain
            methods = by_path.setdefault(route.path, {})
            methods[route.method] = route
            if route.method == "GET":
                methods["HEAD"] = route
        self._patterns = [
            (re.compile(PLACEHOLDER.sub(r"(?P<\1>[^/]+)", path)), methods) for path, methods in by_pattern.items()
        ]

    def find(self, path: str) -> tuple[Methods, Mapping[str, str]]:
        """Return the routes of a path by method, empty for an unknown path, and the values of its placeholders."""
        methods = self._plain.get(path)
        if methods is not None:
            return methods, {}
        for pattern, methods in self._patterns:
            found = pattern.fullmatch(path)
            if found:
                return methods, found.groupdict()
        return {}, {}

    def route(self, methods: Methods, request: Request) -> Route:
        """Return the route for the request's method. Raises HttpError 404, 405 or 426 where there is none."""
        route = methods.get(request.method)
        if route is not None:
            return route
        others = [method for method in methods if method != WEBSOCKET]
        if not methods or (request.method == WEBSOCKET and others):
            close = close_names(request.path[:100], self._plain, 1)
            hint = f"did you mean {close[0]}? " if close else ""
            raise HttpError(PATH, f"no such path; {hint}see /docs")
        if not others:
            raise HttpError(UPGRADE, "this path is a WebSocket; open it as one", {"Upgrade": "websocket"})
        allowed = ", ".join(others)
        raise HttpError(METHOD, f"got {request.method[:20]}, expected {allowed}", {"Allow": allowed})
