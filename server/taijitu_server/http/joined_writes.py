"""Send all data that is written to a connection in one iteration of the event loop by one system call; close gently.

uvicorn writes the head and the body of a response one after the other, and uvloop sends each write immediately. The
client would be woken twice, and on a small machine it takes the server's core each time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

LINGER_S = 1.0


class JoinedWrites:
    """A transport that wraps another one and joins its writes.

    Args:
        transport: The transport that sends.
        loop: The event loop of both.
        abort_after_s: How long a closed connection may wait for a client that does not read what it was sent.
        client_sends: Whether the client is still sending. Closing while data is unread would reset the connection, and
            the client might never see the response: `close` tells it that no more will follow, and closes later.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        loop: asyncio.AbstractEventLoop,
        abort_after_s: float,
        client_sends: Callable[[], bool],
    ) -> None:
        self._transport = transport
        self._loop = loop
        self._abort_after_s = abort_after_s
        self._client_sends = client_sends
        self._waiting: list[bytes] = []
        self._lingers = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Send `data` at the end of this iteration of the loop, or together with the next write."""
        self._waiting.append(data)
        if len(self._waiting) > 1:
            self._flush()
        else:
            self._loop.call_soon(self._flush)

    def is_closing(self) -> bool:
        """Return whether `close` was called, or the connection was lost."""
        return self._lingers or self._transport.is_closing()

    def close(self) -> None:
        """Send the data that waits, then close."""
        if self._lingers:
            return
        self._flush()
        if self._client_sends() and not self._transport.is_closing():
            self._lingers = True
            self._transport.write_eof()
            self._transport.resume_reading()
            self._loop.call_later(LINGER_S, self._close)
        else:
            self._close()

    def _close(self) -> None:
        self._transport.close()
        self._loop.call_soon(self._limit_closing)  # uvloop sends at the end of this iteration; little is left then

    def _limit_closing(self) -> None:
        if self._transport.get_write_buffer_size():
            self._loop.call_later(self._abort_after_s, self._transport.abort)

    def _flush(self) -> None:
        if self._waiting:
            data = self._waiting[0] if len(self._waiting) == 1 else b"".join(self._waiting)
            self._waiting.clear()
            if not self.is_closing():  # for a lost connection uvloop would raise, and asyncio drops the data
                self._transport.write(data)
