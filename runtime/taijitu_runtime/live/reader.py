"""Reader: the frames of a source, from a thread that never falls behind and that survives failures of the source."""

from __future__ import annotations

import dataclasses
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Iterator

from taijitu_runtime.console import shown
from taijitu_runtime.errors import UsageError, describe
from taijitu_runtime.live.capturing.child import RELEASE_TIMEOUT_S
from taijitu_runtime.live.capturing.diagnosis import cure
from taijitu_runtime.live.capturing.link import Memory, Message
from taijitu_runtime.live.capturing.process import CaptureProcess
from taijitu_runtime.live.sources import Source, source_from_text
from taijitu_runtime.live.states import FINISHED, Counters, Frame, FrozenDetector, State, TimeLimits, Timeouts
from taijitu_runtime.machine import available_bytes

START_S = 30.0  # for Python and OpenCV to load in the capturing process
GRACE_S = 0.5  # for the capturing process to keep a limit itself, before it is killed
POLL_S = 0.25
# The growth of the capturing process between two frames. Decoders of 8K video that run 16 frames ahead need less.
# FFmpeg collects a whole picture before anything checks its size: one that never ends would fill the memory.
MAX_GROWTH_BYTES = 2**30
STEADY_S = 1.0  # a source that ran this long is opened again at once
WARN_INTERVAL_S = 10.0  # between two warnings of damaged frames
DELIVERING = (State.RUNNING, State.FROZEN)
SAME_FRAME = (
    "got identical frames for {:.0f} s, expected the noise of a sensor; restart the camera or its encoder; for a still "
    "picture: --frozen 0, in the server --camera-frozen-s 0"
)
ENDLESS = "expected a picture or video whose frames end; check that it plays elsewhere, and its format"

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class _Waiting:
    process: CaptureProcess
    memory: Memory
    message: Message
    number: int
    is_frozen: bool

    def free(self) -> None:
        self.process.free(self.message["memory"], self.message["slot"])


@dataclasses.dataclass(frozen=True)
class _Closed:
    """The reason why a source closed. `final`: opening it again cannot help."""

    reason: str
    final: bool = False


