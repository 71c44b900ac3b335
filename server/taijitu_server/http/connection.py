"""uvicorn's HTTP connection with the limits that it lacks: on time, headers, chunks and connections.

A slow client costs one timer; a request that arrives in one piece, and a response that is read at once, cost none.
A client that leaves is noticed, so that work queued for it can be dropped; one that only ends its own side of the
connection after a complete request is answered.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, cast

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from taijitu_server.errors import (
    BODY_TIMEOUT,
    CHUNKS,
    CONNECTIONS,
    HEADER_BYTES,
    HEADER_TIMEOUT,
    HTTP,
    ErrorKind,
    error_body,
)
from taijitu_server.http.joined_writes import JoinedWrites
from taijitu_server.settings import Settings

if TYPE_CHECKING:
    from taijitu_server.http.websocket import SendOnlyWebSocket

CONNECTION = "taijitu.connection"  # the extension of the ASGI scope that holds the request's Connection
MAX_CHUNKS = 65_536
CHUNK_LINE_BYTES = 16  # of a chunk's length and line ends; further bytes count as headers
# The end of what a client sends looks the same whether it left or waits for its answer. Only data tells: the system of
# one that left resets the connection. Most answers are sooner than this; later ones are preceded by a `100 Continue`.
PROBE_S = 0.25

OnRefused = Callable[[ErrorKind], None]


class Connection(HttpToolsProtocol):
    """The connection of one client.

    Attributes:
        waiting: The future that is cancelled when the client leaves.
        is_gone: The client has left.
        refused: The kind of error for which the server closes the connection.
    """

    settings: ClassVar[Settings]
    on_refused: ClassVar[OnRefused]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.waiting: asyncio.Future[Any] | None = None
        self.is_gone = False
        self.refused: ErrorKind | None = None
        self._last_words = ""  # the refusal that follows the responses to earlier requests
        self._running: RequestResponseCycle | None = None  # uvicorn's `cycle` is the newest, which may be queued
        self._phase = "head"  # the part of a request that has to arrive next: "head", "body", or "" for none
        self._timed_phase = ""
        self._timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self._probe_timer: asyncio.TimerHandle | None = None
        self._framing_bytes = self._chunks = 0  # of the current request: bytes outside its body; chunks

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        joined = JoinedWrites(transport, self.loop, self.settings.body_timeout_s, self._client_sends)
        super().connection_made(cast(asyncio.Transport, joined))
        if len(self.connections) > self.settings.max_connections:
            self._refuse(CONNECTIONS, "too many connections; try again later")
            return
        self._set_timer()

    def _client_sends(self) -> bool:
        return self.refused is not None or self._phase == "body"

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_gone = True
        self._phase = ""
        self._set_timer()
        for timer in (self._write_timer, self._probe_timer):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)
        self._unset_keepalive_if_required()  # uvicorn keeps the timer after a reset, and with it this object in memory
        if self._running is not None:
            self._running.disconnected = True
            self._running.message_event.set()
        if self.waiting is not None:
            self.waiting.cancel()

    def eof_received(self) -> bool:  # type: ignore[override]  # uvicorn's returns None, which closes the connection
        """Answer the requests that are complete, although the client sends no more; called by the loop.

        Returns:
            True to keep the connection open until then.
        """
        owes_response = self._owes_response()
        breaks_off_body = self._phase == "body" and not self.cycle.response_started
        if breaks_off_body or (self._phase == "head" and self._framing_bytes):
            # Without earlier requests it is not counted as refused: a client that left looks the same.
            tell = self._refuse if owes_response else self._write_refusal
            tell(HTTP, "the request ended before it was complete; send all of it")
        self._phase = ""
        self._set_timer()
        if not owes_response:
            self.transport.close()
            return False
        if self.refused is None:
            self.cycle.keep_alive = False  # the connection is closed after this response, the last one
        self._probe_timer = self.loop.call_later(PROBE_S, self._probe, True)
        return True

    def _owes_response(self) -> bool:
        """Return whether a complete request waits for its response."""
        running = self._running
        if running is None or running.response_complete or running.disconnected:
            return False
        return self._phase != "body" or running is not self.cycle

    def _probe(self, is_first: bool = False) -> None:
        """Find out whether a client that sends no more has left."""
        running = self._running
        if running is None or running.response_started:  # writing the response finds out
            return
        if is_first and running.scope["http_version"] == "1.1":  # 1.0 knows no interim responses
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        elif self.transport.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self.transport.abort()
            return
        self._probe_timer = self.loop.call_later(PROBE_S, self._probe)

    def pause_writing(self) -> None:
        """Start the time limit for a client that does not read its responses; called by the loop."""
        super().pause_writing()
        self._write_timer = self.loop.call_later(self.settings.body_timeout_s, self.transport.abort)

    def resume_writing(self) -> None:
        """Stop that time limit; called by the loop once the client has read most of the data."""
        super().resume_writing()
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def data_received(self, data: bytes) -> None:
        if self.refused is not None or self.transport.is_closing():
            return
        if not self._phase:
            self._phase = "head"
        self._framing_bytes += len(data)
        self._parse(data)
        if self.refused is not None:
            self._phase = ""
        if self._phase and not self.is_gone:
            chunk_lines_bytes = self._chunks * CHUNK_LINE_BYTES
            if self._framing_bytes - chunk_lines_bytes > self.settings.max_header_bytes:
                self._refuse_headers()
        if self._phase != self._timed_phase:
            self._set_timer()

    def _parse(self, data: bytes) -> None:
        """Parse as uvicorn does, but ignore a request to upgrade to an unsupported protocol, such as HTTP/2."""
        pieces: list[bytes | memoryview] = [data]
        try:
            while pieces and self.refused is None:
                piece = pieces.pop()
                try:
                    self.parser.feed_data(piece)
                except httptools.HttpParserUpgrade as upgrade:
                    if self.refused is not None:
                        return
                    if self._should_upgrade():
                        self.handle_websocket_upgrade()
                        return
                    # The parser would read a body as the next request: a new parser gets the head without `Upgrade`.
                    pieces = [memoryview(piece)[upgrade.args[0] :], self._head_without_upgrade()]
                    self.parser = httptools.HttpRequestParser(self)
                    self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's
        except httptools.HttpParserError:
            self._refuse(HTTP, "the request is not valid HTTP")

    def _head_without_upgrade(self) -> bytes:
        version = self.parser.get_http_version().encode()
        headers = b"".join(b"%s: %s\r\n" % header for header in self.headers if header[0] != b"upgrade")
        return b"%s %s HTTP/%s\r\n%s\r\n" % (self.parser.get_method(), self.url, version, headers)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._unset_keepalive_if_required()
        self._phase = "head"
        self._framing_bytes = max(self._framing_bytes, 1)  # 0 after the end of another request in the same data
        self._chunks = 0
        self.scope["extensions"] = {CONNECTION: {"connection": self}}

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade() and not self._should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                self._refuse(HTTP, "got CONNECT, which is for proxies; this server is not one")
            return  # `_parse` starts this request again
        self._framing_bytes = 0
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size > self.settings.max_header_bytes:
            self._refuse_headers()
        if self.refused is not None:
            return
        if self.parser.should_upgrade():
            if self._owes_response():
                self._refuse(HTTP, "got a WebSocket's handshake before the last response; wait for the response")
                return
            # uvicorn would parse the URL in the handshake, outside the parser's errors
            httptools.parse_url(self.url).path.decode("ascii")
        super().on_headers_complete()  # raises for a damaged URL, before there is a request
        if self.parser.get_http_version() == "1.0":
            self.cycle.__class__ = _OldCycle  # uvicorn makes the cycle itself, always of its own class
            self.cycle.waiting_for_100_continue = False  # 1.0 knows no interim responses
        self._phase = "body"
        if not self.pipeline:
            self._running = self.cycle
        if not self.parser.should_upgrade():
            self.headers = []  # for trailers: they must not change the headers of the request

    def on_chunk_header(self) -> None:
        self._chunks += 1
        if self._chunks > MAX_CHUNKS and self.refused is None:
            self._refuse(CHUNKS, f"the body has more than {MAX_CHUNKS} chunks; send larger ones")

    def on_body(self, body: bytes) -> None:
        self._framing_bytes -= len(body)
        if self.refused is None:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if self._phase == "body":  # otherwise the request is refused, or `_parse` starts it again
            self._phase = ""
            self._framing_bytes = 0
            if self._timer is not None:
                self._set_timer()  # for the next request, which may begin in the same data
            super().on_message_complete()
            if not self.parser.should_upgrade() and self.cycle.response_complete:  # it was sent before this body came
                after_s = self.timeout_keep_alive
                self.timeout_keep_alive_task = self.loop.call_later(after_s, self.timeout_keep_alive_handler)

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection over to uvicorn's protocol, and keep only the time limit of the handshake."""
        self._phase = ""
        self._set_timer()
        super().handle_websocket_upgrade()
        websocket = cast("SendOnlyWebSocket", self.transport.get_protocol())
        after_s = self.settings.header_timeout_s
        websocket.handshake_timer = self.loop.call_later(after_s, self._end_handshake, websocket)

    def _end_handshake(self, websocket: SendOnlyWebSocket) -> None:
        if not websocket.handshake_complete:  # it waits for a body, which a handshake must not have
            type(self).on_refused(HEADER_TIMEOUT)
            self._write_refusal(HEADER_TIMEOUT, "the handshake was not complete in time; send it without a body")
            self.transport.close()

    def _refuse_headers(self) -> None:
        limit = self.settings.max_header_bytes
        self._refuse(HEADER_BYTES, f"request line, headers and trailers are larger than {limit} bytes; send less")

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._timed_phase = self._phase
        if self._phase:
            settings = self.settings
            after_s = settings.header_timeout_s if self._phase == "head" else settings.body_timeout_s
            self._timer = self.loop.call_later(after_s, self._timed_out)

    def _timed_out(self) -> None:
        self._timer = None
        if self._phase == "body":
            after_s = self.settings.body_timeout_s
            self._refuse(BODY_TIMEOUT, f"the body did not arrive within {after_s:g} s; send it faster")
        elif self._framing_bytes:
            after_s = self.settings.header_timeout_s
            self._refuse(HEADER_TIMEOUT, f"the headers did not arrive within {after_s:g} s; send them faster")
        else:
            self.transport.close()  # the client sent nothing, so it expects no response

    def _refuse(self, kind: ErrorKind, text: str) -> None:
        """Send the error after the responses to earlier requests, unless its own response has begun, and close."""
        if self.refused is not None or self.transport.is_closing():
            return
        self.refused = kind
        owes_response = self._owes_response()
        cycle = self.cycle
        in_body = self._phase == "body"
        self._phase = ""
        if owes_response:
            type(self).on_refused(kind)
            self._last_words = text
            if in_body:
                self.pipeline.popleft()  # this request; the others in the queue are complete
            return
        if not in_body or not cycle.response_started:
            self._write_refusal(kind, text)
        if not in_body:
            type(self).on_refused(kind)
        elif not cycle.response_complete:  # its own line in the log has the refusal
            cycle.disconnected = True  # nothing may be written after the error
            cycle.message_event.set()
        self.transport.close()

    def _write_refusal(self, kind: ErrorKind, text: str) -> None:
        body = error_body(text)
        head = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n" % len(body)
        if kind.status == 503:
            head += b"retry-after: %d\r\n" % self.settings.retry_after_s
        self.transport.write(STATUS_LINE[kind.status] + head + b"\r\n" + body)

    def on_response_complete(self) -> None:
        was_last = not self.pipeline
        if not was_last:
            self._running = self.pipeline[-1][0]
        super().on_response_complete()
        if self._phase:  # what arrives, this body or the next request, has its own time limit
            self._unset_keepalive_if_required()
        if was_last and self.refused is not None and not self.transport.is_closing():
            self._write_refusal(self.refused, self._last_words)
            self.transport.close()


class _OldCycle(RequestResponseCycle):
    """The response to a client of HTTP/1.0, which knows no chunks: one of unknown length ends with the connection."""

    _has_length = True

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self._has_length = any(name == b"content-length" for name, _ in message["headers"])
            if not self._has_length:
                self.chunked_encoding = False
        elif not self._has_length:
            self.expected_content_length = len(message.get("body", b""))
        await super().send(message)


def connection_class(settings: Settings, on_refused: OnRefused) -> type[Connection]:
    """Return the Connection class of one server, for uvicorn's argument `http`."""
    return type("ServerConnection", (Connection,), {"settings": settings, "on_refused": staticmethod(on_refused)})
