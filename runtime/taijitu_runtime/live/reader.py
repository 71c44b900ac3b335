"""Reader: a source's frames from a thread that never falls behind, and that survives the source."""

from __future__ import annotations

import dataclasses
import logging
import math
import threading
import time
from collections import deque
from types import TracebackType

from taijitu_runtime.console import shown
from taijitu_runtime.errors import UsageError
from taijitu_runtime.live.child import LAST_WISH_S
from taijitu_runtime.live.diagnosis import cure
from taijitu_runtime.live.link import Memory, Message
from taijitu_runtime.live.process import CaptureProcess
from taijitu_runtime.live.sources import Source, source_from_text
from taijitu_runtime.live.states import Counters, Frame, Limits, Patience, State, Stillness

START_S = 30.0  # for Python and OpenCV to load in the capturing process
GRACE_S = 0.5  # for the capturing process to keep a limit by itself before it is killed
POLL_S = 0.25
STEADY_S = 1.0  # a source that ran this long is tried again at once
TELL_S = 10.0  # between two warnings of damaged frames
GIVING = (State.RUNNING, State.FROZEN)
SAME_FRAME = (
    "got the same frame for {:.0f} s, bit for bit, expected a sensor's noise; restart the camera or its encoder; where "
    "a still picture is meant: --frozen 0, in the server --camera-frozen-s 0"
)

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
    """Why a source closed; `final`: trying again cannot help."""

    reason: str
    final: bool = False


