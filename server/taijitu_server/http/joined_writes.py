"""Send all data that is written to a connection in one iteration of the event loop by one system call.

uvicorn writes the head and the body of a response one after the other, and uvloop sends each write immediately. The
client would be woken twice, and on a small machine it takes the server's core each time.
"""

from __future__ import annotations

import asyncio
from typing import Any


class JoinedWrites:
    """A transport that wraps another one and joins its writes.

    Args:
        transport: The transport that sends.
        loop: The event loop of both.
        abort_after_s: How long a closed connection may wait for a client that does not read what it was sent.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, abort_after_s: float) -> None:
        self._transport = transport
        self._loop = loop
        self._abort_after_s = abort_after_s
        self._waiting: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Send `data` at the end of this iteration of the loop, or together with the next write."""
        self._waiting.append(data)
        if len(self._waiting) > 1:
            self._flush()
        else:
            self._loop.call_soon(self._flush)

    def write_eof(self) -> None:
        """Send the data that waits, then signal that no more will follow."""
        self._flush()
        if not self._transport.is_closing():
            self._transport.write_eof()

    def close(self) -> None:
        """Send the data that waits, then close."""
        self._flush()
        self._transport.close()
        self._loop.call_soon(
            self._limit_closing
        )  # uvloop sends at the end of this iteration; usually nothing is left then

    def _limit_closing(self) -> None:
        if self._transport.get_write_buffer_size():
            self._loop.call_later(self._abort_after_s, self._transport.abort)

    def _flush(self) -> None:
        if self._waiting:
            data = self._waiting[0] if len(self._waiting) == 1 else b"".join(self._waiting)
            self._waiting.clear()
            if not self._transport.is_closing():  # the connection was lost: uvloop would raise, asyncio drops the data
                self._transport.write(data)
