"""uvicorn's HTTP connection, with the limits that it lacks: on time, on headers, on chunks, on connections.

A stalled client costs one timer; a request that arrives whole, and an answer that is taken at once, cost none. Leaving
clients are noticed at once, so that work queued for them can be dropped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, cast

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from taijitu_server.errors import error_body
from taijitu_server.http.joined_writes import JoinedWrites
from taijitu_server.settings import Settings

if TYPE_CHECKING:
    from taijitu_server.http.websocket import ListeningOnly

CONNECTION = "taijitu.connection"  # where a request's scope has its Connection, among ASGI's extensions
MAX_CHUNKS = 65_536
CHUNK_LINE_BYTES = 16  # a chunk's length and line ends, and a little more; what is above counts as a header
LINGER_S = 1.0

OnRefused = Callable[[int, str], None]  # status, reason


class Connection(HttpToolsProtocol):
    """One client's connection. `waiting`: what is cancelled when the client leaves; `refused`: why we closed it."""

    settings: ClassVar[Settings]
    on_refused: ClassVar[OnRefused]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.waiting: asyncio.Future[Any] | None = None
        self.is_gone = False
        self.refused: tuple[int, str] | None = None
        self._running: RequestResponseCycle | None = None  # uvicorn's `cycle` is the newest, which may wait behind it
        self._phase = "head"  # what is being waited for: "head", "body", or "" where nothing is
        self._timed = ""
        self._timer: asyncio.TimerHandle | None = None
        self._untaken: asyncio.TimerHandle | None = None
        self._framing_bytes = self._chunks = 0  # of the current request: all but its body; its chunks

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        joined = JoinedWrites(transport, self.loop, self.settings.body_timeout_s)
        super().connection_made(cast(asyncio.Transport, joined))
        if len(self.connections) > self.settings.max_connections:
            self._refuse(503, "connections", "too many connections; try again later")
            return
        self._set_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_gone = True
        self._phase = ""
        self._set_timer()
        if self._untaken is not None:
            self._untaken.cancel()
        super().connection_lost(exc)
        self._unset_keepalive_if_required()  # uvicorn does not after a reset: the timer would keep all this in memory
        if self._running is not None:
            self._running.disconnected = True
            self._running.message_event.set()
        if self.waiting is not None:
            self.waiting.cancel()

    def pause_writing(self) -> None:
        """What the loop calls once the client leaves too much of the answers untaken."""
        super().pause_writing()
        self._untaken = self.loop.call_later(self.settings.body_timeout_s, self.transport.abort)

    def resume_writing(self) -> None:
        """What the loop calls once it has taken most of that."""
        super().resume_writing()
        if self._untaken is not None:
            self._untaken.cancel()
            self._untaken = None

    def data_received(self, data: bytes) -> None:
        if self.refused is not None:
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
        if self._phase != self._timed:
            self._set_timer()

    def _parse(self, data: bytes) -> None:
        """As uvicorn, but who asks for a protocol that we lack, such as HTTP/2, is answered as if it had not."""
        self._unset_keepalive_if_required()
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
                    # The parser takes a body here for the next request: a new one gets the head without the wish.
                    pieces = [memoryview(piece)[upgrade.args[0] :], self._head_without_upgrade()]
                    self.parser = httptools.HttpRequestParser(self)
                    self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's
        except httptools.HttpParserError:
            self._refuse(400, "http", "the request is no valid HTTP")

    def _head_without_upgrade(self) -> bytes:
        version = self.parser.get_http_version().encode()
        headers = b"".join(b"%s: %s\r\n" % header for header in self.headers if header[0] != b"upgrade")
        return b"%s %s HTTP/%s\r\n%s\r\n" % (self.parser.get_method(), self.url, version, headers)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._phase = "head"
        self._chunks = 0
        self.scope["extensions"] = {CONNECTION: {"connection": self}}

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade() and not self._should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                self._refuse(400, "http", "CONNECT is for proxies; this is none")
            return  # `_parse` begins this request again
        self._framing_bytes = 0
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size > self.settings.max_header_bytes:
            self._refuse_headers()
        if self.refused is not None:
            return
        if self.parser.should_upgrade():  # uvicorn would only look at it in the handshake, outside of the parser
            httptools.parse_url(self.url).path.decode("ascii")
        super().on_headers_complete()  # raises for a damaged URL: there is no request yet then
        self._phase = "body"
        if not self.pipeline:
            self._running = self.cycle
        if not self.parser.should_upgrade():
            self.headers = []  # where the parser puts trailers, which take nothing from the request's own headers

    def on_chunk_header(self) -> None:
        self._chunks += 1
        if self._chunks > MAX_CHUNKS and self.refused is None:
            self._refuse(400, "chunks", f"the body comes in more than {MAX_CHUNKS} chunks; send larger ones")

    def on_body(self, body: bytes) -> None:
        self._framing_bytes -= len(body)
        if self.refused is None:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if self._phase == "body":  # else it is refused, or `_parse` begins it again
            self._phase = ""
            self._framing_bytes = 0
            if self._timer is not None:
                self._set_timer()  # so that the next request, which may begin in the same piece, has time of its own
            super().on_message_complete()

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection over to uvicorn's protocol; of our limits only that on the handshake's time goes on."""
        self._phase = ""
        self._set_timer()
        super().handle_websocket_upgrade()
        websocket = cast("ListeningOnly", self.transport.get_protocol())
        after_s = self.settings.header_timeout_s
        websocket.handshake_timer = self.loop.call_later(after_s, self._end_handshake, websocket)

    def _end_handshake(self, websocket: ListeningOnly) -> None:
        if not websocket.handshake_complete:  # it waits for a body, which a handshake has not
            type(self).on_refused(408, "header_timeout")
            self._write_refusal(408, "the handshake was not complete in time; send it without a body")
            self.transport.close()

    def _refuse_headers(self) -> None:
        limit = self.settings.max_header_bytes
        self._refuse(
            431, "header_bytes", f"request line, headers and trailers are larger than {limit} bytes; send less"
        )

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._timed = self._phase
        if self._phase:
            settings = self.settings
            after_s = settings.header_timeout_s if self._phase == "head" else settings.body_timeout_s
            self._timer = self.loop.call_later(after_s, self._late)

    def _late(self) -> None:
        self._timer = None
        if self._phase == "body":
            after_s = self.settings.body_timeout_s
            self._refuse(408, "body_timeout", f"the body did not arrive within {after_s:g} s; send it faster")
        elif self._framing_bytes:
            after_s = self.settings.header_timeout_s
            self._refuse(408, "header_timeout", f"the headers did not arrive within {after_s:g} s; send them faster")
        else:
            self.transport.close()  # it never sent anything: nobody expects an answer

    def _refuse(self, status: int, reason: str, text: str) -> None:
        """Answer, unless this would end up in another answer, and close once earlier requests are answered."""
        if self.refused is not None:
            return
        self.refused = (status, reason)
        in_body, self._phase = self._phase == "body", ""
        cycle = self.cycle
        is_unanswered = cycle is not None and not cycle.response_complete
        if not (in_body and is_unanswered) or self.pipeline:
            type(self).on_refused(status, reason)  # else the log line of the request says so
        if self.pipeline or (is_unanswered and not in_body):
            if in_body:
                self.pipeline.popleft()  # this request, behind others that came whole
            return
        if not in_body or not cycle.response_started:
            self._write_refusal(status, text)
        if is_unanswered:  # nothing may be written behind our answer
            cycle.disconnected = True
            cycle.message_event.set()
        self._hang_up()

    def _write_refusal(self, status: int, text: str) -> None:
        body = error_body(text)
        head = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n" % len(body)
        if status == 503:
            head += b"retry-after: %d\r\n" % self.settings.retry_after_s
        self.transport.write(STATUS_LINE[status] + head + b"\r\n" + body)

    def on_response_complete(self) -> None:
        was_last = not self.pipeline
        if not was_last:
            self._running = self.pipeline[-1][0]
        super().on_response_complete()
        if was_last and self.refused is not None:
            self._hang_up()

    def _hang_up(self) -> None:
        if self.transport.is_closing():
            return
        # Closing with data unread would reset the connection, and the client might never see the answer.
        self.transport.write_eof()
        self.loop.call_later(LINGER_S, self.transport.close)


def connection_class(settings: Settings, on_refused: OnRefused) -> type[Connection]:
    """The class for one server, for uvicorn's `http=`."""
    return type("ServerConnection", (Connection,), {"settings": settings, "on_refused": staticmethod(on_refused)})
