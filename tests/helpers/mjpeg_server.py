"""A live source over a real socket: MJPEG over HTTP whose frames carry their creation time.

In a process of its own: python -m tests.helpers.mjpeg_server [--width 640] [--height 480] [--rate 30]
It prints its port, then obeys the commands on stdin: unplug, stall, restore.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import functools
import queue
import socket
import sys
import threading
import time

import cv2
import numpy as np
from numpy.typing import NDArray

BITS, BLOCK = 32, 16
HEAD = b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=frame\r\n\r\n"


def stamped(time_s: float, width: int, height: int, colour: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Return a frame, uint8 BGR, that carries `time_s`, to the millisecond, in a row of black and white blocks."""
    frame = np.full((height, width, 3), colour, np.uint8)
    number = round(1000 * time_s) % 2**BITS
    for bit in range(BITS):
        frame[:BLOCK, bit * BLOCK : (bit + 1) * BLOCK] = 255 * (number >> bit & 1)
    return frame


def age_ms(frame: NDArray[np.uint8]) -> float:
    """Return the age of a stamped frame."""
    middles = frame[BLOCK // 2, BLOCK // 2 : BITS * BLOCK : BLOCK].mean(axis=1) > 127
    number = sum(1 << bit for bit, white in enumerate(middles) if white)
    return float((round(1000 * time.monotonic()) - number) % 2**BITS)


class MjpegServer:
    """A server that makes `rate_hz` frames per second and sends each of them to every client, however slowly it reads.

    `unplug`: connections break, new ones are refused. `stall`: connections stay and new ones are accepted, but nothing
    comes any more, on any of these. `restore`: new connections are served. `is_frozen`: the last frame is sent
    again and again. `cut_every`: one of so many frames is truncated to
    `cut_share`; 0: none. `line_end`, `has_lengths`: of its parts.
    """

    def __init__(
        self,
        width: int = 640,
        height: int = 480,
        rate_hz: float = 30,
        colour: tuple[int, int, int] = (0, 0, 200),
        *,
        cut_every: int = 0,
        cut_share: float = 0.5,
        line_end: bytes = b"\r\n",
        has_lengths: bool = True,
    ) -> None:
        self._make = functools.partial(stamped, width=width, height=height, colour=colour)
        self._interval_s = 1 / rate_hz
        self._cut_share = cut_share
        self._cut_every, self._line_end, self._has_lengths = cut_every, line_end, has_lengths
        self.is_frozen = False
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None
        self._sockets: list[socket.socket] = []
        self._served: list[queue.SimpleQueue[bytes | None]] = []
        self.connections = 0
        self.port = 0
        self._listen(serving=True)
        threading.Thread(target=self._produce, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/stream.mjpg"

    def unplug(self) -> None:
        self._silence()
        with self._lock:
            for client in self._sockets:
                with contextlib.suppress(OSError):
                    client.shutdown(socket.SHUT_RDWR)
                client.close()
            self._sockets = []

    def stall(self) -> None:
        self._silence()
        self._listen(serving=False)

    def restore(self) -> None:
        self._silence()
        self._listen(serving=True)

    def __enter__(self) -> MjpegServer:
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.unplug()

    def _silence(self) -> None:
        with self._lock:
            if self._listener:
                self._listener.shutdown(socket.SHUT_RDWR)  # wakes the accepting thread
                self._listener.close()
                self._listener = None
            for frames in self._served:
                frames.put(None)
            self._served = []

    def _listen(self, *, serving: bool) -> None:
        listener = socket.create_server(("127.0.0.1", self.port))
        self.port = listener.getsockname()[1]
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener, serving), daemon=True).start()

    def _accept(self, listener: socket.socket, serving: bool) -> None:
        while True:
            try:
                client = listener.accept()[0]
            except OSError as error:
                if error.errno != errno.EMFILE:
                    return
                time.sleep(0.01)  # a test takes all descriptors of this process for a moment
                continue
            with self._lock:
                if self._listener is not listener:
                    client.close()
                    return
                self._sockets.append(client)
                self.connections += 1
                if serving:
                    frames: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
                    self._served.append(frames)
                    threading.Thread(target=self._send, args=(client, frames), daemon=True).start()

    def _send(self, client: socket.socket, frames: queue.SimpleQueue[bytes | None]) -> None:
        with contextlib.suppress(OSError):
            client.sendall(HEAD)
            while (frame := frames.get()) is not None:
                client.sendall(frame)

    def _produce(self) -> None:
        due_s = time.monotonic()
        jpeg, made = b"", 0
        while not self._over.wait(max(0.0, due_s - time.monotonic())):
            due_s = max(due_s + self._interval_s, time.monotonic())
            with self._lock:
                served = list(self._served)
            if served:
                if not (self.is_frozen and jpeg):
                    jpeg = cv2.imencode(".jpg", self._make(time.monotonic()))[1].tobytes()
                made += 1
                is_cut = self._cut_every and made % self._cut_every == 0
                part = self._part(jpeg[: int(self._cut_share * len(jpeg))] if is_cut else jpeg)
                for frames in served:
                    frames.put(part)

    def _part(self, jpeg: bytes) -> bytes:
        head = [b"--frame", b"Content-Type: image/jpeg"]
        head += [b"Content-Length: %d" % len(jpeg)] if self._has_lengths else []
        return self._line_end.join([*head, b"", jpeg, b""])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--height", type=int, default=480)
    parser.add_argument("--rate", type=float, default=30)
    args = parser.parse_args()
    with MjpegServer(args.width, args.height, args.rate) as server:
        print(server.port, flush=True)
        for line in sys.stdin:
            {"unplug": server.unplug, "stall": server.stall, "restore": server.restore}[line.strip()]()
            print("done", flush=True)


if __name__ == "__main__":
    main()
