"""A camera of the server: its newest frame goes through the model's queue, and on to who watches.

One thread a camera takes frames, prepares them and encodes them, once for all viewers. It has one frame in the queue at
most: cameras cannot crowd out requests, and take their turn among them.
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

from taijitu_runtime.answers import Answer, Scores, likeliest_first
from taijitu_runtime.live import Counters, Frame, Patience, Reader, Source, State
from taijitu_runtime.live.smoothing import Smoother
from taijitu_runtime.live.watch import picture_from_bgr
from taijitu_server.cameras.latest_value import LatestValue
from taijitu_server.cameras.mjpeg import banner, part_from_picture
from taijitu_server.errors import http_error
from taijitu_server.models.batcher import Job
from taijitu_server.models.served_model import ServedModel
from taijitu_server.settings import Settings

log = logging.getLogger("taijitu.server")

POLL_S = 0.25
STALE_MS = 1000.0  # of a camera with many frames a second
TELL_S = 1.0
RATE_WINDOW_S = 2.0
TOP = 5
STOPPED = "stopped"
OVER = (State.ENDED, State.FAILED)

T = TypeVar("T")


class Camera:
    """One named source. All but the thread's own work happens in the event loop.

    `parts` are those of the MJPEG stream, made while it is watched; `news` has a new number for every result and every
    change of state, and at least once a second while no frames come.
    """

    def __init__(self, name: str, source: Source, find_model: Callable[[], ServedModel], settings: Settings) -> None:
        self.name = name
        self.source = source
        self.parts: LatestValue[bytes] = LatestValue()
        self.news: LatestValue[bool] = LatestValue()
        self._find_model = find_model
        self._settings = settings
        self._smoothing_s = 0.0 if source.kind == "pictures" else settings.camera_smoothing_s
        self._loop: asyncio.AbstractEventLoop
        self._thread: threading.Thread | None = None
        self._quit = threading.Event()
        self._reader: Reader | None = None
        self._past = Counters()  # of the readers before this one
        self._classified = self._refused = self._failed = 0
        self._start_anew()

    async def start(self) -> None:
        """Open the source, unless it is open; what was stopped just now is waited for."""
        if self._thread is not None and not self.is_on:
            await asyncio.to_thread(self._thread.join)
        if self.is_on:
            return
        self._loop = asyncio.get_running_loop()
        self._past, self._reader = self._read(), None
        self._quit = threading.Event()
        self._start_anew()
        self._thread = threading.Thread(target=self._work, name=f"camera-{self.name}", daemon=True)
        self._thread.start()

    async def stop(self) -> None:
        """Give the source back; takes two seconds where it hangs."""
        self._quit.set()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)
            self.news.publish(True)

    @property
    def is_on(self) -> bool:
        """Whether frames come, or may come again without a `start`."""
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
        """Why no frames come, or else why the last one got no answer."""
        state = self.state
        if state == STOPPED:
            return None
        lost = self._reader.error if self._reader and state != State.RUNNING.value else None
        return lost or self._trouble

    @property
    def age_ms(self) -> float | None:
        """How old the newest frame is; None before the first."""
        return self._reader.age_ms if self._reader else None

    @property
    def stale_ms(self) -> float:
        """A frame that is older is not live, and who watches is told: a second, or twice the frames' distance."""
        return max(STALE_MS, 2e3 * self._interval_s)

    @property
    def counters(self) -> Counters:
        """Since the server started; `taken` are those that were classified."""
        read = self._read()
        dropped, failed = read.dropped + self._refused, read.failed + self._failed
        return dataclasses.replace(read, taken=self._classified, dropped=dropped, failed=failed)

    def status(self) -> dict[str, Any]:
        """What GET /cameras/{name} and the WebSocket tell."""
        counted, age_ms = self.counters, self.age_ms
        read_hz, classified_hz = self._rates_hz if self.is_on else (0.0, 0.0)
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

    def _start_anew(self) -> None:
        self._model: ServedModel | None = None
        self._smoother = Smoother(self._smoothing_s)
        self._latest: dict[str, Any] | None = None
        self._trouble: str | None = None  # why the last frame got no answer
        self._is_broken = False  # by an error of ours
        self._picture: Image.Image | None = None
        self._newest: Frame | None = None
        self._interval_s = 0.0  # between the newest frames
        self._samples: deque[tuple[float, int, int]] = deque()  # when, frames read, frames classified
        self._rates_hz = (0.0, 0.0)
        self._told: tuple[str, bool, float] = (State.OPENING.value, False, -math.inf)

    def _read(self) -> Counters:
        if self._reader is None:
            return self._past
        past, now = dataclasses.astuple(self._past), dataclasses.astuple(self._reader.counters)
        return Counters(*map(sum, zip(past, now)))

    # From here on: in the camera's thread.

    def _work(self) -> None:
        try:
            self._watch()
        except Exception as error:
            self._is_broken, self._trouble = True, "internal error"
            log.error("camera %s failed: %s", self.name, error, exc_info=error)

    def _watch(self) -> None:
        realtime = self.source.kind == "video"
        # A camera may be plugged in after the server started.
        patience = Patience(wait_s=math.inf, frozen_s=self._settings.camera_frozen_s)
        quit_ = self._quit
        with Reader(self.source, patience=patience, realtime=realtime) as reader:
            self._reader = reader
            while not quit_.is_set():
                frame = reader.take(POLL_S)
                if frame is not None:
                    self._look(frame)
                self._count()
                self._tell(reader)
                if frame is None and reader.state in OVER:
                    break

    def _look(self, frame: Frame) -> None:
        self._picture = picture = picture_from_bgr(frame.pixels)
        if self._newest is not None:
            self._interval_s = (frame.captured_s - self._newest.captured_s) / (frame.number - self._newest.number)
        self._newest = frame
        if self.parts.watchers and not frame.is_frozen:
            self._publish_part(picture)
        try:
            began_s = time.monotonic()
            model, job = self._in_loop(self._accepted(picture))
            model.prepare(job)
            scores = self._in_loop(_answered(job))
        except Exception as error:
            found = http_error(error)
            if found.status == 500:
                self._failed += 1
                log.error("camera %s: frame %d got no answer: %s", self.name, frame.number, error, exc_info=error)
            else:
                self._refused += 1
            self._trouble = found.text
            return
        self._trouble = None
        self._classified += 1
        self._latest = {
            "frame": frame.number,
            "model": model.name,
            "version": model.version,
            "answers": self._answers(model, scores, frame.captured_s),
            "latency_ms": round(1e3 * (time.monotonic() - began_s), 3),
            "age_ms": round(frame.age_ms, 3),
        }
        self._loop.call_soon_threadsafe(self.news.publish, True)

    async def _accepted(self, picture: Image.Image) -> tuple[ServedModel, Job]:
        model = self._find_model()
        timeout_s = self._settings.queue_timeout_ms / 1e3
        return model, model.accept(lambda _: model.rows_from_picture(picture), timeout_s)

    def _answers(self, model: ServedModel, scores: Scores, time_s: float) -> list[Answer]:
        if model is not self._model:  # its labels may be others
            self._model, self._smoother = model, Smoother(self._smoothing_s)
        average = self._smoother.add(scores.probabilities[0], time_s)
        return [Answer(model.labels[i], i, float(average[i])) for i in likeliest_first(average)[:TOP].tolist()]

    def _count(self) -> None:
        now_s, samples = time.monotonic(), self._samples
        samples.append((now_s, self._read().read, self._classified))
        while now_s - samples[0][0] > RATE_WINDOW_S:
            samples.popleft()
        (then_s, read, classified), (_, read_now, classified_now) = samples[0], samples[-1]
        span_s = max(now_s - then_s, 1e-9)
        self._rates_hz = (read_now - read) / span_s, (classified_now - classified) / span_s

    def _tell(self, reader: Reader) -> None:
        """Who watches hears of a change of state at once, and once a second that no frames come."""
        state, age_ms = reader.state, reader.age_ms
        before, had_error, told_s = self._told
        has_error = state is not State.RUNNING and reader.error is not None
        is_live = state is State.RUNNING and age_ms is not None and age_ms < self.stale_ms
        if (state.value, has_error) != (before, had_error):
            level = logging.INFO if state is State.RUNNING and before == State.OPENING.value else logging.WARNING
            log.log(level, "camera %s is %s%s", self.name, state.value, f": {reader.error}" if has_error else "")
        elif is_live or time.monotonic() - told_s < TELL_S:
            return
        self._told = state.value, has_error, time.monotonic()
        self._loop.call_soon_threadsafe(self.news.publish, True)
        if not is_live and self.parts.watchers:
            text = f"{self.name}\n{state.value}, {_trouble(reader)}"
            self._publish_part(banner(self._picture, text))

    def _publish_part(self, picture: Image.Image) -> None:
        part = part_from_picture(picture, self._settings.camera_width)
        self._loop.call_soon_threadsafe(self.parts.publish, part)

    def _in_loop(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


def _trouble(reader: Reader) -> str:
    if reader.age_ms is None:
        return "no frame yet"
    if reader.state is State.FROZEN:
        return f"the same frame for {reader.unchanged_s:.0f} s"
    return f"no frame for {reader.age_ms / 1e3:.0f} s"


async def _answered(job: Job) -> Scores:
    return await job.future
