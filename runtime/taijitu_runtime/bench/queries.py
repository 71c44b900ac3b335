"""The measuring loop: warm up, then turns of queries; in each round, several models take one turn each."""

from __future__ import annotations

import abc
import dataclasses
import time
from collections.abc import Sequence
from typing import Any

SHORTEST_TURN_MS = 10.0
"""For several models, so that a fast one gets as much time as a slow one."""

Span = tuple[float, float]
"""Begin and end, in milliseconds since the model was opened for measuring."""


@dataclasses.dataclass(frozen=True)
class Query:
    """The times of one batch. A step that the backend does not have is None, which differs from 0 ms."""

    compute: Span
    enqueue: Span | None = None
    h2d: Span | None = None
    d2h: Span | None = None

    @property
    def whole(self) -> Span:
        """The time from the first step to the end of the last."""
        return (self.h2d or self.compute)[0], (self.d2h or self.compute)[1]

    @property
    def latency_ms(self) -> float:
        """The sum of the transfers and the computation, trtexec's latency."""
        return sum(end - begin for begin, end in (self.h2d or (0, 0), self.compute, self.d2h or (0, 0)))


@dataclasses.dataclass(frozen=True)
class LayerTime:
    """The times of one layer or node, one for each profiled query, in milliseconds."""

    name: str
    times_ms: list[float]


class Probe(abc.ABC):
    """A loaded model with a batch for repeated queries.

    Attributes:
        device: "CPU" or "GPU".
        modes: Facts that the numbers depend on, as text by name.
        absent: For each step of a query that this backend does not have ("enqueue", "h2d", "d2h"), the reason.
    """

    device: str
    modes: dict[str, str]
    absent: dict[str, str]

    @abc.abstractmethod
    def run(self, count: int) -> list[Query]:
        """Run `count` queries one after the other."""

    @abc.abstractmethod
    def profile(self, count: int) -> list[LayerTime]:
        """Return the layers in their order, timed over `count` queries, which profiling makes slower."""

    @abc.abstractmethod
    def layer_info(self) -> dict[str, Any]:
        """Return the layers as the backend runs them: {"Layers": [...], "Bindings": [...]}."""


@dataclasses.dataclass(frozen=True)
class Loop:
    """How long to measure: trtexec's --warmUp, --duration and --iterations, of which both have to be reached.

    `turn`: how many queries a model has before the next one has as many.
    """

    warm_up_ms: float = 200.0
    duration_s: float = 3.0
    iterations: int = 10
    turn: int = 10


@dataclasses.dataclass
class Trace:
    """The measurements of one model. `turns`: its queries.

    `wall_ms`: the time of its turns, without other models'; the time between them counts where there are none.
    """

    warm_up_queries: int = 0
    turns: list[list[Query]] = dataclasses.field(default_factory=list)
    wall_ms: float = 0.0

    @property
    def queries(self) -> list[Query]:
        """All queries in order."""
        return [query for turn in self.turns for query in turn]

    def add(self, turn: list[Query], *, alone: bool = True) -> None:
        """Take a turn. `alone`: no other model ran since the one before."""
        begin_ms = self.turns[-1][-1].whole[1] if alone and self.turns else turn[0].whole[0]
        self.wall_ms += turn[-1].whole[1] - begin_ms
        self.turns.append(turn)


def measure(probes: Sequence[Probe], loop: Loop) -> list[Trace]:
    """Warm up each probe, then let them take turns, each round in the opposite order, until each had its time."""
    traces = [Trace(_warm_up(probe, loop.warm_up_ms)) for probe in probes]
    alone = len(probes) == 1
    places = list(range(len(probes)))
    while any(_goes_on(trace, loop) for trace in traces):
        for place in places:
            if not alone:
                probes[place].run(1)  # not counted, as the caches are full of the other model's data
            turn = _turn(probes[place], loop.turn, 0 if alone else SHORTEST_TURN_MS)
            traces[place].add(turn, alone=alone)
        places.reverse()
    return traces


def _goes_on(trace: Trace, loop: Loop) -> bool:
    return trace.wall_ms < 1000 * loop.duration_s or len(trace.turns) * loop.turn < loop.iterations


def _turn(probe: Probe, count: int, shortest_ms: float) -> list[Query]:
    turn = probe.run(count)
    while _wall_ms(turn) < shortest_ms:
        turn += probe.run(count)
    return turn


def _wall_ms(turn: Sequence[Query]) -> float:
    return turn[-1].whole[1] - turn[0].whole[0]


def _warm_up(probe: Probe, warm_up_ms: float) -> int:
    end = time.perf_counter() + warm_up_ms / 1000
    count = 0
    while time.perf_counter() < end:
        probe.run(1)
        count += 1
    return count
