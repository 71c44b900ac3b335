"""What a reader tells of itself, and how patient it is."""

from __future__ import annotations

import dataclasses
import enum
import math
import time

import numpy as np
from numpy.typing import NDArray

REOPENING_S = 1.5
USUAL_TIMES = 3
MISSED_FRAMES = 5
LEAST_REPEATS = 3
LONGER_SHARE, SHORTER_SHARE = 0.1, 0.5  # of a new interval in the average: the first ones are often long


class State(str, enum.Enum):
    """Where a source is: OPENING, RUNNING, FROZEN, RECONNECTING, and for good ENDED or FAILED.

    FROZEN: frames come, and each is the one before it, bit for bit. ENDED: a file's end, or closed.
    """

    OPENING = "opening"
    RUNNING = "running"
    FROZEN = "frozen"
    RECONNECTING = "reconnecting"
    ENDED = "ended"
    FAILED = "failed"


@dataclasses.dataclass(frozen=True)
class Patience:
    """How long a reader waits, in seconds.

    `open_s`: for the first frame after opening. `stall_s`: for the next frame. `wait_s`: for a live source that is not
    there at the start; 0 is one attempt. `give_up_s`: for a live source that was lost. `first_retry_s`: between two
    attempts, doubled with each up to `last_retry_s`. `frozen_s`: for a live source that gives the same frame again and
    again, before that is said; 0: never. Not before LEAST_REPEATS of them.
    """

    open_s: float = 10.0
    stall_s: float = 2.0
    wait_s: float = 0.0
    give_up_s: float = math.inf
    first_retry_s: float = 0.1
    last_retry_s: float = 1.0
    frozen_s: float = 10.0


@dataclasses.dataclass(frozen=True)
class Frame:
    """One frame: uint8 BGR (H, W, 3), its own copy.

    `number` counts the source's frames from 1, dropped ones included. `captured_s`: when it came out of the source, as
    time.monotonic(). `position_s`: where it is in a video file. `name`: a picture's file. `is_frozen`: its source gives
    nothing else any more, see State.
    """

    number: int
    pixels: NDArray[np.uint8] = dataclasses.field(repr=False)
    captured_s: float
    position_s: float | None = None
    name: str = ""
    is_frozen: bool = False

    @property
    def age_ms(self) -> float:
        """How long ago it came out of the source."""
        return 1000 * (time.monotonic() - self.captured_s)


@dataclasses.dataclass(frozen=True)
class Counters:
    """Frames `read` = `taken` + `dropped` (a newer one came first) + `failed` (broken) + the few that wait now.

    `repeated`: those of a live source that were the one before, bit for bit; whatever became of them.
    """

    read: int = 0
    taken: int = 0
    dropped: int = 0
    failed: int = 0
    reconnects: int = 0
    repeated: int = 0


class Stillness:
    """For how long a live source has given the same frame, bit for bit.

    A sensor never does, because of its noise. A grabber, an encoder or a driver that hangs does, and a camera behind it
    looks alive.
    """

    def __init__(self, patience: Patience) -> None:
        self._frozen_s = patience.frozen_s
        self._since_s: float | None = None
        self._repeats = 0
        self.seconds = 0.0

    def frame(self, captured_s: float, *, is_repeated: bool) -> None:
        """A frame came."""
        if self._since_s is None or not is_repeated:
            self._since_s, self._repeats = captured_s, 0
        else:
            self._repeats += 1
        self.seconds = captured_s - self._since_s

    @property
    def is_frozen(self) -> bool:
        """Whether that is too long."""
        return self._repeats >= LEAST_REPEATS and 0 < self._frozen_s <= self.seconds


class Limits:
    """The time limits of one source, learned from how it behaves.

    A source that once opened is given USUAL_TIMES as long as its slowest opening, so that one that comes back while an
    attempt hangs is not kept waiting; one with few frames a second is silent between them.
    """

    def __init__(self, patience: Patience, *, live: bool) -> None:
        self._patience, self._live = patience, live
        self._slowest_opening_s: float | None = None
        self._interval_s = 0.0
        self._last_s: float | None = None

    @property
    def open_s(self) -> float:
        """For the first frame."""
        if self._slowest_opening_s is None:
            return self._patience.open_s
        return min(self._patience.open_s, max(REOPENING_S, USUAL_TIMES * self._slowest_opening_s))

    @property
    def stall_s(self) -> float:
        """For the next frame."""
        if not self._live:
            return self._patience.open_s
        known_s = MISSED_FRAMES * self._interval_s if self._interval_s else self.open_s
        return max(self._patience.stall_s, known_s)

    def opened(self, took_s: float) -> None:
        """The first frame came."""
        self._slowest_opening_s = max(self._slowest_opening_s or 0.0, took_s)
        self._last_s = None

    def frame(self, captured_s: float) -> None:
        """A frame came."""
        if self._last_s is not None:
            longer_s = captured_s - self._last_s - self._interval_s
            share = (LONGER_SHARE if longer_s > 0 else SHORTER_SHARE) if self._interval_s else 1.0
            self._interval_s += share * longer_s
        self._last_s = captured_s
