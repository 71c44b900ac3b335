"""The OpenAPI document of the paths that our own handlers answer; FastAPI writes that of the others, with REFUSALS."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI

from taijitu_server.http.exchange import JSON
from taijitu_server.http.routes import INDEX, INFER, INFER_VERSION, LOAD, UNLOAD

ERROR = {
    "type": "object",
    "properties": {"error": {"type": "string"}},
    "required": ["error"],
    "example": {"error": "got a damaged or truncated picture, expected a whole one; fetch the file again"},
}
STATUSES = {
    "400": "The request is malformed.",
    "401": "A key is needed.",
    "403": "Loading models by POST is off.",
    "404": "No such model, version or path.",
    "405": "Not POST.",
    "408": "The request did not arrive in time.",
    "413": "Too many bytes, pixels, scans or pictures.",
    "415": "A content type or encoding that is not read.",
    "422": "No picture, or a damaged one.",
    "431": "Too many bytes of headers.",
    "500": "Internal error.",
    "503": "Overloaded, or shutting down: try again after Retry-After seconds.",
    "504": "The request waited too long in the queue, and was not run.",
}
REFUSALS: dict[int | str, dict[str, Any]] = {
    "4XX": {"description": "Refused: what was got, expected, and what to do.", "content": {JSON: {"schema": ERROR}}},
    "5XX": {"description": "Not ready, or an internal error.", "content": {JSON: {"schema": ERROR}}},
}
PICTURE = {"schema": {"type": "string", "format": "binary"}}
ANSWER = {
    "type": "object",
    "properties": {
        "label": {"type": "string"},
        "index": {"type": "integer"},
        "probability": {"type": "number", "minimum": 0, "maximum": 1},
    },
    "required": ["label", "index", "probability"],
}
ANSWERS = {"type": "array", "items": ANSWER}
CLASSIFIED = {
    "type": "object",
    "description": "`answers` for one picture, `results` for several.",
    "properties": {
        "model": {"type": "string"},
        "version": {"type": "string"},
        "answers": ANSWERS,
        "results": {"type": "array", "items": {"type": "object", "properties": {"answers": ANSWERS}}},
        "latency_ms": {"type": "number"},
        "stages_ms": {"type": "object", "additionalProperties": {"type": "number"}},
    },
    "required": ["model", "version", "latency_ms", "stages_ms"],
    "example": {
        "model": "yynet_small_16",
        "version": "1",
        "answers": [
            {"label": "cat", "index": 3, "probability": 0.57},
            {"label": "dog", "index": 5, "probability": 0.38},
        ],
        "latency_ms": 1.92,
        "stages_ms": {"read": 0.02, "decode": 0.4, "queue": 0.1, "infer": 1.2},
    },
}
INFER_EXAMPLE = {
    "inputs": [{"name": "images", "shape": [1], "datatype": "BYTES", "data": ["/9j/4AAQSkZJRg=="]}],
    "outputs": [{"name": "probabilities", "parameters": {"classification": 3}}],
}
OBJECT = {"type": "object"}
TENSOR = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "enum": ["images"]},
        "shape": {"type": "array", "items": {"type": "integer", "minimum": 1}, "minItems": 1, "maxItems": 8},
        "datatype": {"type": "string", "enum": ["UINT8", "FP32", "BYTES"]},
        "parameters": OBJECT,
        "data": {"type": "array", "description": "Numbers, flat or nested as the shape is; for BYTES base64 text."},
    },
    "required": ["name", "shape", "datatype"],
}
OUTPUT = {
    "type": "object",
    "properties": {"name": {"type": "string", "enum": ["logits", "probabilities"]}, "parameters": OBJECT},
    "required": ["name"],
}
INFER_REQUEST = {
    "type": "object",
    "properties": {
        "id": {"type": "string", "maxLength": 256},
        "parameters": OBJECT,
        "inputs": {"type": "array", "items": TENSOR, "minItems": 1, "maxItems": 1},
        "outputs": {"type": "array", "items": OUTPUT},
    },
    "required": ["inputs"],
}


def with_post_routes(app: FastAPI) -> Callable[[], dict[str, Any]]:
    """What is to be `app.openapi`: FastAPI's document and the paths below, made once."""
    original = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = original()
            document["paths"] |= _paths()
            app.openapi_schema = document
        return app.openapi_schema

    return openapi


def _paths() -> dict[str, Any]:
    model = _parameter("model", "path", {"type": "string"}, "The model's name.")
    version = _parameter("version", "path", {"type": "string"}, "The model's version.")
    top = {"type": "integer", "minimum": 1, "maximum": 999_999_999, "default": 5}
    classify = _operation(
        "classify",
        "Classify pictures",
        {
            "image/*": PICTURE,
            "application/octet-stream": PICTURE,
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {"file": {"type": "array", "items": {"type": "string", "format": "binary"}}},
                    "required": ["file"],
                }
            },
            "application/json": {
                "schema": {"type": "object", "properties": {"image": {"type": "string", "format": "byte"}}},
                "example": {"image": "/9j/4AAQSkZJRg=="},
            },
        },
        CLASSIFIED,
        _parameter("top", "query", top, "How many answers, the best first."),
        _parameter("model", "query", {"type": "string"}, "The model's name, where there are several."),
        _parameter("version", "query", {"type": "string"}, "Its version, if not the highest."),
    )
    request = {
        "application/json": {"schema": INFER_REQUEST, "example": INFER_EXAMPLE},
        "application/octet-stream": PICTURE,
    }
    anything = {"application/json": {"schema": OBJECT, "example": {}}}
    infer = "Infer, in JSON or with binary tensors; datatype BYTES takes picture files"
    return {
        "/classify": classify,
        INFER: _operation("infer", infer, request, OBJECT, model),
        INFER_VERSION: _operation("infer_version", infer, request, OBJECT, model, version),
        INDEX: _operation(
            "index", "The models, and why one is not served", anything, {"type": "array", "items": OBJECT}
        ),
        LOAD: _operation("load", "Load a model's files again", anything, OBJECT, model),
        UNLOAD: _operation("unload", "Stop serving a model", anything, OBJECT, model),
    }


def _operation(
    name: str, summary: str, takes: dict[str, Any], gives: dict[str, Any], *parameters: Any
) -> dict[str, Any]:
    body = {"required": name in ("classify", "infer", "infer_version"), "content": takes}
    refused = {status: _response(text, ERROR) for status, text in STATUSES.items()}
    return {
        "post": {
            "operationId": name,
            "summary": summary,
            "tags": ["classify" if name == "classify" else "KServe v2"],
            "parameters": list(parameters),
            "requestBody": body,
            "responses": {"200": _response("The answer.", gives), **refused},
        }
    }


def _response(text: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": text, "content": {"application/json": {"schema": schema}}}


def _parameter(name: str, place: str, schema: dict[str, Any], text: str) -> dict[str, Any]:
    return {"name": name, "in": place, "required": place == "path", "schema": schema, "description": text}
