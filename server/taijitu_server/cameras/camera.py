"""A camera of the server: its newest frame goes through the model's queue, and to all viewers.

One thread per camera takes frames, prepares them and encodes them, once for all viewers. It has at most one frame in
the queue, so that cameras cannot crowd out requests.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from PIL import Image

from taijitu_runtime.answers import Scores
from taijitu_runtime.live import Counters, Frame, Reader, Source, State, Timeouts
from taijitu_runtime.live.smoothing import SmoothedAnswers
from taijitu_runtime.live.watch import image_from_bgr
from taijitu_server.cameras.latest_value import LatestValue
from taijitu_server.cameras.mjpeg import banner, part_from_image
from taijitu_server.errors import CAMERA_OFF, HttpError, http_error
from taijitu_server.models.batcher import Job
from taijitu_server.models.served_model import ServedModel
from taijitu_server.settings import Settings

log = logging.getLogger("taijitu.server")

POLL_S = 0.25
STALE_MS = 1000.0  # for a camera with many frames per second
NOTIFY_S = 1.0  # between messages while nothing changes
RATE_WINDOW_S = 2.0
TOP = 5
STOPPED = "stopped"

T = TypeVar("T")


class Camera:
    """One named source. Its methods are called in the event loop, except those of the camera's thread.

    Attributes:
        parts: The parts of the MJPEG stream, encoded only while there are viewers.
        updates: Changes with every result and every change of state, and once per second while no frames come.
    """

    def __init__(self, name: str, source: Source, find_model: Callable[[], ServedModel], settings: Settings) -> None:
        self.name = name
        self.source = source
        self.parts: LatestValue[bytes] = LatestValue()
        self.updates: LatestValue[bool] = LatestValue()
        self._find_model = find_model
        self._settings = settings
        self._smoothing_s = 0.0 if source.kind == "pictures" else settings.camera_smoothing_s
        self._loop: asyncio.AbstractEventLoop
        self._thread: threading.Thread | None = None
        self._quit = threading.Event()
        self._changing = asyncio.Lock()  # the last of several starts and stops decides
        self._reader: Reader | None = None
        self._past = Counters()  # of earlier readers
        self._classified = self._refused = self._failed = 0
        self._reset()

    async def start(self) -> None:
        """Open the source unless it is open; wait for a stop that is in progress."""
        async with self._changing:
            if self._thread is not None and not self.is_running:
                await asyncio.to_thread(self._thread.join)
            if self.is_running:
                return
            self._loop = asyncio.get_running_loop()
            self._past, self._reader = self._total_counters(), None
            self._quit = threading.Event()
            self._reset()
            self._thread = threading.Thread(target=self._work, name=f"camera-{self.name}", daemon=True)
            self._thread.start()

    async def stop(self) -> None:
        """Release the source; takes two seconds if it hangs."""
        async with self._changing:
            self._quit.set()
            if self._job is not None:  # a model that hangs must not hold the camera
                self._job.future.cancel()
            if self._thread is not None:
                await asyncio.to_thread(self._thread.join)
                self.updates.publish(True)

    @property
    def is_running(self) -> bool:
        """Whether frames come, or may come again without `start`."""
        return self._thread is not None and self._thread.is_alive() and not self._quit.is_set()

    @property
    def state(self) -> str:
        """A reader's state, or "stopped"."""
        if self._thread is None or self._quit.is_set():
            return STOPPED
        if self._is_broken:
            return State.FAILED.value
        return self._reader.state.value if self._reader else State.OPENING.value

    @property
    def error(self) -> str | None:
        """The reason why no frames come, or why the last frame got no answer."""
        state = self.state
        if state == STOPPED:
            return None
        lost = self._reader.error if self._reader and state != State.RUNNING.value else None
        return lost or self._frame_error

    @property
    def age_ms(self) -> float | None:
        """The age of the newest frame; None before the first one."""
        return self._reader.age_ms if self._reader else None

    @property
    def stale_ms(self) -> float:
        """The age from which a frame is not live: a second, or twice the interval between frames."""
        return max(STALE_MS, 2e3 * self._interval_s)

    @property
    def counters(self) -> Counters:
        """The counters since the server started; `taken` counts the classified frames."""
        read = self._total_counters()
        dropped, failed = read.dropped + self._refused, read.failed + self._failed
        return dataclasses.replace(read, taken=self._classified, dropped=dropped, failed=failed)

    def status(self) -> dict[str, Any]:
        """Return the content of GET /cameras/{name} and of the WebSocket's messages."""
        counted, age_ms = self.counters, self.age_ms
        read_hz, classified_hz = self._rates_hz if self.is_running else (0.0, 0.0)
        return {
            "name": self.name,
            "source": self.source.shown,
            "state": self.state,
            "error": self.error,
            "age_ms": None if age_ms is None else round(age_ms, 1),
            "stale_ms": round(self.stale_ms, 1),
            "read_hz": round(read_hz, 1),
            "classified_hz": round(classified_hz, 1),
            "frames": {
                "read": counted.read,
                "classified": counted.taken,
                "dropped": counted.dropped,
                "failed": counted.failed,
                "repeated": counted.repeated,
            },
            "reconnects": counted.reconnects,
            "viewers": self.parts.watchers,
            "latest": self._latest,
        }

    def _reset(self) -> None:
        self._job: Job | None = None  # of the frame that is being classified
        self._model: ServedModel | None = None
        self._smoother: SmoothedAnswers
        self._latest: dict[str, Any] | None = None
        self._frame_error: str | None = None  # why the last frame got no answer
        self._is_broken = False  # by an internal error
        self._image: Image.Image | None = None
        self._newest: Frame | None = None
        self._interval_s = 0.0  # between the newest frames
        self._samples: deque[tuple[float, int, int]] = deque()  # time in s, frames read, frames classified
        self._rates_hz = (0.0, 0.0)  # of frames read and classified
        self._last_notice: tuple[str, bool, float] = (State.OPENING.value, False, -math.inf)

    def _total_counters(self) -> Counters:
        if self._reader is None:
            return self._past
        past, now = dataclasses.astuple(self._past), dataclasses.astuple(self._reader.counters)
        return Counters(*map(sum, zip(past, now)))

    # The methods below run in the camera's thread.

    def _work(self) -> None:
        try:
            self._watch()
        except Exception as error:
            self._is_broken, self._frame_error = True, "internal error"
            log.error("camera %s failed: %s", self.name, error, exc_info=error)

    def _watch(self) -> None:
        realtime = self.source.kind == "video"
        # A camera may be plugged in after the server started.
        timeouts = Timeouts(wait_s=math.inf, frozen_s=self._settings.camera_frozen_s)
        quit_ = self._quit
        with Reader(self.source, timeouts=timeouts, realtime=realtime) as reader:
            self._reader = reader
            for frame in reader.frames(POLL_S, quit_):
                if frame is not None:
                    self._classify(frame)
                self._measure_rates()
                self._notify(reader)
            if not quit_.is_set():
                self._notify(reader)  # of its end

    def _classify(self, frame: Frame) -> None:
        image = self._show(frame)
        began_s = time.monotonic()
        try:
            model, scores = self._scores(image)
        except Exception as error:
            if not self._quit.is_set():  # otherwise it was cancelled
                self._note_failure(frame, error)
            return
        self._frame_error = None
        self._classified += 1
        self._latest = {
            "frame": frame.number,
            "model": model.name,
            "version": model.version,
            **self._answers(model, scores, frame.captured_s),
            "latency_ms": round(1e3 * (time.monotonic() - began_s), 3),
            "age_ms": round(frame.age_ms, 3),
        }
        self._loop.call_soon_threadsafe(self.updates.publish, True)

    def _show(self, frame: Frame) -> Image.Image:
        """Publish a frame to viewers, and return it as an image."""
        self._image = image = image_from_bgr(frame.pixels)
        if self._newest is not None:
            self._interval_s = (frame.captured_s - self._newest.captured_s) / (frame.number - self._newest.number)
        self._newest = frame
        if self.parts.watchers and not frame.is_frozen:
            self._publish_part(image)
        return image

    def _scores(self, image: Image.Image) -> tuple[ServedModel, Scores]:
        """Send an image through the model's queue, prepared in this thread."""
        model, job = self._in_loop(self._accept(image))
        model.prepare(job)
        return model, self._in_loop(_scores_of(job))

    def _note_failure(self, frame: Frame, error: Exception) -> None:
        found = http_error(error)
        if found.status == 500:
            self._failed += 1
            log.error("camera %s: frame %d got no answer: %s", self.name, frame.number, error, exc_info=error)
        else:
            self._refused += 1
        self._frame_error = found.text

    async def _accept(self, image: Image.Image) -> tuple[ServedModel, Job]:
        if self._quit.is_set():
            raise HttpError(CAMERA_OFF, "it is being stopped")
        model = self._find_model()
        self._job = model.accept(lambda _: model.preparation.row_of(image))
        return model, self._job

    def _answers(self, model: ServedModel, scores: Scores, time_s: float) -> dict[str, Any]:
        if model is not self._model:  # its labels may differ
            self._model, self._smoother = model, SmoothedAnswers(model.decision_rule, self._smoothing_s)
        answers, certainty = self._smoother.add(scores, time_s, TOP)
        return {"answers": answers, **certainty.as_json()}

    def _measure_rates(self) -> None:
        now_s, samples = time.monotonic(), self._samples
        samples.append((now_s, self._total_counters().read, self._classified))
        while now_s - samples[0][0] > RATE_WINDOW_S:
            samples.popleft()
        (then_s, read, classified), (_, read_now, classified_now) = samples[0], samples[-1]
        span_s = max(now_s - then_s, 1e-9)
        self._rates_hz = (read_now - read) / span_s, (classified_now - classified) / span_s

    def _notify(self, reader: Reader) -> None:
        """Notify viewers of a change of state at once, and once per second while no frames come."""
        state, age_ms = reader.state, reader.age_ms
        before, had_error, notified_s = self._last_notice
        has_error = state is not State.RUNNING and reader.error is not None
        is_live = state is State.RUNNING and age_ms is not None and age_ms < self.stale_ms
        if (state.value, has_error) != (before, had_error):
            level = logging.INFO if state is State.RUNNING and before == State.OPENING.value else logging.WARNING
            log.log(level, "camera %s is %s%s", self.name, state.value, f": {reader.error}" if has_error else "")
        elif is_live or time.monotonic() - notified_s < NOTIFY_S:
            return
        self._last_notice = state.value, has_error, time.monotonic()
        self._loop.call_soon_threadsafe(self.updates.publish, True)
        if not is_live and self.parts.watchers:
            text = f"{self.name}\n{state.value}, {_missing_frames_text(reader)}"
            self._publish_part(banner(self._image, text))

    def _publish_part(self, image: Image.Image) -> None:
        part = part_from_image(image, self._settings.camera_width)
        self._loop.call_soon_threadsafe(self.parts.publish, part)

    def _in_loop(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


def _missing_frames_text(reader: Reader) -> str:
    if reader.age_ms is None:
        return "no frame yet"
    if reader.state is State.FROZEN:
        return f"the same frame for {reader.unchanged_s:.0f} s"
    return f"no frame for {reader.age_ms / 1e3:.0f} s"


async def _scores_of(job: Job) -> Scores:
    return await job.future
