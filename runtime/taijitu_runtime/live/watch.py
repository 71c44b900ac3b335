"""Classify the frames of a source as they arrive."""

from __future__ import annotations

import dataclasses
import functools
import math
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from taijitu_runtime.answers import UNKNOWN, Answer
from taijitu_runtime.classifier import Classifier
from taijitu_runtime.decision.rule import UNDECIDED, Certainty, check_threshold
from taijitu_runtime.errors import SourceError, UsageError, check_number, describe, require
from taijitu_runtime.live.overlay import draw
from taijitu_runtime.live.reader import Reader
from taijitu_runtime.live.region import Region
from taijitu_runtime.live.smoothing import SmoothedAnswers
from taijitu_runtime.live.states import Frame, State
from taijitu_runtime.live.summary import Percentiles, Rate, Summary

if TYPE_CHECKING:
    from PIL import Image

POLL_S = 0.1


@dataclasses.dataclass(frozen=True)
class View:
    """Settings of the classification of frames.

    Attributes:
        top: The number of answers; None: 5, or all labels if there are fewer.
        threshold: The probability from which the first answer is known; None: the model's own, if its card has one.
        every: Every nth frame is classified; the others repeat its answers.
        smoothing_s: The time constant of the average (see Smoother).
        region: The part of a frame that is classified; None: all of it.
    """

    top: int | None = None
    threshold: float | None = None
    every: int = 1
    smoothing_s: float = 0.0
    region: Region | None = None

    def __post_init__(self) -> None:
        check_threshold(self.threshold)
        if self.region is not None and not isinstance(self.region, Region):
            raise UsageError(f"got the region {self.region!r}, expected a Region; do: Region.from_text(...)")
        check_number("every", self.every, 1, math.inf, "at least 1: every frame", whole=True)
        # An endless average would keep the first frame's answers.
        check_number("smoothing", self.smoothing_s, 0, math.inf, "seconds, 0 for none", below=True)


@dataclasses.dataclass(frozen=True)
class Result:
    """One frame with its answers, smoothed, the likeliest first.

    Attributes:
        classified: False if the answers are those of an earlier frame.
        latency_ms: The time from taking the frame to its answers.
        age_ms: The age of the frame when its answers were computed.
        rate_hz: Classified frames per second, over the last seconds.
        box: The region, as left, top, right, bottom in pixels.
        certainty: Whether the first answer is known, and the set of labels, where the card or the view decides.
    """

    frame: Frame
    answers: tuple[Answer, ...]
    classified: bool
    latency_ms: float
    age_ms: float
    rate_hz: float
    box: tuple[int, int, int, int] | None
    certainty: Certainty = UNDECIDED

    @property
    def known(self) -> bool | None:
        """As `Prediction.known`."""
        return self.certainty.known

    @property
    def set(self) -> tuple[str, ...] | None:
        """As `Prediction.set`."""
        return self.certainty.set

    @functools.cached_property
    def annotated(self) -> NDArray[np.uint8]:
        """The frame, uint8 BGR, with the answers drawn on it; drawn at the first access."""
        unknown = f"{UNKNOWN}  " if self.certainty.known is False else ""
        status = f"{unknown}{self.rate_hz:.1f} frames/s  {self.freshness}"
        return draw(self.frame.pixels, self.answers, self.box, status)

    @property
    def freshness(self) -> str:
        """The age of the frame as text, or "frozen", as the age means nothing then."""
        return "frozen" if self.frame.is_frozen else f"age {self.age_ms:.0f} ms"


