"""What is written to a connection in one turn of the event loop leaves by one system call.

uvicorn writes a response's head and its body one after the other, and uvloop sends each at once: the client would be
woken twice, and on a small machine it takes the server's core each time.
"""

from __future__ import annotations

import asyncio
from typing import Any


class JoinedWrites:
    """A transport around another one. All but writing is the other's.

    `patience_s`: how long a closed connection may stay for a client that does not take what it was sent.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, patience_s: float) -> None:
        self._transport = transport
        self._loop = loop
        self._patience_s = patience_s
        self._waiting: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Send `data` when this turn of the loop is over, or with the next to be sent."""
        self._waiting.append(data)
        if len(self._waiting) > 1:
            self._flush()
        else:
            self._loop.call_soon(self._flush)

    def write_eof(self) -> None:
        """Send what waits, and that no more will come."""
        self._flush()
        if not self._transport.is_closing():
            self._transport.write_eof()

    def close(self) -> None:
        """Send what waits, then close."""
        self._flush()
        self._transport.close()
        self._loop.call_soon(self._limit_closing)  # uvloop sends at the end of this turn; then nothing is left mostly

    def _limit_closing(self) -> None:
        if self._transport.get_write_buffer_size():
            self._loop.call_later(self._patience_s, self._transport.abort)

    def _flush(self) -> None:
        if self._waiting:
            data = self._waiting[0] if len(self._waiting) == 1 else b"".join(self._waiting)
            self._waiting.clear()
            if not self._transport.is_closing():  # lost since: uvloop raises where asyncio takes the data for nothing
                self._transport.write(data)
