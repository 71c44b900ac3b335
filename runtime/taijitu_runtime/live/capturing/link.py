"""The link between the reader and the capturing process: messages and shared memory.

Messages are JSON, one per packet. To the capturing process: {"do": "read", ...} once, with the source; then
{"do": "open", ...}, {"do": "free", ...}, {"do": "quit"}. From it {"is": "plan" | "opened" | "memory" | "frame" |
"pause" | "skipped" | "closed", ...}; "memory" has a file descriptor attached.
"""

from __future__ import annotations

import json
import mmap
import os
import socket
from typing import Any

import numpy as np
from numpy.typing import NDArray

SLOTS = 3  # one being written, the newest, and one being copied, so that the writer never waits for the reader
MAX_MESSAGE_BYTES = 64 * 1024  # the longest path, 4096 bytes, takes up to 24 KiB as JSON

Message = dict[str, Any]


class Link:
    """One end of the link. Its methods raise EOFError or OSError when the other end is gone."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end

    @staticmethod
    def pair() -> tuple[Link, socket.socket]:
        """Return this process's end, and the socket of the other end."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        return Link(ours), theirs

    def fileno(self) -> int:
        """Return the descriptor to wait on; -1 when closed."""
        return self._end.fileno()

    def send(self, message: Message, descriptor: int | None = None) -> None:
        """Send one message, and a file descriptor if given."""
        packet = json.dumps(message).encode()
        if descriptor is None:
            self._end.send(packet)
        else:
            socket.send_fds(self._end, [packet], [descriptor])

    def receive(self) -> tuple[Message, int | None]:
        """Wait for one message; return it and the attached descriptor, which the caller closes."""
        packet, descriptors, _, _ = socket.recv_fds(self._end, MAX_MESSAGE_BYTES, 1)
        if not packet:
            raise EOFError("the other end of the link is closed")
        message: Message = json.loads(packet)
        return message, descriptors[0] if descriptors else None

    def close(self) -> None:
        """Close this end."""
        self._end.close()


class Memory:
    """Anonymous memory for SLOTS images of at most `slot_bytes`, freed with the last process that maps it."""

    def __init__(self, descriptor: int, slot_bytes: int) -> None:
        self.slot_bytes = slot_bytes
        self._map = mmap.mmap(descriptor, SLOTS * slot_bytes)

    @staticmethod
    def descriptor(slot_bytes: int) -> int:
        """Return a descriptor of new memory."""
        descriptor = os.memfd_create("taijitu-frames")
        os.ftruncate(descriptor, SLOTS * slot_bytes)
        return descriptor

    def picture(self, slot: int, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """Return a view of the slot as uint8 of this shape."""
        count = int(np.prod(shape))
        return np.frombuffer(self._map, np.uint8, count, slot * self.slot_bytes).reshape(shape)
