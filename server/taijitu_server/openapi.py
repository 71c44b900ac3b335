"""The OpenAPI document, from the table of routes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from taijitu_runtime.installed import taijitu_version
from taijitu_server.errors import OF_EVERY_REQUEST, ErrorKind
from taijitu_server.http.exchange import JSON, WEBSOCKET, Call, WholeReply
from taijitu_server.http.router import Route
from taijitu_server.http.schemas import ERROR, TEXT
from taijitu_server.state import ServerState


def route(rows: Sequence[Route]) -> Route:
    """The route to the document of these ones."""
    body = orjson.dumps(document(rows))

    async def contract(state: ServerState, call: Call) -> WholeReply:
        """The OpenAPI document."""
        return WholeReply(body)

    return Route("GET", "/openapi.json", contract, "page", is_documented=False)


def document(rows: Sequence[Route]) -> dict[str, Any]:
    """OpenAPI 3.0, which cannot say what goes over a WebSocket."""
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
    name = row.handler.__name__ + ("_of_version" if "version" in row.names else "")
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": TEXT, "description": f"The {name}'s name or number."}
        for name in row.names
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
        "responses": {"200": _response("The answer.", *row.gives), **_refusals((*OF_EVERY_REQUEST, *row.errors))},
    }
    if rest.strip():
        operation["description"] = " ".join(rest.split())
    if row.body:
        operation["requestBody"] = {"required": row.body_required, "content": row.body}
    return operation


def _refusals(kinds: Sequence[ErrorKind]) -> dict[str, Any]:
    texts: dict[int, list[str]] = {}
    for kind in kinds:
        texts.setdefault(kind.status, []).append(kind.description)
    error = {"$ref": "#/components/schemas/Error"}
    return {
        str(status): _response(" ".join(dict.fromkeys(found)), JSON, error) for status, found in sorted(texts.items())
    }


def _response(text: str, content_type: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": text, "content": {content_type: {"schema": schema}}}
