"""From a request to the bytes of one picture, within limits."""

from __future__ import annotations

import asyncio

from fastapi import Request
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from taijitu_server.errors import error_response, too_large

BINARY_TYPES = frozenset({"", "application/octet-stream"})


class BodyLimit:
    """ASGI middleware: 413 for a body over the limit, by its declared length before reading, else while it comes in."""

    def __init__(self, app: ASGIApp, max_body_bytes: int) -> None:
        self.app = app
        self.max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > self.max_body_bytes:
            error = too_large(self.max_body_bytes)
            response = error_response(error.status_code, error.detail, {"Connection": "close"})
            return await response(scope, receive, send)
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self.max_body_bytes:
                raise too_large(self.max_body_bytes)
            return message

        await self.app(scope, counted, send)


async def read_picture(request: Request, timeout_s: float) -> bytes:
    """The picture in a request; HTTPException 400, 408 or 415 where there is none, or not within `timeout_s`."""
    try:
        return await asyncio.wait_for(_read(request), timeout_s)
    except (TimeoutError, asyncio.TimeoutError):  # two classes before Python 3.11
        raise HTTPException(408, f"the body did not arrive within {timeout_s:g} s; send it faster") from None
    except ClientDisconnect:
        raise HTTPException(400, "the client left before its body was complete") from None


async def _read(request: Request) -> bytes:
    """The bytes of the raw body or of the multipart field `file`; HTTPException 400 or 415 where there is none."""
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind == "multipart/form-data":
        return await _read_form(request)
    if kind in BINARY_TYPES or kind.startswith("image/"):
        body = await request.body()
        if not body:
            raise HTTPException(400, "the body is empty; send a picture's bytes, or a form with a file field 'file'")
        return body
    raise HTTPException(
        415, f"got Content-Type {kind}, expected image/*, application/octet-stream or multipart/form-data"
    )


async def _read_form(request: Request) -> bytes:
    async with request.form(max_files=1, max_fields=16) as form:
        part = form.get("file")
        if not isinstance(part, UploadFile):
            raise HTTPException(400, "the form has no file field called 'file'; send the picture under that name")
        return await part.read()
