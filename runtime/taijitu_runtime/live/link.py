"""The line between the reader and the process that captures: messages, and memory that both see.

Messages are JSON, one a packet. To the capturing process: {"do": "read", ...} once, which says what; then
{"do": "open", ...}, {"do": "free", ...}, {"do": "quit"}. From it {"is": "plan" | "opened" | "memory" | "frame" |
"pause" | "skipped" | "closed", ...}; "memory" comes with a file descriptor.
"""

from __future__ import annotations

import json
import mmap
import os
import socket
from typing import Any

import numpy as np
from numpy.typing import NDArray

SLOTS = 3  # one being written, the newest, and one being copied: the writer never waits for a live source
MAX_MESSAGE_BYTES = 64 * 1024  # the longest path, 4096 bytes, takes up to 24 KiB as JSON

Message = dict[str, Any]


class Link:
    """One end of the line; EOFError and OSError where the other end is gone."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end

    @staticmethod
    def pair() -> tuple[Link, socket.socket]:
        """Our end, and the other one to hand on."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        return Link(ours), theirs

    def fileno(self) -> int:
        """The descriptor to wait on; -1 once closed."""
        return self._end.fileno()

    def send(self, message: Message, descriptor: int | None = None) -> None:
        """Send one message, with a file descriptor if there is one."""
        packet = json.dumps(message).encode()
        if descriptor is None:
            self._end.send(packet)
        else:
            socket.send_fds(self._end, [packet], [descriptor])

    def receive(self) -> tuple[Message, int | None]:
        """Wait for one message, and the descriptor that came with it, which is the caller's to close."""
        packet, descriptors, _, _ = socket.recv_fds(self._end, MAX_MESSAGE_BYTES, 1)
        if not packet:
            raise EOFError("the other end of the line is closed")
        message: Message = json.loads(packet)
        return message, descriptors[0] if descriptors else None

    def close(self) -> None:
        """Close this end."""
        self._end.close()


class Memory:
    """SLOTS pictures of at most `slot_bytes` in memory without a name: gone with the last process that maps it."""

    def __init__(self, descriptor: int, slot_bytes: int) -> None:
        self.slot_bytes = slot_bytes
        self._map = mmap.mmap(descriptor, SLOTS * slot_bytes)

    @staticmethod
    def descriptor(slot_bytes: int) -> int:
        """A descriptor of new memory."""
        descriptor = os.memfd_create("taijitu-frames")
        os.ftruncate(descriptor, SLOTS * slot_bytes)
        return descriptor

    def picture(self, slot: int, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """The slot as uint8 of this shape: a view, valid as long as it is held."""
        count = int(np.prod(shape))
        return np.frombuffer(self._map, np.uint8, count, slot * self.slot_bytes).reshape(shape)