class Reader:
    """The frames of a source, read by a separate thread and process.

        with Reader("rtsp://camera/stream") as reader:
            while (frame := reader.take()) is not None:
                ...

    A live source has only its newest frame waiting; if it is lost, it is opened again. A file delivers every frame. A
    source that hangs cannot block its reader, because the capturing process is killed. `close` leaves no thread,
    process or descriptor.

    Args:
        source: A source, or its text as for --source.
        timeouts: How long to wait for the source and its frames.
        realtime: Deliver the frames of a file not faster than it plays.

    Raises:
        UsageError: It is not the text of a source, such as the number 0 or a Path, or the timeouts are a number.
    """

    def __init__(self, source: Source | str, *, timeouts: Timeouts | None = None, realtime: bool = False) -> None:
        if not isinstance(source, (Source, str)):
            raise UsageError(f"got the source {source!r}, expected a text; do: Reader({str(source)!r})")
        self.source = source_from_text(source) if isinstance(source, str) else source
        if timeouts is not None and not isinstance(timeouts, Timeouts):
            raise UsageError(f"got {describe(timeouts)} as timeouts, expected Timeouts; do: Timeouts(open_s=20)")
        self._timeouts = timeouts or Timeouts()
        self._limits = TimeLimits(self._timeouts, live=self.source.live)
        self._frozen = FrozenDetector(self._timeouts)
        self._realtime = realtime
        self._changed = threading.Condition()
        self._waiting: deque[_Waiting] = deque()
        self._state = State.OPENING
        self._error: str | None = None
        self._counters = Counters()
        self._newest_s: float | None = None
        self._rate_hz: float | None = None
        self._quit = threading.Event()
        self._process: CaptureProcess | None = None
        self._read_before = 0  # frames read by earlier processes
        self._told_s = -math.inf
        self._mode_fault = ""  # the mode that the camera gives in place of the requested one
        self._thread = threading.Thread(target=self._work, name="camera", daemon=True)

    def __enter__(self) -> Reader:
        if self._thread.ident is not None:
            raise UsageError("got a Reader that was opened before, expected a new one")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def state(self) -> State:
        """The present state."""
        return self._state

    @property
    def error(self) -> str | None:
        """Why the source is FAILED or FROZEN, or why it closed last: got, expected, and what to do."""
        return self._error

    @property
    def counters(self) -> Counters:
        """The present counters."""
        with self._changed:
            counted, waiting = self._counters, len(self._waiting)
        return dataclasses.replace(counted, dropped=counted.read - counted.taken - counted.failed - waiting)

    @property
    def rate_hz(self) -> float | None:
        """Frames per second as the source declares them, a guess for network streams; None if it does not."""
        return self._rate_hz

    @property
    def age_ms(self) -> float | None:
        """The time since the capture of the newest frame; None before the first."""
        return None if self._newest_s is None else 1000 * (time.monotonic() - self._newest_s)

    @property
    def unchanged_s(self) -> float:
        """For how long the source has repeated the newest frame."""
        return self._frozen.seconds

    def take(self, timeout_s: float | None = None) -> Frame | None:
        """Wait for the next frame and return it; for a live source the newest that was not taken yet.

        Args:
            timeout_s: How long to wait; None: without limit.

        Returns:
            None if no frame came in time, or none will come any more: `frames` tells these apart.

        Raises:
            UsageError: The reader is not open.
        """
        if self._thread.ident is None:
            raise UsageError("got take() of a Reader that is not open, expected it within: with reader")
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._state in FINISHED, timeout_s)
            if not self._waiting:
                return None
            waiting = self._waiting.popleft()
            self._counters = dataclasses.replace(self._counters, taken=self._counters.taken + 1)
        message = waiting.message
        pixels = waiting.memory.picture(message["slot"], tuple(message["shape"])).copy()
        waiting.free()
        captured_s, position_s, name = message["captured_s"], message["position_s"], message["name"]
        return Frame(waiting.number, pixels, captured_s, position_s, name, waiting.is_frozen)

    def frames(self, poll_s: float, stop: threading.Event) -> Iterator[Frame | None]:
        """Yield frames as `take` returns them, and None where none came for `poll_s`.

        It ends where none will come any more, or where `stop` is set before the next one is taken.
        """
        while not stop.is_set():
            is_over = self._state in FINISHED  # asked first: a last frame may come right after `take` has waited
            frame = self.take(poll_s)
            if frame is None and is_over:
                return
            yield frame

    def close(self) -> None:
        """Close the source and drop waiting frames. Takes two seconds if the source hangs."""
        self._quit.set()
        if self._thread.ident is not None:
            self._thread.join()
        with self._changed:  # another thread may be taking a frame
            self._waiting.clear()

    def _work(self) -> None:
        over = _Closed("internal error; please report what was printed", final=True)
        try:
            over = self._read_until_over()
        finally:
            self._end_process()
            if over.final and not self._quit.is_set():
                self._set_state(State.FAILED, over.reason)
            else:
                self._set_state(State.ENDED)

    def _read_until_over(self) -> _Closed:
        retry_s = self._timeouts.first_retry_s
        lost_s = time.monotonic()
        while True:
            began_s, read = time.monotonic(), self._counters.read
            closed = self._attempt()
            now_s, ran = time.monotonic(), self._counters.read > 0
            if self._quit.is_set() or (not self.source.live and ran):
                return closed
            if self._counters.read > read:
                lost_s = now_s
                retry_s = self._timeouts.first_retry_s if now_s - began_s > STEADY_S else retry_s
            given_s = self._timeouts.give_up_s if ran else self._timeouts.wait_s
            if closed.final or not self.source.live or now_s - lost_s >= given_s:
                return dataclasses.replace(closed, final=True)
            self._set_state(State.RECONNECTING if ran else State.OPENING, closed.reason)
            if self._quit.wait(retry_s):
                return closed
            retry_s = min(2 * retry_s, self._timeouts.last_retry_s)

    def _attempt(self) -> _Closed:
        """Open the source and receive its frames until it closes, hangs or has to quit."""
        if self._process is None:
            self._read_before = self._counters.read
            try:
                self._process = CaptureProcess(self.source, realtime=self._realtime)
            except OSError as error:  # too many files or processes; may be over soon
                reason = f"got no capturing process ({error.strerror}), expected one; see ulimit -n and ulimit -u"
                return _Closed(f"{self.source.shown}: {reason}", final=not self.source.live)
        process = self._process
        try:
            process.open(open_s=self._limits.open_s, stall_s=self._limits.stall_s)
            message = self._receive(process, START_S, is_starting=True)
            if message["is"] == "plan":
                logger.debug("%s: opening %s", self.source.shown, message["text"])
                began_s = time.monotonic()
                message = self._receive(process, self._limits.open_s)
                if message["is"] == "opened":
                    self._rate_hz = message["rate_hz"]
                    self._warn_of_mode(message["mode_fault"])
                    message = self._receive(process, self._limits.open_s)
                    self._limits.opened(time.monotonic() - began_s)
            while message["is"] != "closed":
                self._accept(process, message)
                message = self._receive(process, self._limits.stall_s)
        except TimeoutError as error:
            self._end_process()
            return self._closed(process, str(error), final=not self.source.live)
        except MemoryError as error:
            self._end_process()
            return _Closed(f"{self.source.shown}: {error}", final=not self.source.live)
        except (EOFError, OSError):
            how = self._end_process()
            return self._closed(process, f"the capturing process ended with {how}", final=not self.source.live)
        if message["final"]:
            return _Closed(message["final"], final=True)
        if message["stalled"]:
            return self._closed(process, message["stalled"], final=True)
        if not self.source.live and (said := process.damage.cut) and not self._quit.is_set():
            reason = f"got a truncated file ({said}), expected a complete one; copy it again"
            return _Closed(f"{self.source.shown}: {reason}", final=True)
        return self._closed(process)

    def _closed(self, process: CaptureProcess, event: str = "", *, final: bool = False) -> _Closed:
        if self._quit.is_set():
            return _Closed("it was closed")
        try:
            reason = cure(self.source, process.said, event)
        except Exception:  # a failed diagnosis must not end the attempts
            logger.debug("%s: no diagnosis", self.source.shown, exc_info=True)
            reason = f"{self.source.shown}: got {event or 'no frame'}, expected frames"
        return _Closed(reason, final=final)

    def _receive(self, process: CaptureProcess, limit_s: float, *, is_starting: bool = False) -> Message:
        """Return the next message; `is_starting`: the process loads its libraries, whose memory is not that of a frame.

        Raises:
            TimeoutError: None comes within the limit, or the process does not quit.
            MemoryError: None comes while the process takes more and more memory.
        """
        heard_s = time.monotonic()
        most_bytes = 0
        while (message := process.receive(POLL_S)) is None:
            silent_s = time.monotonic() - heard_s
            if self._quit.is_set():
                process.quit()
                limit_s = min(limit_s, 2 * RELEASE_TIMEOUT_S)
            if self._waiting and not self.source.live and not self._quit.is_set():
                heard_s = time.monotonic()  # the process waits for the reader
            elif silent_s > limit_s + GRACE_S:
                raise TimeoutError(f"no frame for {silent_s:.1f} s")
            if is_starting:
                continue
            own_bytes = process.own_bytes
            # 0: the kernel does not say how much is free, as where /proc is hidden.
            most_bytes = most_bytes or own_bytes + min(MAX_GROWTH_BYTES, available_bytes() // 2 or MAX_GROWTH_BYTES)
            if own_bytes > most_bytes:
                raise MemoryError(f"got {own_bytes // 10**6} MB without the end of a frame, {ENDLESS}")
        if self._quit.is_set():
            process.quit()
        return message

    def _warn_of_mode(self, mode_fault: str) -> None:
        if mode_fault and mode_fault != self._mode_fault:  # and not at every reconnection
            logger.warning("%s: %s", self.source.shown, shown(mode_fault))
        self._mode_fault = mode_fault

    def _accept(self, process: CaptureProcess, message: Message) -> None:
        if "read" not in message:
            return
        number = self._read_before + message["read"]
        damage = process.damage.of(message["read"], message["key"])
        if message["is"] == "skipped":
            self._fail(number, message["text"])
        elif damage:
            process.free(message["memory"], message["slot"])
            self._fail(number, f"got a damaged frame ({damage}), expected an intact one; check the network or the file")
        else:
            self._add(process, message, number)
        if self._frozen.is_frozen:
            self._set_state(State.FROZEN, f"{self.source.shown}: {SAME_FRAME.format(self.unchanged_s)}")
        else:
            self._set_state(State.RUNNING)

    def _fail(self, number: int, reason: str) -> None:
        with self._changed:
            self._counters = dataclasses.replace(self._counters, read=number, failed=self._counters.failed + 1)
        now_s = time.monotonic()
        if self.source.kind == "pictures" or now_s - self._told_s > WARN_INTERVAL_S:
            self._told_s = now_s
            count = "" if self.source.kind == "pictures" else f" ({self._counters.failed} until now)"
            logger.warning("%s: %s%s", self.source.shown, shown(reason), count)

    def _add(self, process: CaptureProcess, message: Message, number: int) -> None:
        captured_s, is_repeated = message["captured_s"], message["is_repeated"]
        memory = process.memory(message["memory"])
        with self._changed:
            self._frozen.frame(captured_s, is_repeated=is_repeated)
            repeated = self._counters.repeated + is_repeated
            self._counters = dataclasses.replace(self._counters, read=number, repeated=repeated)
            if self.source.live:
                while self._waiting:
                    self._waiting.popleft().free()
            self._waiting.append(_Waiting(process, memory, message, number, self._frozen.is_frozen))
            self._newest_s = captured_s
            self._limits.frame(captured_s)

    def _set_state(self, state: State, reason: str | None = None) -> None:
        with self._changed:
            before, self._state = self._state, state
            self._error = reason or self._error
            if before is State.RECONNECTING and state in DELIVERING:
                self._counters = dataclasses.replace(self._counters, reconnects=self._counters.reconnects + 1)
            self._changed.notify_all()
        if before in DELIVERING and state is State.RECONNECTING:
            logger.info("lost, trying to get it back: %s", reason)
        elif before is not state and state is State.FROZEN:
            logger.info("%s", reason)
        elif before is State.RECONNECTING and state is State.RUNNING:
            logger.info("%s: back", self.source.shown)
        elif before is State.FROZEN and state is State.RUNNING:
            logger.info("%s: gives new frames again", self.source.shown)
        elif before is not state:
            logger.debug("%s: %s", self.source.shown, state.value)

    def _end_process(self) -> str:
        process, self._process = self._process, None
        return process.kill() if process else ""
