"""Routes, and which of them a request takes. How they are documented follows from the same rows: see openapi.py."""

from __future__ import annotations

import difflib
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from taijitu_server.errors import METHOD, PATH, UPGRADE, ErrorKind, HttpError
from taijitu_server.http.exchange import JSON, WEBSOCKET, Call, Reply
from taijitu_server.state import ServerState

Handler = Callable[[ServerState, Call], Awaitable[Reply]]
Schema = dict[str, Any]
NAME = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Parameter:
    """A field of the query."""

    name: str
    schema: Schema
    description: str


@dataclass(frozen=True)
class Route:
    """One method on one path: who answers, what it takes and gives, and how it may refuse.

    The first line of the handler's docstring is the summary. `query`: all that may stand behind the question mark.
    `body`: OpenAPI's media types by content type; `body_required`. `gives`: the content type and the schema of a good
    answer. `errors`: the kinds that the handler may raise, besides those of every request. `is_open`: needs no API key.
    `is_probe`: asked by orchestrators, under whatever host name. `is_documented`: part of the API.
    """

    method: str
    path: str
    handler: Handler
    tag: str
    query: tuple[Parameter, ...] = ()
    body: Mapping[str, Any] = field(default_factory=dict)
    body_required: bool = False
    gives: tuple[str, Schema] = (JSON, {"type": "object"})
    errors: tuple[ErrorKind, ...] = ()
    is_open: bool = False
    is_probe: bool = False
    is_documented: bool = True
    query_names: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "query_names", tuple(parameter.name for parameter in self.query))

    @property
    def names(self) -> list[str]:
        """The names in the path."""
        return NAME.findall(self.path)


Methods = dict[str, Route]


class Router:
    """Finds a route by path and method: paths without a name in one look-up, the others one after the other."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self.routes = routes
        self._plain: dict[str, Methods] = {}
        by_pattern: dict[str, Methods] = {}
        for route in routes:
            by_path = by_pattern if route.names else self._plain
            methods = by_path.setdefault(route.path, {})
            methods[route.method] = route
            if route.method == "GET":
                methods["HEAD"] = route
        self._patterns = [
            (re.compile(NAME.sub(r"(?P<\1>[^/]+)", path)), methods) for path, methods in by_pattern.items()
        ]

    def find(self, path: str) -> tuple[Methods, Mapping[str, str]]:
        """The routes of a path by method, none where there is no such path, and the values of the names in it."""
        methods = self._plain.get(path)
        if methods is not None:
            return methods, {}
        for pattern, methods in self._patterns:
            found = pattern.fullmatch(path)
            if found:
                return methods, found.groupdict()
        return {}, {}

    def route(self, methods: Methods, call: Call) -> Route:
        """The one for the call's method; HttpError 404, 405 or 426 where there is none."""
        route = methods.get(call.method)
        if route is not None:
            return route
        others = [method for method in methods if method != WEBSOCKET]
        if not methods or (call.method == WEBSOCKET and others):
            close = difflib.get_close_matches(call.path[:100], self._plain, 1)
            hint = f"did you mean {close[0]}? " if close else ""
            raise HttpError(PATH, f"no such path; {hint}see /docs")
        if not others:
            raise HttpError(UPGRADE, "this path is a WebSocket; open it as one", {"Upgrade": "websocket"})
        allowed = ", ".join(others)
        raise HttpError(METHOD, f"got {call.method[:20]}, expected {allowed}", {"Allow": allowed})
