"""The OpenAPI document, made of the table of routes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from taijitu_runtime.installed import taijitu_version
from taijitu_server.errors import REQUEST_ERRORS, ErrorKind
from taijitu_server.http.request import WEBSOCKET, Request
from taijitu_server.http.response import JSON, WholeResponse
from taijitu_server.routing.router import Route
from taijitu_server.routing.schemas import ERROR, TEXT
from taijitu_server.state import ServerState


def route(rows: Sequence[Route]) -> Route:
    """Return the route that serves the document about `rows`."""
    body = orjson.dumps(document(rows))

    async def contract(state: ServerState, request: Request) -> WholeResponse:
        """Return the OpenAPI document."""
        return WholeResponse(body)

    return Route("GET", "/openapi.json", contract, "page", is_documented=False)


def document(rows: Sequence[Route]) -> dict[str, Any]:
    """Return the document, OpenAPI 3.0. It leaves WebSockets out, which OpenAPI cannot describe."""
    paths: dict[str, Any] = {}
    for row in rows:
        if row.is_documented and row.method != WEBSOCKET:
            paths.setdefault(row.path, {})[row.method.lower()] = _operation(row)
    return {
        "openapi": "3.0.3",
        "info": {"title": "taijitu", "version": taijitu_version()},
        "paths": paths,
        "components": {"schemas": {"Error": ERROR}},
    }


def _operation(row: Route) -> dict[str, Any]:
    summary, _, rest = (row.handler.__doc__ or "").partition("\n")
    name = row.handler.__name__ + ("_of_version" if "version" in row.placeholders else "")
    parameters = [
        {"name": each, "in": "path", "required": True, "schema": TEXT, "description": f"The {each}'s name or number."}
        for each in row.placeholders
    ]
    parameters += [
        {"name": each.name, "in": "query", "required": False, "schema": each.schema, "description": each.description}
        for each in row.query
    ]
    operation: dict[str, Any] = {
        "operationId": f"{row.tag.split()[0].lower()}_{name}",
        "summary": summary,
        "tags": [row.tag],
        "parameters": parameters,
        "responses": {"200": _response("Success.", row.response), **_errors((*REQUEST_ERRORS, *row.errors))},
    }
    if rest.strip():
        operation["description"] = " ".join(rest.split())
    if row.body:
        operation["requestBody"] = {"required": row.body_required, "content": row.body}
    return operation


def _errors(kinds: Sequence[ErrorKind]) -> dict[str, Any]:
    texts: dict[int, list[str]] = {}
    for kind in kinds:
        texts.setdefault(kind.status, []).append(kind.description)
    error = {"$ref": "#/components/schemas/Error"}
    return {
        str(status): _response(" ".join(dict.fromkeys(found)), {JSON: error}) for status, found in sorted(texts.items())
    }


def _response(text: str, schemas: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    return {"description": text, "content": {kind: {"schema": schema} for kind, schema in schemas.items()}}
