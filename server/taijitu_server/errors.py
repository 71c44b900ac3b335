"""Every error that a client gets: a status and {"error": text}, nothing else.

An `ErrorKind` is one row of the table below: a status, a word for the log and the metrics, and a description for the
OpenAPI document. Any other exception is 500 'internal error': its cause is logged and never sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import orjson

from taijitu_runtime.errors import (
    ArtefactError,
    ExplanationError,
    PictureError,
    PictureTooLargeError,
    UnreadablePictureError,
)

MEMORY_RETRY_S = 1


class ErrorKind(NamedTuple):
    """One kind of error. `reason` is one word for the log and the metrics."""

    status: int
    reason: str
    description: str


def _picture_kinds(parent: type[PictureError] = PictureError) -> dict[type[PictureError], ErrorKind]:
    """Return the kind of every class of PictureError with a `fault`, except for unreadable paths: none is read here."""
    found = {}
    for error in parent.__subclasses__():
        if hasattr(error, "fault") and error is not UnreadablePictureError:
            status = 413 if issubclass(error, PictureTooLargeError) else 422
            found[error] = ErrorKind(status, f"picture_{error.fault}", (error.__doc__ or "").partition("\n")[0])
        found |= _picture_kinds(error)
    return found


BAD_REQUEST = ErrorKind(400, "bad_request", "The request is malformed or has an unknown parameter.")
HTTP = ErrorKind(400, "http", "The request is not valid HTTP.")
HOST = ErrorKind(421, "host", "The host name is not served here: see --allowed-hosts.")
API_KEY = ErrorKind(401, "api_key", "The request needs an API key.")
ORIGIN = ErrorKind(403, "origin", "The request comes from a page of another site: see --cors-origins.")
PATH = ErrorKind(404, "path", "The path does not exist.")
METHOD = ErrorKind(405, "method", "The path does not accept this method.")
UPGRADE = ErrorKind(426, "upgrade", "The path is a WebSocket.")
CONNECTIONS = ErrorKind(503, "connections", "Too many connections are open.")
HEADER_TIMEOUT = ErrorKind(408, "header_timeout", "The request did not arrive in time.")
HEADER_BYTES = ErrorKind(431, "header_bytes", "The headers are too large.")
INTERNAL = ErrorKind(500, "internal", "Internal error.")
DRAINING = ErrorKind(503, "draining", "The server is shutting down.")
NOT_READY = ErrorKind(503, "not_ready", "The server is not ready.")
MEMORY = ErrorKind(503, "memory", "The server is out of memory.")

BODY_TIMEOUT = ErrorKind(408, "body_timeout", "The request did not arrive in time.")
BODY_BYTES = ErrorKind(413, "body_bytes", "The body is too large.")
CHUNKS = ErrorKind(400, "chunks", "The body has too many chunks.")
ENCODING = ErrorKind(415, "encoding", "The Content-Encoding is not supported.")
BUFFERED_BYTES = ErrorKind(503, "buffered_bytes", "The server holds too many bytes of other requests.")

CONTENT_TYPE = ErrorKind(415, "content_type", "The Content-Type is not supported.")
PICTURES = ErrorKind(413, "pictures", "The request has too many pictures.")
REQUEST_PIXELS = ErrorKind(413, "request_pixels", "The pictures of the request have too many pixels in total.")
PICTURE_KINDS = _picture_kinds()

MODEL_UNNAMED = ErrorKind(400, "model_unnamed", "Several models are served, and the request names none.")
NO_MAPS = ErrorKind(400, "no_maps", "The model has no class-activation maps.")
MODEL_REPLACED = ErrorKind(503, "model_replaced", "The model's file was replaced, and is not loaded yet.")
MODEL_UNKNOWN = ErrorKind(404, "model_unknown", "The model or version does not exist.")
MODEL_FAILED = ErrorKind(500, "model", "The model failed.")
MODEL_DEAD = ErrorKind(503, "model_dead", "The model is not running.")
QUEUE_FULL = ErrorKind(503, "queue_full", "Too many requests are waiting for the model.")
MODEL_HANGS = ErrorKind(504, "model_hangs", "The model did not answer in time.")
DEADLINE = ErrorKind(504, "deadline", "The request waited too long in the queue and was not run.")
CLIENT_GONE = ErrorKind(499, "client_gone", "The client left; never sent.")  # nginx's status

MODEL_LOAD = ErrorKind(400, "model_load", "The model's files cannot be served.")
RELOAD_OFF = ErrorKind(403, "reload_off", "Loading models by POST is disabled.")

CAMERA_UNKNOWN = ErrorKind(404, "camera_unknown", "The camera does not exist.")
CAMERA_CONTROL = ErrorKind(403, "camera_control", "Starting and stopping cameras is disabled.")
CAMERA_OFF = ErrorKind(503, "camera_off", "The camera is not running.")

# The kinds that each part of the server may raise; a route names those of the parts that it uses.
REQUEST_ERRORS = (
    BAD_REQUEST, HTTP, HOST, API_KEY, CONNECTIONS, HEADER_TIMEOUT, HEADER_BYTES, INTERNAL, DRAINING, MEMORY,
)  # fmt: skip
BODY_ERRORS = (BODY_TIMEOUT, BODY_BYTES, CHUNKS, ENCODING, BUFFERED_BYTES)
PICTURE_ERRORS = (PICTURES, REQUEST_PIXELS, *PICTURE_KINDS.values())
MODEL_ERRORS = (MODEL_UNKNOWN,)
INFERENCE_ERRORS = (MODEL_FAILED, MODEL_DEAD, QUEUE_FULL, DEADLINE, MODEL_HANGS)


class HttpError(Exception):
    """An error response: its kind, one line for the client, and headers."""

    def __init__(self, kind: ErrorKind, text: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(text)
        self.kind = kind
        self.text = text
        self.headers = dict(headers or {})

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.kind.status

    @property
    def reason(self) -> str:
        """One word for the log and the metrics."""
        return self.kind.reason


class ClientGoneError(Exception):
    """The client closed its connection, so that no response can be sent."""


class ModelFailedError(Exception):
    """The model raised an exception or gave invalid logits: an internal error for the requests of that batch."""


def bad_request(text: str) -> HttpError:
    """Return the error 400 for a malformed request."""
    return HttpError(BAD_REQUEST, text)


def body_too_large(limit_bytes: int) -> HttpError:
    """Return the error 413 for a body of more than `limit_bytes`."""
    return HttpError(BODY_BYTES, f"the body is larger than {limit_bytes} bytes; send less")


def overloaded(kind: ErrorKind, text: str, retry_after_s: int) -> HttpError:
    """Return an error 503 that says when to try again."""
    return HttpError(kind, text, {"Retry-After": str(retry_after_s)})


def http_error(error: Exception) -> HttpError:
    """Return the error response for any exception; 500 where the request is not at fault."""
    if isinstance(error, HttpError):
        return error
    if isinstance(error, PictureError):
        return HttpError(PICTURE_KINDS[type(error)], str(error))
    if isinstance(error, ExplanationError):
        return HttpError(NO_MAPS, str(error))
    if isinstance(error, MemoryError):
        return overloaded(MEMORY, "out of memory for this request; try again later, or send less", MEMORY_RETRY_S)
    if isinstance(error, (ModelFailedError, ArtefactError)):
        return HttpError(MODEL_FAILED, "internal error: the model failed for this request")
    return HttpError(INTERNAL, "internal error")


def error_body(text: str) -> bytes:
    """Return the body of an error response."""
    return orjson.dumps({"error": text})
