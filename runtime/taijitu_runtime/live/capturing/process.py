"""The reader's side of the capturing process: start it, receive its messages, kill it."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import select
import subprocess
import threading
import time
from collections import deque
from pathlib import Path

from taijitu_runtime.child_python import python_command
from taijitu_runtime.console import shown
from taijitu_runtime.live.capturing.damage import MARK, Damage
from taijitu_runtime.live.capturing.link import Link, Memory, Message
from taijitu_runtime.live.sources import Source, without_password
from taijitu_runtime.machine import read_text

BOOT = "from taijitu_runtime.live.capturing.child import main; main(sys.argv[1:])"
LINES_KEPT = 40

logger = logging.getLogger(__name__)


class CaptureProcess:
    """A running capturing process.

    Attributes:
        said: The last lines that it and its libraries printed.
        damage: The damaged frames, as these lines report them.
    """

    def __init__(self, source: Source, *, realtime: bool) -> None:
        self._link, theirs = Link.pair()
        with theirs, contextlib.ExitStack() as if_it_fails:
            if_it_fails.callback(self._link.close)
            # A separate session: only the reader handles the signals of a terminal (Ctrl-C, hang-up, stop).
            self._process = subprocess.Popen(
                python_command(BOOT, str(theirs.fileno())),
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            if_it_fails.pop_all()
        assert self._process.stdout is not None
        self._output = self._process.stdout
        self._sending = threading.Lock()  # the descriptor must not be closed and reused while another thread sends
        self._unfinished = b""
        self._memories: dict[int, Memory] = {}
        self.said: deque[str] = deque(maxlen=LINES_KEPT)
        self.damage = Damage()
        self._poll = select.poll()
        self._poll.register(self._link.fileno(), select.POLLIN)
        self._poll.register(self._output.fileno(), select.POLLIN)
        # Not as an argument, which every user of the machine may read: a URL may contain a password.
        self._send_if_there({"do": "read", "source": dataclasses.asdict(source), "realtime": realtime})

    def open(self, *, open_s: float, stall_s: float) -> None:
        """Tell it to open the source within these limits. Raises OSError if the process is gone."""
        self._drain()
        self.said.clear()  # messages about an earlier attempt would mislead
        self._link.send({"do": "open", "open_s": open_s, "stall_s": stall_s})

    def free(self, memory: int, slot: int) -> None:
        """Return a slot to the process."""
        self._send_if_there({"do": "free", "memory": memory, "slot": slot})

    def receive(self, timeout_s: float) -> Message | None:
        """Return the next message, or None if none came in time. Raises EOFError if the process is gone."""
        deadline_s = time.monotonic() + timeout_s
        while (left_s := deadline_s - time.monotonic()) > 0:
            ready = {descriptor for descriptor, _ in self._poll.poll(1000 * left_s)}
            if self._output.fileno() in ready:
                self._hear()
            if self._link.fileno() in ready:
                message = self._take()
                if message is not None:
                    return message
        return None

    def memory(self, number: int) -> Memory:
        """Return the memory of that number, the last or the one before."""
        return self._memories[number]

    @property
    def own_bytes(self) -> int:
        """The memory that it takes, without what it shares with this process; 0 where the kernel does not say."""
        pages = read_text(Path(f"/proc/{self._process.pid}/statm")).split()  # in all, resident, shared, ...
        return (int(pages[1]) - int(pages[2])) * os.sysconf("SC_PAGE_SIZE") if pages else 0

    def quit(self) -> None:
        """Ask it to release the camera and to end; it takes at most RELEASE_TIMEOUT_S, unless it is stopped."""
        self._send_if_there({"do": "quit"})

    def kill(self) -> str:
        """Kill it, free its resources in this process, and return how it ended."""
        self._process.kill()
        code = self._process.wait()
        self._drain()
        with self._sending:
            self._link.close()
        self._output.close()
        self._memories.clear()
        return f"signal {-code}" if code < 0 else f"exit code {code}"

    def _send_if_there(self, message: Message) -> None:
        with self._sending, contextlib.suppress(OSError):
            self._link.send(message)

    def _take(self) -> Message | None:
        try:
            message, descriptor = self._link.receive()
        except ConnectionError as error:
            raise EOFError("the capturing process is gone") from error
        if descriptor is None:
            return message
        try:
            number: int = message["number"]
            self._memories = {n: m for n, m in self._memories.items() if n == number - 1}
            self._memories[number] = Memory(descriptor, message["slot_bytes"])
        finally:
            os.close(descriptor)
        return None

    def _drain(self) -> None:
        while self._output.fileno() in {descriptor for descriptor, _ in self._poll.poll(0)} and self._hear():
            pass

    def _hear(self) -> bool:
        chunk = os.read(self._output.fileno(), 65536)
        if not chunk:
            self._poll.unregister(self._output.fileno())
            return False
        *lines, self._unfinished = (self._unfinished + chunk).split(b"\n")
        for line in lines:
            if line.startswith(MARK):
                self.damage.mark(line)
                continue
            text = shown(without_password(line.decode(errors="replace").strip()))
            if text:
                self.said.append(text)
                self.damage.hear(text)
                logger.debug("%s", text)
        return True
