"""The capturing process: opens the source on command and writes its frames into shared memory.

It is a separate process because a camera's driver or a dead network can block a read forever: a blocked thread cannot
be ended, and would keep its descriptors, but a process can be killed. It also isolates crashes of drivers, lets the
reader see what libraries print, and imports OpenCV before anything else (the cure for "cannot allocate memory in static
TLS block").
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from taijitu_runtime.errors import PictureError, TaijituError, require
from taijitu_runtime.live.capturing.capture import Capture, open_capture
from taijitu_runtime.live.capturing.damage import frame_mark, is_mostly_grey, open_mark
from taijitu_runtime.live.capturing.link import SLOTS, Link, Memory, Message
from taijitu_runtime.live.capturing.pipelines import Platform, detect_platform, plan_from_source
from taijitu_runtime.live.sources import Mode, Source, without_password

RELEASE_TIMEOUT_S = 1.0  # to release the camera (otherwise Argus keeps it busy) before the process ends itself
MAX_PAUSE_S = 0.5
FEW_ROWS = 32
MOSTLY_GREY = "got a frame that is mostly of one grey, which decoders put in place of lost data"
STALL_SHARE = 0.9  # of the limit: FFmpeg reports a file's end and its own time limit alike, so the time decides

# Live streams are not to be buffered anywhere. What the user set stays.
FFMPEG_LIVE = {"rtsp": "rtsp_transport;tcp|fflags;nobuffer|flags;low_delay", "http": "fflags;nobuffer|flags;low_delay"}
# Without these, neither library says why it cannot open a source: for FFmpeg, a refusal is only a warning (24).
VERBOSE_LOGGING = {"OPENCV_FFMPEG_LOGLEVEL": "24", "GST_DEBUG": "1", "GST_DEBUG_NO_COLOR": "1"}


def main(arguments: list[str]) -> None:
    """Serve the link whose descriptor is given, until told to quit or the reader is gone."""
    # systemd sends these to every process of a service; the reader handles them and gives the camera time to close.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    link = Link(socket.socket(fileno=int(arguments[0])))
    request, _ = link.receive()
    source = Source(**{**request["source"], "mode": Mode(**request["source"]["mode"])})
    for name, value in VERBOSE_LOGGING.items():
        os.environ.setdefault(name, value)
    if source.kind in FFMPEG_LIVE:
        os.environ.setdefault("OPENCV_FFMPEG_CAPTURE_OPTIONS", FFMPEG_LIVE[source.kind])
    commands = Commands(link)
    sender = Sender(link, commands, live=source.live, realtime=request["realtime"])
    # The reader may be gone at any moment. Other errors end the process too, but are printed for the reader.
    with contextlib.suppress(ConnectionError):
        for order in commands.openings():
            final, stalled = None, None
            try:
                _attempt(source, sender, order["open_s"], order["stall_s"])
            except TaijituError as error:
                final = str(error)
            except TimeoutError as error:
                stalled = str(error)
            link.send({"is": "closed", "final": final, "stalled": stalled})
    os._exit(0)  # threads of a driver must not keep the process alive


def _attempt(source: Source, sender: Sender, open_s: float, stall_s: float) -> None:
    """Send all frames. Raises TaijituError if another attempt cannot help, TimeoutError for a file that stalls."""
    cv2 = None if source.kind == "pictures" else require("cv2", "taijitu[camera]")
    plan = plan_from_source(source, detect_platform(cv2) if cv2 else Platform(False, False))
    sender.link.send({"is": "plan", "text": without_password(str(plan))})
    capture = open_capture(cv2, plan, open_s, stall_s, live=source.live)
    if capture is not None:
        with contextlib.closing(capture):
            waited_s = sender.send_all(capture)
        if not source.live and waited_s > STALL_SHARE * stall_s:
            raise TimeoutError(f"no frame for {waited_s:.1f} s")


class Commands:
    """The commands of the reader, received by a thread, so that they arrive while a read is blocked."""

    def __init__(self, link: Link) -> None:
        self.quit = threading.Event()
        self._link = link
        self._openings: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self._freed: queue.SimpleQueue[tuple[int, int] | None] = queue.SimpleQueue()
        threading.Thread(target=self._listen, daemon=True).start()

    def openings(self) -> Iterator[Message]:
        """Yield the commands to open, each with its time limits: "open_s" and "stall_s", in seconds."""
        while (order := self._openings.get()) is not None:
            yield order

    def freed(self, *, wait: bool) -> tuple[int, int] | None:
        """Return the next free slot with the number of its memory; None if there is none, or at the end."""
        try:
            return self._freed.get(block=wait)
        except queue.Empty:
            return None

    def _listen(self) -> None:
        with contextlib.suppress(EOFError, OSError):
            while (order := self._link.receive()[0])["do"] != "quit":
                if order["do"] == "open":
                    self._openings.put(order)
                else:
                    self._freed.put((order["memory"], order["slot"]))
        self.quit.set()
        self._openings.put(None)
        self._freed.put(None)
        time.sleep(RELEASE_TIMEOUT_S)
        os._exit(0)


class Sender:
    """Writes frames into free slots. Without a free slot, a frame of a live source is dropped, and a file waits."""

    def __init__(self, link: Link, commands: Commands, *, live: bool, realtime: bool) -> None:
        self.link = link
        self._commands, self._live, self._realtime = commands, live, realtime
        self._memory: Memory | None = None
        self._memories = 0
        self._free: deque[int] = deque()  # the oldest first, so that the last image stays as long as possible
        self._last: NDArray[np.uint8] | None = None
        self._shape: tuple[int, ...] = (0,)
        self._read = 0
        self._key = 0  # the last key frame

    def send_all(self, capture: Capture) -> float:
        """Send frames until the capture has no more, or has to quit; return how long the last wait took, in s."""
        self.link.send({"is": "opened", "rate_hz": capture.rate_hz, "mode_fault": capture.mode_fault})
        _print(open_mark(capture.threads))
        began_s = asked_s = time.monotonic()
        last_s = 0.0
        while not self._commands.quit.is_set() and capture.grab():
            if self._realtime and capture.position_s is not None:
                if capture.position_s < last_s:  # joined recordings, whose times start again
                    began_s = time.monotonic() - capture.position_s
                last_s = capture.position_s
                self._wait_until(began_s + last_s)
            captured_s = time.monotonic()
            self._read += 1
            if capture.is_key:
                self._key = self._read
            if self._take_slot():
                self._send(capture, captured_s)
            else:
                _print(frame_mark(self._read))
            asked_s = time.monotonic()
        return time.monotonic() - asked_s

    def _send(self, capture: Capture, captured_s: float) -> None:
        try:
            picture, reason = capture.retrieve(self._slot()), "got a frame that cannot be decoded"
        except PictureError as error:
            picture, reason = None, str(error)
        if picture is not None and self._live and is_mostly_grey(picture):
            picture, reason = None, MOSTLY_GREY
        _print(frame_mark(self._read))  # before the message, so that the reader has the mark when it gets the message
        if picture is None:
            self.link.send({"is": "skipped", "read": self._read, "key": self._key, "text": reason})
            return
        self._place(picture)
        repeated = self._live and self._is_repeated()
        self.link.send(
            {
                "is": "frame",
                "memory": self._memories,
                "slot": self._free.popleft(),
                "shape": self._shape,
                "read": self._read,
                "key": self._key,
                "is_repeated": repeated,
                "captured_s": captured_s,
                "position_s": None if self._live else capture.position_s,
                "name": capture.name,
            }
        )

    def _take_slot(self) -> bool:
        while freed := self._commands.freed(wait=False):
            self._take_back(freed)
        while not self._free and self._memory and not self._live:
            freed = self._commands.freed(wait=True)
            if freed is None:
                return False
            self._take_back(freed)
        return bool(self._free) or self._memory is None

    def _take_back(self, freed: tuple[int, int]) -> None:
        memory, slot = freed
        if memory == self._memories:
            self._free.append(slot)

    def _slot(self) -> NDArray[np.uint8] | None:
        return self._memory.picture(self._free[0], self._shape) if self._memory else None

    def _place(self, picture: NDArray[np.uint8]) -> None:
        """Copy the image into the slot, unless it was decoded there: not if the size is new or has changed."""
        if self._memory is None or picture.nbytes > self._memory.slot_bytes:
            descriptor = Memory.descriptor(picture.nbytes)
            self._memory = Memory(descriptor, picture.nbytes)
            self._memories += 1
            self._free = deque(range(SLOTS))
            self._last = None
            self.link.send({"is": "memory", "number": self._memories, "slot_bytes": picture.nbytes}, descriptor)
            os.close(descriptor)
        self._shape = picture.shape
        slot = self._memory.picture(self._free[0], self._shape)
        if not np.may_share_memory(picture, slot):
            np.copyto(slot, picture)

    def _is_repeated(self) -> bool:
        """Return whether the image in the slot equals the last one; comparing a few rows is usually enough."""
        picture, last = self._slot(), self._last
        self._last = picture
        if picture is None or last is None or last.shape != picture.shape or np.may_share_memory(picture, last):
            return False
        return np.array_equal(picture[::FEW_ROWS], last[::FEW_ROWS]) and np.array_equal(picture, last)

    def _wait_until(self, due_s: float) -> None:
        while (left_s := due_s - time.monotonic()) > 0 and not self._commands.quit.wait(min(left_s, MAX_PAUSE_S)):
            self.link.send({"is": "pause"})


def _print(mark: bytes) -> None:
    os.write(1, mark)