class Watcher:
    """Turns frames into results. Raises UsageError for a view that does not fit the model."""

    def __init__(self, classifier: Classifier, view: View | None = None) -> None:
        self._classifier = classifier
        self._view = view or View()
        self._top = classifier.answer_count(self._view.top)
        self._rule = classifier.decision_rule(self._view.threshold)
        self._smoother = SmoothedAnswers(self._rule, self._view.smoothing_s)
        self._rate = Rate()
        self._seen = 0
        self._last: tuple[tuple[Answer, ...], Certainty, float, float] = ((), UNDECIDED, 0.0, 0.0)

    def classify(self, frame: Frame) -> Result:
        """Return the result for the next frame. Raises UsageError if the region is not inside it."""
        height, width = frame.pixels.shape[:2]
        box = self._view.region.box(width, height, frame.name) if self._view.region else None
        classified = self._seen % self._view.every == 0
        self._seen += 1
        if classified:
            began_s = time.perf_counter()
            answers, certainty = self._answers(frame, box)
            latency_ms = 1000 * (time.perf_counter() - began_s)
            self._last = answers, certainty, latency_ms, self._rate.add(time.monotonic())
        answers, certainty, latency_ms, rate_hz = self._last
        return Result(frame, answers, classified, latency_ms, frame.age_ms, rate_hz, box, certainty)

    def _answers(self, frame: Frame, box: tuple[int, int, int, int] | None) -> tuple[tuple[Answer, ...], Certainty]:
        pixels = frame.pixels
        if box:
            left, top, right, bottom = box
            pixels = pixels[top:bottom, left:right]
        prepared = self._classifier.prepare(image_from_bgr(pixels))
        scores = self._classifier.scores(self._classifier.logits(prepared[np.newaxis]))
        time_s = frame.captured_s if frame.position_s is None else frame.position_s
        return self._smoother.add(scores, time_s, self._top)


def watch(
    classifier: Classifier,
    reader: Reader,
    callback: Callable[[Result], None],
    *,
    view: View | None = None,
    stop: threading.Event | None = None,
    idle: Callable[[State], None] | None = None,
) -> Summary:
    """Classify the frames of a source until it ends or `stop` is set.

    Args:
        classifier: The classifier.
        reader: The source; it is opened and closed here.
        callback: Called with the result of every frame.
        view: Settings of the classification.
        stop: Ends the run when set.
        idle: Called with the state about every 0.1 s while no frame comes.

    Returns:
        A summary of the run.

    Raises:
        SourceError: The source never gave a frame.
        UsageError: The view does not fit the model or the frames, or the reader is a text, or the view a dict.
    """
    if not isinstance(reader, Reader):
        raise UsageError(f"got {describe(reader)} as reader, expected a Reader; do: Reader('video.mp4')")
    if view is not None and not isinstance(view, View):
        raise UsageError(f"got {describe(view)} as view, expected a View; do: View(top=1)")
    if view and reader.source.kind == "pictures" and (view.smoothing_s or view.every > 1):
        got = "smoothing" if view.smoothing_s else f"every {view.every}"  # one picture says nothing about the next
        raise UsageError(f"got {got} over pictures, expected a camera, stream or video with it; leave it out")
    watcher = Watcher(classifier, view)
    stop = stop or threading.Event()
    # The first image is slow: decoders are imported, and memory for the network is allocated.
    classifier.predict(image_from_bgr(np.zeros((64, 64, 3), np.uint8)))
    latency, age = Percentiles(), Percentiles()
    began_s: float | None = None
    with reader:
        for frame in reader.frames(POLL_S, stop):
            if frame is not None:
                began_s = began_s or frame.captured_s
                result = watcher.classify(frame)
                if result.classified:
                    latency.add(result.latency_ms)
                    age.add(result.age_ms)
                callback(result)
            elif idle:
                idle(reader.state)
        seconds = time.monotonic() - began_s if began_s else 0.0
        lost = reader.error if reader.state is State.FAILED and not stop.is_set() else None
    if lost and not reader.counters.read:
        raise SourceError(lost)
    return Summary(reader.source.shown, seconds, reader.counters, latency.count, latency, age, lost)


def image_from_bgr(pixels: NDArray[np.uint8]) -> Image.Image:
    """Convert uint8 BGR (H, W, 3) to a PIL image in RGB; Pillow swaps the channels while it copies."""
    image = require("PIL.Image", "taijitu[camera]")
    height, width = pixels.shape[:2]
    picture: Image.Image = image.frombytes("RGB", (width, height), np.ascontiguousarray(pixels), "raw", "BGR", 0, 1)
    return picture