class Reader:
    """The frames of a source, read by a separate thread and process.

        with Reader("rtsp://camera/stream") as reader:
            while (frame := reader.take()) is not None:
                ...

    Of a live source, only the newest frame waits; a live source that is lost is opened again until `patience` ends. Of
    a file every frame waits its turn; with `realtime` they come no faster than the file plays. A source that hangs
    cannot hang its reader: the process that captures is killed. `close` leaves no thread, process or descriptor.
    UsageError for a text that is no source.
    """

    def __init__(self, source: Source | str, *, patience: Patience | None = None, realtime: bool = False) -> None:
        self.source = source_from_text(source) if isinstance(source, str) else source
        self._patience = patience or Patience()
        self._limits = Limits(self._patience, live=self.source.live)
        self._stillness = Stillness(self._patience)
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
        self._read_before = 0  # by the processes before this one
        self._told_s = -math.inf
        self._thread = threading.Thread(target=self._work, name="camera", daemon=True)

    def __enter__(self) -> Reader:
        if self._thread.ident is not None:
            raise UsageError("got a Reader that was opened before, expected a new one")
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def state(self) -> State:
        """The state now."""
        return self._state

    @property
    def error(self) -> str | None:
        """Why the source FAILED or is FROZEN, or why it closed last: got, expected, and what to do."""
        return self._error

    @property
    def counters(self) -> Counters:
        """The counters now."""
        with self._changed:
            counted, waiting = self._counters, len(self._waiting)
        return dataclasses.replace(counted, dropped=counted.read - counted.taken - counted.failed - waiting)

    @property
    def rate_hz(self) -> float | None:
        """Frames per second by the source's own account, of a network stream a guess; None without any."""
        return self._rate_hz

    @property
    def age_ms(self) -> float | None:
        """How long ago the newest frame came out of the source; None before the first."""
        return None if self._newest_s is None else 1000 * (time.monotonic() - self._newest_s)

    @property
    def unchanged_s(self) -> float:
        """How long ago the newest frame's pixels came for the first time, from frame to frame."""
        return self._stillness.seconds

    def take(self, timeout_s: float | None = None) -> Frame | None:
        """The next frame: of a live source the newest that was not taken yet.

        It waits for one, `timeout_s` seconds at most. None where none came in that time, or none will come any more
        (then `state` is ENDED or FAILED). UsageError outside of `with`.
        """
        if self._thread.ident is None:
            raise UsageError("got take() of a Reader that is not open, expected it inside of: with reader")
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._state in (State.ENDED, State.FAILED), timeout_s)
            if not self._waiting:
                return None
            waiting = self._waiting.popleft()
            self._counters = dataclasses.replace(self._counters, taken=self._counters.taken + 1)
        message = waiting.message
        pixels = waiting.memory.picture(message["slot"], tuple(message["shape"])).copy()
        waiting.free()
        captured_s, position_s, name = message["captured_s"], message["position_s"], message["name"]
        return Frame(waiting.number, pixels, captured_s, position_s, name, waiting.is_frozen)

    def close(self) -> None:
        """End the source; frames that wait are given up. Takes two seconds where the source hangs."""
        self._quit.set()
        if self._thread.ident is not None:
            self._thread.join()
        self._waiting.clear()

    def _work(self) -> None:
        over = _Closed("internal error; please report what was printed", final=True)
        try:
            over = self._read_until_over()
        finally:
            self._end_process()
            if over.final and not self._quit.is_set():
                self._become(State.FAILED, over.reason)
            else:
                self._become(State.ENDED)

    def _read_until_over(self) -> _Closed:
        retry_s = self._patience.first_retry_s
        lost_s = time.monotonic()
        while True:
            began_s, read = time.monotonic(), self._counters.read
            closed = self._attempt()
            now_s, ran = time.monotonic(), self._counters.read > 0
            if self._quit.is_set() or (not self.source.live and ran):
                return closed
            if self._counters.read > read:
                lost_s = now_s
                retry_s = self._patience.first_retry_s if now_s - began_s > STEADY_S else retry_s
            given_s = self._patience.give_up_s if ran else self._patience.wait_s
            if closed.final or not self.source.live or now_s - lost_s >= given_s:
                return dataclasses.replace(closed, final=True)
            self._become(State.RECONNECTING if ran else State.OPENING, closed.reason)
            self._quit.wait(retry_s)
            retry_s = min(2 * retry_s, self._patience.last_retry_s)

    def _attempt(self) -> _Closed:
        """Open the source and take its frames until it closes, hangs or is to quit."""
        if self._process is None:
            self._read_before = self._counters.read
            try:
                self._process = CaptureProcess(self.source, realtime=self._realtime)
            except OSError as error:  # too many files or processes: that passes
                reason = f"got no process that captures ({error.strerror}), expected one; see ulimit -n and ulimit -u"
                return _Closed(f"{self.source.shown}: {reason}", final=not self.source.live)
        process = self._process
        try:
            process.open(open_s=self._limits.open_s, stall_s=self._limits.stall_s)
            message = self._hear(process, START_S)
            if message["is"] == "plan":
                logger.debug("%s: opening %s", self.source.shown, message["text"])
                began_s = time.monotonic()
                message = self._hear(process, self._limits.open_s)
                if message["is"] == "opened":
                    self._rate_hz = message["rate_hz"]
                    message = self._hear(process, self._limits.open_s)
                    self._limits.opened(time.monotonic() - began_s)
            while message["is"] != "closed":
                self._accept(process, message)
                message = self._hear(process, self._limits.stall_s)
        except TimeoutError as error:
            self._end_process()
            return self._closed(process, str(error), final=not self.source.live)
        except (EOFError, OSError):
            how = self._end_process()
            return self._closed(process, f"the process that captures ended with {how}", final=not self.source.live)
        if message["final"]:
            return _Closed(message["final"], final=True)
        if message["stalled"]:
            return self._closed(process, message["stalled"], final=True)
        if not self.source.live and (said := process.damage.cut) and not self._quit.is_set():
            reason = f"got a file that ends too soon ({said}), expected a whole one; copy it again"
            return _Closed(f"{self.source.shown}: {reason}", final=True)
        return self._closed(process)

    def _closed(self, process: CaptureProcess, event: str = "", *, final: bool = False) -> _Closed:
        if self._quit.is_set():
            return _Closed("it was closed")
        try:
            reason = cure(self.source, process.said, event)
        except Exception:  # a camera is not given up because nobody can say why it stopped
            logger.debug("%s: no diagnosis", self.source.shown, exc_info=True)
            reason = f"{self.source.shown}: got {event or 'no frame'}, expected frames"
        return _Closed(reason, final=final)

    def _hear(self, process: CaptureProcess, limit_s: float) -> Message:
        """The process's next message; TimeoutError where it is silent for longer than the limit, or does not quit."""
        heard_s = time.monotonic()
        while (message := process.receive(POLL_S)) is None:
            silent_s = time.monotonic() - heard_s
            if self._quit.is_set():
                process.quit()
                limit_s = min(limit_s, 2 * LAST_WISH_S)
            if self._waiting and not self.source.live and not self._quit.is_set():
                heard_s = time.monotonic()  # it is we who keep it waiting
            elif silent_s > limit_s + GRACE_S:
                raise TimeoutError(f"no frame for {silent_s:.1f} s")
        if self._quit.is_set():
            process.quit()
        return message

    def _accept(self, process: CaptureProcess, message: Message) -> None:
        if "read" not in message:
            return
        number = self._read_before + message["read"]
        if message["is"] == "skipped":
            self._fail(number, message["text"])
        elif damage := process.damage.of(message["read"], message["key"]):
            process.free(message["memory"], message["slot"])
            self._fail(number, f"got a damaged frame ({damage}), expected a whole one; check the network or the file")
        else:
            self._add(process, message, number)
        if self._stillness.is_frozen:
            self._become(State.FROZEN, f"{self.source.shown}: {SAME_FRAME.format(self.unchanged_s)}")
        else:
            self._become(State.RUNNING)

    def _fail(self, number: int, reason: str) -> None:
        with self._changed:
            self._counters = dataclasses.replace(self._counters, read=number, failed=self._counters.failed + 1)
        now_s = time.monotonic()
        if self.source.kind == "pictures" or now_s - self._told_s > TELL_S:
            self._told_s = now_s
            count = "" if self.source.kind == "pictures" else f" ({self._counters.failed} until now)"
            logger.warning("%s: %s%s", self.source.shown, shown(reason), count)

    def _add(self, process: CaptureProcess, message: Message, number: int) -> None:
        captured_s, is_repeated = message["captured_s"], message["is_repeated"]
        memory = process.memory(message["memory"])
        with self._changed:
            self._stillness.frame(captured_s, is_repeated=is_repeated)
            repeated = self._counters.repeated + is_repeated
            self._counters = dataclasses.replace(self._counters, read=number, repeated=repeated)
            if self.source.live:
                while self._waiting:
                    self._waiting.popleft().free()
            self._waiting.append(_Waiting(process, memory, message, number, self._stillness.is_frozen))
            self._newest_s = captured_s
            self._limits.frame(captured_s)

    def _become(self, state: State, reason: str | None = None) -> None:
        with self._changed:
            before, self._state = self._state, state
            self._error = reason or self._error
            if before is State.RECONNECTING and state is State.RUNNING:
                self._counters = dataclasses.replace(self._counters, reconnects=self._counters.reconnects + 1)
            self._changed.notify_all()
        if before in GIVING and state is State.RECONNECTING:
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
