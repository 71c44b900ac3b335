"""Schemas of requests and responses for the OpenAPI document."""

from __future__ import annotations

from typing import Any

from taijitu_server.kserve.request import DATATYPES, DECIDED, INPUT, MAX_TEXT_LENGTH, OUTPUTS
from taijitu_server.kserve.tensors import MAX_DIMENSIONS

Schema = dict[str, Any]

OBJECT: Schema = {"type": "object"}
TEXT: Schema = {"type": "string"}
OBJECTS: Schema = {"type": "array", "items": OBJECT}
ERROR: Schema = {
    "type": "object",
    "properties": {"error": TEXT},
    "required": ["error"],
    "example": {"error": "got a damaged or truncated picture, expected a whole one; fetch the file again"},
}
BINARY: Schema = {"type": "string", "format": "binary"}
PICTURE = {"schema": BINARY}
BASE64: Schema = {"type": "string", "format": "byte"}
ANSWER: Schema = {
    "type": "object",
    "properties": {
        "label": TEXT,
        "index": {"type": "integer"},
        "probability": {"type": "number", "minimum": 0, "maximum": 1},
        "map": {
            "type": "array",
            "items": {"type": "array", "items": {"type": "number"}},
            "description": "With explain=1: what each place of the region adds to the logit, row by row from the top.",
        },
    },
    "required": ["label", "index", "probability"],
}
ANSWERS: Schema = {"type": "array", "items": ANSWER}
CERTAINTY: Schema = {
    "known": {"type": "boolean", "description": "Whether the first answer is likely enough, where a threshold is set."},
    "set": {
        "type": "array",
        "items": TEXT,
        "description": "Labels that the true one is among, as often as the model's card guarantees.",
    },
}
REGION: Schema = {
    "region": {
        "type": "array",
        "items": {"type": "number"},
        "minItems": 4,
        "maxItems": 4,
        "description": "With explain=1: left, top, right and bottom of what the model sees, as shares of the picture.",
    },
}
CLASSIFIED: Schema = {
    "type": "object",
    "description": "`answers` for one picture, `results` for several.",
    "properties": {
        "model": TEXT,
        "version": TEXT,
        "answers": ANSWERS,
        **CERTAINTY,
        **REGION,
        "results": {
            "type": "array",
            "items": {"type": "object", "properties": {"answers": ANSWERS, **CERTAINTY, **REGION}},
        },
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
PICTURES = {
    "image/*": PICTURE,
    "application/octet-stream": PICTURE,
    "multipart/form-data": {
        "schema": {
            "type": "object",
            "properties": {"file": {"type": "array", "items": BINARY}},
            "required": ["file"],
            "additionalProperties": False,
        }
    },
    "application/json": {
        "schema": {
            "oneOf": [
                {
                    "type": "object",
                    "properties": {"image": BASE64},
                    "required": ["image"],
                    "additionalProperties": False,
                },
                {
                    "type": "object",
                    "properties": {"images": {"type": "array", "items": BASE64, "minItems": 1}},
                    "required": ["images"],
                    "additionalProperties": False,
                },
            ]
        },
        "example": {"image": "/9j/4AAQSkZJRg=="},
    },
}

PARAMETERS: Schema = {"type": "object", "nullable": True}
TENSOR: Schema = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "enum": [INPUT]},
        "shape": {
            "type": "array",
            "items": {"type": "integer", "minimum": 1},
            "minItems": 1,
            "maxItems": MAX_DIMENSIONS,
        },
        "datatype": {"type": "string", "enum": [*DATATYPES.values(), "BYTES"]},
        "parameters": PARAMETERS,
        "data": {
            "type": "array",
            "items": {},
            "description": "Numbers, flat or nested as in the shape; for BYTES, base64 text.",
        },
    },
    "required": ["name", "shape", "datatype"],
    "additionalProperties": False,
}
OUTPUT: Schema = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "enum": [*OUTPUTS, *DECIDED]},
        "parameters": PARAMETERS,
    },
    "required": ["name"],
    "additionalProperties": False,
}
INFER = {
    "application/json": {
        "schema": {
            "type": "object",
            "properties": {
                "id": {"type": "string", "maxLength": MAX_TEXT_LENGTH},
                "model_name": TEXT,
                "model_version": TEXT,
                "parameters": PARAMETERS,
                "inputs": {"type": "array", "items": TENSOR, "minItems": 1, "maxItems": 1},
                "outputs": {"type": "array", "items": OUTPUT},
            },
            "required": ["inputs"],
            "additionalProperties": False,
        },
        "example": {
            "inputs": [{"name": INPUT, "shape": [1], "datatype": "BYTES", "data": ["/9j/4AAQSkZJRg=="]}],
            "outputs": [{"name": "probabilities", "parameters": {"classification": 3}}],
        },
    },
    "application/octet-stream": PICTURE,
}
INFERRED = {"application/json": OBJECT, "application/octet-stream": BINARY}  # the latter for binary tensors
CHANGE = {"application/json": {"schema": OBJECT, "example": {}}}
READY: Schema = {"type": "object", "properties": {"ready": {"type": "boolean"}}, "additionalProperties": False}
INDEX = {"application/json": {"schema": READY, "example": {}}}
