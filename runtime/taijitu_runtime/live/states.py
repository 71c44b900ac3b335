"""The states, counters and timeouts of a reader."""

from __future__ import annotations

import dataclasses
import enum
import math
import time

import numpy as np
from numpy.typing import NDArray

from taijitu_runtime.errors import check_number

REOPENING_S = 1.5
OPEN_FACTOR = 3
MISSED_FRAMES = 5
MIN_REPEATS = 3
LONGER_SHARE, SHORTER_SHARE = 0.1, 0.5  # weight of a new interval in the average; the first intervals are often long


class State(str, enum.Enum):
    """The state of a source: OPENING, RUNNING, FROZEN, RECONNECTING, or finally ENDED or FAILED.

    FROZEN: each frame is identical to the one before. ENDED: the file is at its end, or the reader was closed.
    """

    OPENING = "opening"
    RUNNING = "running"
    FROZEN = "frozen"
    RECONNECTING = "reconnecting"
    ENDED = "ended"
    FAILED = "failed"


FINISHED = (State.ENDED, State.FAILED)


@dataclasses.dataclass(frozen=True)
class Timeouts:
    """The timeouts of a reader, in seconds. UsageError for one below 0, and for NaN, which would never be over.

    Attributes:
        open_s: For the first frame after opening.
        stall_s: For the next frame.
        wait_s: For a live source that cannot be opened at the start; 0 is one attempt.
        give_up_s: For a live source that was lost.
        first_retry_s: Between two attempts to open; doubled with each one, up to `last_retry_s`.
        frozen_s: Until a live source that repeats one frame, at least MIN_REPEATS times, is FROZEN; 0: never.
    """

    open_s: float = 10.0
    stall_s: float = 2.0
    wait_s: float = 0.0
    give_up_s: float = math.inf
    first_retry_s: float = 0.1
    last_retry_s: float = 1.0
    frozen_s: float = 10.0

    def __post_init__(self) -> None:
        for name, seconds in vars(self).items():
            check_number(name, seconds, 0, math.inf, "seconds, 0 or more")


@dataclasses.dataclass(frozen=True)
class Frame:
    """One frame: `pixels`, uint8 BGR (H, W, 3), a copy.

    Attributes:
        number: Its number in the source, from 1; dropped frames count.
        captured_s: The time of its capture, by time.monotonic().
        position_s: Its position in a video file.
        name: The file of a picture.
        is_frozen: The source is FROZEN (see State).
    """

    number: int
    pixels: NDArray[np.uint8] = dataclasses.field(repr=False, compare=False)
    captured_s: float
    position_s: float | None = None
    name: str = ""
    is_frozen: bool = False

    @property
    def age_ms(self) -> float:
        """The time since its capture."""
        return 1000 * (time.monotonic() - self.captured_s)


@dataclasses.dataclass(frozen=True)
class Counters:
    """Numbers of frames: `read` = `taken` + `dropped` (for a newer one) + `failed` (damaged) + the few that wait now.

    `repeated` counts frames of a live source that were identical to the one before, in addition.
    """

    read: int = 0
    taken: int = 0
    dropped: int = 0
    failed: int = 0
    reconnects: int = 0
    repeated: int = 0


class FrozenDetector:
    """Measures for how long a live source has repeated one frame, bit for bit.

    A sensor never does, because of its noise. A frame grabber, an encoder or a driver that hangs does, while the camera
    seems to work.
    """

    def __init__(self, timeouts: Timeouts) -> None:
        self._frozen_s = timeouts.frozen_s
        self._since_s: float | None = None
        self._repeats = 0
        self.seconds = 0.0

    def frame(self, captured_s: float, *, is_repeated: bool) -> None:
        """Learn that a frame came."""
        if self._since_s is None or not is_repeated:
            self._since_s, self._repeats = captured_s, 0
        else:
            self._repeats += 1
        self.seconds = captured_s - self._since_s

    @property
    def is_frozen(self) -> bool:
        """Whether that is longer than the timeout."""
        return self._repeats >= MIN_REPEATS and 0 < self._frozen_s <= self.seconds


class TimeLimits:
    """The time limits of one source, adapted to its behaviour.

    A source that was opened before gets OPEN_FACTOR times the time of its slowest opening, so that a hanging attempt
    does not delay its return. A source with few frames per second gets longer for the next frame.
    """

    def __init__(self, timeouts: Timeouts, *, live: bool) -> None:
        self._timeouts, self._live = timeouts, live
        self._slowest_opening_s: float | None = None
        self._interval_s = 0.0
        self._last_s: float | None = None

    @property
    def open_s(self) -> float:
        """The limit for the first frame."""
        if self._slowest_opening_s is None:
            return self._timeouts.open_s
        return min(self._timeouts.open_s, max(REOPENING_S, OPEN_FACTOR * self._slowest_opening_s))

    @property
    def stall_s(self) -> float:
        """The limit for the next frame."""
        if not self._live:
            return self._timeouts.open_s
        known_s = MISSED_FRAMES * self._interval_s if self._interval_s else self.open_s
        return max(self._timeouts.stall_s, known_s)

    def opened(self, took_s: float) -> None:
        """Learn how long it took to get the first frame."""
        self._slowest_opening_s = max(self._slowest_opening_s or 0.0, took_s)
        self._last_s = None

    def frame(self, captured_s: float) -> None:
        """Learn that a frame came."""
        if self._last_s is not None:
            longer_s = captured_s - self._last_s - self._interval_s
            share = (LONGER_SHARE if longer_s > 0 else SHORTER_SHARE) if self._interval_s else 1.0
            self._interval_s += share * longer_s
        self._last_s = captured_s
