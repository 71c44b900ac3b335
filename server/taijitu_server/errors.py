"""Every error that a client gets: a status and {"error": text}, nothing else.

An `ErrorKind` is one row of the table below: a status, a word for the log and the metrics, and what the OpenAPI
document says of it. What is not listed here is 500 'internal error': its cause is logged, never sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import orjson

from taijitu_runtime.errors import ArtefactError, PictureError, PictureTooLargeError, UnreadablePictureError

MEMORY_RETRY_S = 1


class ErrorKind(NamedTuple):
    """One kind of refusal. `reason` is one word for the log and the metrics."""

    status: int
    reason: str
    description: str


def _picture_kinds(parent: type[PictureError] = PictureError) -> dict[type[PictureError], ErrorKind]:
    """Every class of PictureError that has a `fault`, and its kind; a path cannot be unreadable where none is read."""
    found = {}
    for error in parent.__subclasses__():
        if hasattr(error, "fault") and error is not UnreadablePictureError:
            status = 413 if issubclass(error, PictureTooLargeError) else 422
            found[error] = ErrorKind(status, f"picture_{error.fault}", (error.__doc__ or "").partition("\n")[0])
        found |= _picture_kinds(error)
    return found


BAD_REQUEST = ErrorKind(400, "bad_request", "The request is malformed, or has a parameter that is not known.")
HTTP = ErrorKind(400, "http", "The request is not valid HTTP.")
HOST = ErrorKind(421, "host", "The request is for a host name that is not served here: see --allowed-hosts.")
API_KEY = ErrorKind(401, "api_key", "A key is needed.")
ORIGIN = ErrorKind(403, "origin", "A page of another site: see --cors-origins.")
PATH = ErrorKind(404, "path", "No such path.")
METHOD = ErrorKind(405, "method", "The path does not take this method.")
UPGRADE = ErrorKind(426, "upgrade", "The path is a WebSocket.")
HEADER_TIMEOUT = ErrorKind(408, "header_timeout", "The request did not arrive in time.")
HEADER_BYTES = ErrorKind(431, "header_bytes", "Too many bytes of headers.")
INTERNAL = ErrorKind(500, "internal", "Internal error.")
DRAINING = ErrorKind(503, "draining", "The server is shutting down.")
NOT_READY = ErrorKind(503, "not_ready", "No work should be sent here now.")
MEMORY = ErrorKind(503, "memory", "Out of memory.")

BODY_TIMEOUT = ErrorKind(408, "body_timeout", "The request did not arrive in time.")
BODY_BYTES = ErrorKind(413, "body_bytes", "Too many bytes.")
ENCODING = ErrorKind(415, "encoding", "A Content-Encoding that is not read.")
BUFFERED_BYTES = ErrorKind(503, "buffered_bytes", "Too many bytes of other requests are held.")

CONTENT_TYPE = ErrorKind(415, "content_type", "A Content-Type that is not read.")
PICTURES = ErrorKind(413, "pictures", "Too many pictures.")
REQUEST_PIXELS = ErrorKind(413, "request_pixels", "Too many pixels in all pictures of the request.")
PICTURE_KINDS = _picture_kinds()

MODEL_UNNAMED = ErrorKind(400, "model_unnamed", "There are several models, and the request names none.")
MODEL_UNKNOWN = ErrorKind(404, "model_unknown", "No such model or version.")
MODEL_FAILED = ErrorKind(500, "model", "The model gave no answer.")
MODEL_DEAD = ErrorKind(503, "model_dead", "The model is not running.")
QUEUE_FULL = ErrorKind(503, "queue_full", "Too many requests wait for the model.")
MODEL_HANGS = ErrorKind(504, "model_hangs", "The model gave no answer in time.")
DEADLINE = ErrorKind(504, "deadline", "The request waited too long in the queue, and was not run.")
CLIENT_GONE = ErrorKind(499, "client_gone", "The client left; never sent.")

MODEL_LOAD = ErrorKind(400, "model_load", "The model's files cannot be served.")
RELOAD_OFF = ErrorKind(403, "reload_off", "Loading models by POST is off.")

CAMERA_UNKNOWN = ErrorKind(404, "camera_unknown", "No such camera.")
CAMERA_CONTROL = ErrorKind(403, "camera_control", "Starting and stopping cameras is off.")
CAMERA_OFF = ErrorKind(503, "camera_off", "The camera is not running.")

# What each part of a request's way may raise; a route names those that it passes.
OF_EVERY_REQUEST = (BAD_REQUEST, HTTP, HOST, API_KEY, HEADER_TIMEOUT, HEADER_BYTES, INTERNAL, DRAINING, MEMORY)
OF_BODIES = (BODY_TIMEOUT, BODY_BYTES, ENCODING, BUFFERED_BYTES)
OF_PICTURES = (PICTURES, REQUEST_PIXELS, *PICTURE_KINDS.values())
OF_MODELS = (MODEL_UNKNOWN,)
OF_INFERENCE = (MODEL_FAILED, MODEL_DEAD, QUEUE_FULL, DEADLINE, MODEL_HANGS)


class HttpError(Exception):
    """A request that is refused: its kind, one line for the client, and headers."""

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
    """The client closed its connection; there is nobody to answer."""


class ModelFailedError(Exception):
    """The model raised, or gave what is no answer: an internal error of the requests in that run."""


def bad_request(text: str) -> HttpError:
    """400, for anything that the client should have written otherwise."""
    return HttpError(BAD_REQUEST, text)


def body_too_large(limit_bytes: int) -> HttpError:
    """413 for a body of more than `limit_bytes`; the rest of it is not kept."""
    return HttpError(BODY_BYTES, f"the body is larger than {limit_bytes} bytes; send less")


def overloaded(kind: ErrorKind, text: str, retry_after_s: int) -> HttpError:
    """503 with the time after which to try again."""
    return HttpError(kind, text, {"Retry-After": str(retry_after_s)})


def http_error(error: Exception) -> HttpError:
    """The answer to any exception; status 500 where it is not the client's fault."""
    if isinstance(error, HttpError):
        return error
    if isinstance(error, PictureError):
        return HttpError(PICTURE_KINDS[type(error)], str(error))
    if isinstance(error, MemoryError):
        return overloaded(MEMORY, "out of memory for this request; try again, or send less", MEMORY_RETRY_S)
    if isinstance(error, (ModelFailedError, ArtefactError)):
        return HttpError(MODEL_FAILED, "internal error: the model gave no answer for this request")
    return HttpError(INTERNAL, "internal error")


def error_body(text: str) -> bytes:
    """The one JSON form of all errors."""
    return orjson.dumps({"error": text})
