"""uvicorn's WebSocket connection for results, which the server sends and clients only read."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

MAX_BYTES_PER_SECOND = 4096  # enough for pings and pongs; a megabyte of empty frames would block the loop for seconds


class SendOnlyWebSocket(WebSocketsSansIOProtocol):
    """A WebSocket that is closed if the client sends more than a few pings and short messages."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.handshake_timer: asyncio.TimerHandle | None = None
        self._second = 0.0
        self._received_bytes = 0

    def connection_lost(self, exc: Exception | None) -> None:
        if self.handshake_timer is not None:
            self.handshake_timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.handshake_initiated:
            now_s = self.loop.time()
            if now_s - self._second > 1:
                self._second, self._received_bytes = now_s, 0
            self._received_bytes += len(data)
            if self._received_bytes > MAX_BYTES_PER_SECOND:
                self.conn.fail(1008, "the server does not read messages; send less")
                self.handle_parser_exception()
                return
        super().data_received(data)
