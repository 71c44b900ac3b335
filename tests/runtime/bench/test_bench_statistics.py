"""The numbers of `bench`, worked out by hand."""

from __future__ import annotations

import math

import pytest

from taijitu_runtime.bench.queries import LayerTime, Loop, Probe, Query, Trace, measure
from taijitu_runtime.bench.report import Result, profile_for_export, ratio_line, times_for_export
from taijitu_runtime.bench.statistics import percentile, ratio_of_turns, summarise


def test_a_summary_by_hand() -> None:
    summary = summarise([4.0, 1.0, 3.0, 2.0, 10.0], (90,))
    assert (summary.min, summary.max, summary.mean, summary.median) == (1, 10, 4, 3)
    # squares of the differences from 4: 0 + 9 + 1 + 4 + 36 = 50; 50 / 5 = 10
    assert summary.variation_percent == pytest.approx(100 * math.sqrt(10) / 4)
    assert summary.percentiles == {90: 10}  # floor(0.1 * 5) = 0 are left out


def test_the_median_of_an_even_number_is_between_the_two_in_the_middle() -> None:
    assert summarise([8.0, 1.0, 4.0, 2.0], []).median == 3
    assert summarise([7.0], []).median == 7


@pytest.mark.parametrize(
    ("count", "percentage", "expected"),
    [
        (10, 90, 9),  # floor(0.1 * 10) = 1 of 1..10 is left out: the ninth
        (10, 95, 10),  # floor(0.5) = 0
        (10, 0, 1),  # all 10 are left out, but one stays
        (10, 100, 10),
        (1, 50, 1),
        (200, 95, 190),
        # in float32 (1 - 99 / 100) * 100 is 0.99999905, so that nothing is left out; exact numbers would give 99
        (100, 99, 100),
        (1000, 99, 991),
        (1000, 99.5, 996),
    ],
)
def test_percentiles_are_trtexecs(count: int, percentage: float, expected: float) -> None:
    assert percentile([float(time) for time in range(1, count + 1)], percentage) == expected


def test_the_ratio_is_that_of_adjacent_turns() -> None:
    # the machine became 10 times slower in the second turn, for both
    ratio = ratio_of_turns([[2.0, 2.0, 9.0], [20.0, 20.0, 20.0], [3.0]], [[1.0, 1.0], [10.0, 10.0], [1.0]])
    assert (ratio.median, ratio.low, ratio.high) == (2, 2, 3)


def gpu_queries() -> list[Query]:
    """Make two queries: copying 1 ms, computing 4 and 6 ms, copying back 0.5 ms; starting takes 0.25 ms."""
    first = Query(compute=(1.0, 5.0), enqueue=(0.5, 0.75), h2d=(0.0, 1.0), d2h=(5.0, 5.5))
    second = Query(compute=(7.0, 13.0), enqueue=(6.5, 6.75), h2d=(6.0, 7.0), d2h=(13.0, 13.5))
    return [first, second]


class Played(Probe):
    """A probe with queries of a millisecond each that notes its calls in `order`."""

    device = "GPU"

    def __init__(self, name: str, order: list[tuple[str, int]]) -> None:
        self.modes, self.absent = {}, {}
        self._name, self._order, self._now_ms = name, order, 0.0

    def run(self, count: int) -> list[Query]:
        self._order.append((self._name, count))
        queries = [Query(compute=(self._now_ms + index, self._now_ms + index + 1)) for index in range(count)]
        self._now_ms += count
        return queries

    def profile(self, count: int) -> list[LayerTime]:
        raise NotImplementedError

    def layer_info(self) -> dict[str, object]:
        raise NotImplementedError


def test_the_block_is_trtexecs_line_for_line() -> None:
    trace = Trace(warm_up_queries=3)
    trace.add(gpu_queries())
    result = Result.of(Played("a", []), trace, (99,), [])
    assert list(result.summary_lines()) == [
        "=== Performance summary ===",
        "Throughput: 148.148 qps",  # 2 in 13.5 ms
        "Latency: min = 5.5 ms, max = 7.5 ms, mean = 6.5 ms, median = 6.5 ms, percentile(99%) = 7.5 ms",
        "Enqueue Time: min = 0.25 ms, max = 0.25 ms, mean = 0.25 ms, median = 0.25 ms, percentile(99%) = 0.25 ms",
        "H2D Latency: min = 1 ms, max = 1 ms, mean = 1 ms, median = 1 ms, percentile(99%) = 1 ms",
        "GPU Compute Time: min = 4 ms, max = 6 ms, mean = 5 ms, median = 5 ms, percentile(99%) = 6 ms",
        "D2H Latency: min = 0.5 ms, max = 0.5 ms, mean = 0.5 ms, median = 0.5 ms, percentile(99%) = 0.5 ms",
        "Total Host Walltime: 0.0135 s",
        "Total GPU Compute Time: 0.01 s",
        "* GPU compute time is unstable, with coefficient of variance = 20%. Fix its clock, or measure longer with "
        "--duration; the median and the ratio of two models suffer least.",
    ]
    assert list(result.trace_lines(2))[2:] == [
        "Average on 2 runs - GPU latency: 5 ms - Host latency: 6.5 ms (enqueue 0.25 ms)"
    ]


