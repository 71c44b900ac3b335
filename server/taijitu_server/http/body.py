"""A request's body: within a limit of its own, within one for all requests together, and unpacked."""

from __future__ import annotations

import asyncio
import time
import zlib

from taijitu_server.errors import (
    BUFFERED_BYTES,
    ENCODING,
    ClientGoneError,
    HttpError,
    bad_request,
    body_too_large,
    overloaded,
)
from taijitu_server.http.exchange import Call
from taijitu_server.settings import Settings

# wbits for zlib: with a gzip header; with a zlib header.
ENCODINGS = {"gzip": 16 + zlib.MAX_WBITS, "x-gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}


class Bodies:
    """Reads bodies, and counts the bytes that all of them hold."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._held_bytes = 0

    async def read(self, call: Call) -> bytes:
        """The whole body, unpacked. HttpError 400, 413, 415 or 503; ClientGoneError."""
        chunks = await self._chunks(call)
        body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        encoding = call.header(b"content-encoding").strip().lower()
        if encoding in ("", "identity"):
            return body
        if encoding not in ENCODINGS:
            raise HttpError(ENCODING, f"got Content-Encoding {encoding[:40]!r}, expected gzip or deflate")
        unpacked = await asyncio.to_thread(unpack, body, encoding, self._settings.max_body_bytes)
        self._hold(call, len(unpacked))
        return unpacked

    async def _chunks(self, call: Call) -> list[bytes]:
        limit = self._settings.max_body_bytes
        declared = call.header(b"content-length")
        if declared.isdigit() and int(declared) > limit:
            raise body_too_large(limit)
        began = time.perf_counter()
        received = 0
        chunks = []
        while True:
            message = await call.receive()
            if message["type"] == "http.disconnect":
                raise ClientGoneError
            chunk = message.get("body", b"")
            received += len(chunk)
            if received > limit:
                raise body_too_large(limit)
            self._hold(call, len(chunk))
            chunks.append(chunk)
            if not message.get("more_body", False):
                break
        call.notes["body_bytes"] = received
        call.read_s = time.perf_counter() - began
        return chunks

    def release(self, call: Call) -> None:
        """The call is over, its body forgotten."""
        self._held_bytes -= call.held_bytes
        call.held_bytes = 0

    def _hold(self, call: Call, count: int) -> None:
        if self._held_bytes + count > self._settings.max_buffered_bytes:
            text = "too many bytes of other requests are held already; try again"
            raise overloaded(BUFFERED_BYTES, text, self._settings.retry_after_s)
        self._held_bytes += count
        call.held_bytes += count


def unpack(body: bytes, encoding: str, limit: int) -> bytes:
    """A gzip or deflate body; HttpError 400 where it is damaged, 413 where it would grow beyond `limit` bytes."""
    unpacker = zlib.decompressobj(ENCODINGS[encoding])
    try:
        unpacked = unpacker.decompress(body, limit + 1)
    except zlib.error:
        raise bad_request(f"the body is not {encoding}, as its Content-Encoding says") from None
    if len(unpacked) > limit:
        raise body_too_large(limit)
    if not unpacker.eof:
        raise bad_request(f"the {encoding} body is cut off")
    if unpacker.unused_data:
        raise bad_request(f"the body goes on after the end of its {encoding} data; send it as one piece")
    return unpacked
