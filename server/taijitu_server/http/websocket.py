"""uvicorn's WebSocket connection, for clients that have nothing to say."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

MOST_BYTES_A_SECOND = 4096  # more than pings and pongs; empty frames would take the loop seconds a megabyte


class ListeningOnly(WebSocketsSansIOProtocol):
    """Closes the connection of who sends more than a few pings and words."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.handshake_timer: asyncio.TimerHandle | None = None
        self._second = 0.0
        self._heard_bytes = 0

    def connection_lost(self, exc: Exception | None) -> None:
        if self.handshake_timer is not None:
            self.handshake_timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.handshake_initiated:
            now_s = self.loop.time()
            if now_s - self._second > 1:
                self._second, self._heard_bytes = now_s, 0
            self._heard_bytes += len(data)
            if self._heard_bytes > MOST_BYTES_A_SECOND:
                self.conn.fail(1008, "nobody listens here; send less")
                self.handle_parser_exception()
                return
        super().data_received(data)