@pytest.mark.parametrize(
    ("query", "warning"),
    [
        (Query(compute=(0, 1), enqueue=(0, 0.81)), "bound by Enqueue Time rather than GPU Compute"),
        (Query(compute=(1, 2), h2d=(0, 1)), "bound by host-to-device transfers for the inputs"),
        (Query(compute=(0, 1), d2h=(1, 2)), "bound by device-to-host transfers for the outputs"),
        (Query(compute=(1, 2), enqueue=(0, 0.8), h2d=(0.01, 1), d2h=(2, 2.99)), None),
    ],
)
def test_what_holds_the_gpu_back_is_said(query: Query, warning: str | None) -> None:
    trace = Trace()
    trace.add([query])
    found = Result.of(Played("a", []), trace, (), []).warnings
    assert [warning in text for text in found] == [True] if warning else found == []


def test_the_exported_times_have_trtexecs_names_and_no_absent_step() -> None:
    rows = times_for_export([gpu_queries()[0], Query(compute=(2.0, 3.0))])
    assert rows[0] == {
        **{"startEnqMs": 0.5, "endEnqMs": 0.75, "startH2dMs": 0.0, "endH2dMs": 1.0, "h2dMs": 1.0},
        **{"startComputeMs": 1.0, "endComputeMs": 5.0, "computeMs": 4.0},
        **{"startD2hMs": 5.0, "endD2hMs": 5.5, "d2hMs": 0.5, "latencyMs": 5.5},
    }
    assert rows[1] == {"startComputeMs": 2.0, "endComputeMs": 3.0, "computeMs": 1.0, "latencyMs": 1.0}


def test_the_exported_profile_has_trtexecs_names() -> None:
    assert profile_for_export([LayerTime("conv", [1.0, 2.0]), LayerTime("relu", [0.5, 0.5])], 2) == [
        {"count": 2},
        {"name": "conv", "timeMs": 3.0, "averageMs": 1.5, "medianMs": 1.5, "percentage": 75.0},
        {"name": "relu", "timeMs": 1.0, "averageMs": 0.5, "medianMs": 0.5, "percentage": 25.0},
    ]


def test_two_models_take_turns_in_changing_order_until_both_had_their_time() -> None:
    order: list[tuple[str, int]] = []
    loop = Loop(warm_up_ms=0, duration_s=0.02, iterations=1, turn=10)
    traces = measure([Played("a", order), Played("b", order)], loop)
    assert order == [("a", 1), ("a", 10), ("b", 1), ("b", 10), ("b", 1), ("b", 10), ("a", 1), ("a", 10)]
    assert [trace.wall_ms for trace in traces] == [20, 20]


def test_one_model_runs_without_a_break_for_the_duration_and_the_iterations() -> None:
    order: list[tuple[str, int]] = []
    measure([Played("a", order)], Loop(warm_up_ms=0, duration_s=0.001, iterations=25, turn=10))
    assert order == [("a", 10)] * 3


def test_the_walltime_of_one_model_is_from_the_first_query_to_the_last() -> None:
    class Resting(Played):
        def run(self, count: int) -> list[Query]:
            self._now_ms += 5  # what the host does between two turns
            return super().run(count)

    trace = measure([Resting("a", [])], Loop(warm_up_ms=0, duration_s=0, iterations=30, turn=10))[0]
    assert trace.wall_ms == trace.queries[-1].whole[1] - trace.queries[0].whole[0] == 40


def test_the_ratio_names_both() -> None:
    ratio = ratio_of_turns([[3.0]], [[2.0]])
    assert ratio_line("b.onnx", "a.onnx", ratio).startswith("b.onnx / a.onnx: median latency x1.500 (")
