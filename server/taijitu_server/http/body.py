"""Read and decompress a request's body, within a limit for one body and a limit for all bodies held at once."""

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
from taijitu_server.http.request import Request
from taijitu_server.settings import Settings

# The wbits argument of zlib: with a gzip header, with a zlib header.
ENCODINGS = {"gzip": 16 + zlib.MAX_WBITS, "x-gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}


class BodyReader:
    """Reads bodies and counts the bytes that are held for all requests."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._limit = min(settings.max_body_bytes, settings.max_buffered_bytes)  # beyond: never, so no 503
        self._held_bytes = 0

    async def read(self, request: Request) -> bytes:
        """Read the whole body and decompress it.

        Raises:
            HttpError: 400 for damaged data or a Transfer-Encoding other than chunked, 413 for too many bytes, 415 for
                an unknown Content-Encoding, 503 where too many bytes are held already.
            ClientGoneError: The client left before its body was complete.
        """
        transfer = request.header(b"transfer-encoding").lower()
        if transfer not in ("", "chunked"):  # the parser undoes the chunks alone
            raise bad_request(f"got Transfer-Encoding {transfer[:40]!r}, expected chunked; use Content-Encoding")
        chunks = await self._chunks(request)
        body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        encoding = request.header(b"content-encoding").strip().lower()
        if encoding in ("", "identity"):
            return body
        if encoding not in ENCODINGS:
            raise HttpError(ENCODING, f"got Content-Encoding {encoding[:40]!r}, expected gzip or deflate")
        decompressed = await asyncio.to_thread(decompress, body, encoding, self._limit)
        self._hold(request, len(decompressed) - len(body))  # instead of the body as it came, which is freed
        return decompressed

    async def _chunks(self, request: Request) -> list[bytes]:
        declared = request.header(b"content-length")
        if declared.isdigit() and int(declared) > self._limit:
            raise body_too_large(self._limit)
        began = time.perf_counter()
        received = 0
        chunks = []
        while True:
            message = await request.receive()
            if message["type"] == "http.disconnect":
                raise ClientGoneError
            chunk = message.get("body", b"")
            received += len(chunk)
            if received > self._limit:
                raise body_too_large(self._limit)
            self._hold(request, len(chunk))
            chunks.append(chunk)
            if not message.get("more_body", False):
                break
        request.notes["body_bytes"] = received
        request.read_s = time.perf_counter() - began
        return chunks

    def release(self, request: Request) -> None:
        """Stop counting the bytes of a request that is done, or once its job is delivered: its threads hold them."""
        job, count = request.job, request.held_bytes
        request.held_bytes = 0
        if job is not None and not job.is_delivered:
            job.on_delivered = lambda: self._forget(count)
        else:
            self._forget(count)

    def _forget(self, count: int) -> None:
        self._held_bytes -= count

    def _hold(self, request: Request, count: int) -> None:
        if self._held_bytes + count > self._settings.max_buffered_bytes:
            text = "the server holds too many bytes of other requests; try again later"
            raise overloaded(BUFFERED_BYTES, text, self._settings.retry_after_s)
        self._held_bytes += count
        request.held_bytes += count


def decompress(body: bytes, encoding: str, limit: int) -> bytes:
    """Decompress a gzip or deflate body.

    Raises:
        HttpError: 400 for damaged data, 413 for more than `limit` bytes.
    """
    decompressor = zlib.decompressobj(ENCODINGS[encoding])
    try:
        decompressed = decompressor.decompress(body, limit + 1)
    except zlib.error:
        raise bad_request(f"the body is not {encoding}, as its Content-Encoding says") from None
    if len(decompressed) > limit:
        raise body_too_large(limit)
    if not decompressor.eof:
        raise bad_request(f"the {encoding} body is truncated")
    if decompressor.unused_data:
        raise bad_request(f"the body continues after the end of its {encoding} data; send a single {encoding} stream")
    return decompressed
