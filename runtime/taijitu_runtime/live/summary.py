"""The summary of a run: counts, rates and durations, in constant memory."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter, deque

from taijitu_runtime.live.states import Counters

STEP = 1.01  # percentiles are accurate within half of this
LEAST_MS = 0.01
RATE_WINDOW_S = 2.0


class Percentiles:
    """Percentiles of durations of 0.01 ms and more, within 0.5 %."""

    def __init__(self) -> None:
        self._bins: Counter[int] = Counter()
        self.count = 0

    def add(self, value_ms: float) -> None:
        """Count one duration."""
        self._bins[round(math.log(max(value_ms, LEAST_MS)) / math.log(STEP))] += 1
        self.count += 1

    def percentile(self, percent: float) -> float:
        """Return the duration in ms that `percent` of all durations do not exceed; NaN without any."""
        wanted, seen = math.ceil(self.count * percent / 100), 0
        for place in sorted(self._bins):
            seen += self._bins[place]
            if seen >= wanted:
                return float(STEP**place)
        return math.nan


class Rate:
    """The rate of an event in the last seconds, or of the last two where they are further apart."""

    def __init__(self) -> None:
        self._times_s: deque[float] = deque()

    def add(self, time_s: float) -> float:
        """Count an event at `time_s`; return the rate in 1/s, 0 for the first event."""
        self._times_s.append(time_s)
        while len(self._times_s) > 2 and time_s - self._times_s[0] > RATE_WINDOW_S:
            self._times_s.popleft()
        span_s = time_s - self._times_s[0]
        return (len(self._times_s) - 1) / span_s if span_s > 0 else 0.0


@dataclasses.dataclass(frozen=True)
class Summary:
    """A run: its source, seconds since the first frame, counts, durations in ms, and why the source was lost."""

    source: str
    seconds: float
    counters: Counters
    classified: int
    latency: Percentiles
    age: Percentiles
    error: str | None = None

    def __str__(self) -> str:
        counted = self.counters
        lines = [
            f"{self.source}: {self.seconds:.1f} s",
            f"  frames      {counted.read} read, {self.classified} classified, {counted.dropped} dropped, "
            f"{counted.failed} failed; {counted.reconnects} reconnects, {counted.repeated} repeated",
        ]
        if self.classified:
            rates = counted.read / self.seconds, self.classified / self.seconds
            lines.append(f"  rates       {rates[0]:.1f} frames/s read, {rates[1]:.1f} classified")
            lines += [f"  latency     {_row(self.latency)}", f"  frame age   {_row(self.age)}"]
        return "\n".join(lines)


def _row(percentiles: Percentiles) -> str:
    return ", ".join(f"p{percent} {percentiles.percentile(percent):.1f} ms" for percent in (50, 95, 99))
