"""Every error that a client gets: a status and {"error": text}, nothing else.

`reason` is one word for the log and the metrics. What is not listed here is 500 'internal error': its cause is logged,
never sent.
"""

from __future__ import annotations

from collections.abc import Mapping

import orjson

from taijitu_runtime.errors import ArtefactError, PictureError, PictureTooLargeError

MEMORY_RETRY_S = 1


class HttpError(Exception):
    """A request that is refused: its status, one line for the client, and a word for the metrics."""

    def __init__(self, status: int, reason: str, text: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.reason = reason
        self.text = text
        self.headers = dict(headers or {})


class ClientGoneError(Exception):
    """The client closed its connection; there is nobody to answer."""


class ModelFailedError(Exception):
    """The model raised, or gave what is no answer: an internal error of the requests in that run."""


def bad_request(text: str) -> HttpError:
    """400, for anything that the client should have written otherwise."""
    return HttpError(400, "bad_request", text)


def body_too_large(limit_bytes: int) -> HttpError:
    """413 for a body of more than `limit_bytes`; the rest of it is not kept."""
    return HttpError(413, "body_bytes", f"the body is larger than {limit_bytes} bytes; send less")


def overloaded(reason: str, text: str, retry_after_s: int) -> HttpError:
    """503 with the time after which to try again."""
    return HttpError(503, reason, text, {"Retry-After": str(retry_after_s)})


def http_error(error: Exception) -> HttpError:
    """The answer to any exception; status 500 where it is not the client's fault."""
    if isinstance(error, HttpError):
        return error
    if isinstance(error, PictureError):
        return HttpError(413 if isinstance(error, PictureTooLargeError) else 422, f"picture_{error.fault}", str(error))
    if isinstance(error, MemoryError):
        return overloaded("memory", "out of memory for this request; try again, or send less", MEMORY_RETRY_S)
    if isinstance(error, (ModelFailedError, ArtefactError)):
        return HttpError(500, "model", "internal error: the model gave no answer for this request")
    return HttpError(500, "internal", "internal error")


def error_body(text: str) -> bytes:
    """The one JSON form of all errors."""
    return orjson.dumps({"error": text})
