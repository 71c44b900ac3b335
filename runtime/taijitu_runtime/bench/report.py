"""Report measurements: as trtexec's lines for people and their scripts, and as JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

from taijitu_runtime.bench.queries import LayerTime, Probe, Query, Span, Trace
from taijitu_runtime.bench.statistics import Ratio, Summary, summarise

MOST_VARIATION_PERCENT = 2.5
MOST_ENQUEUE_SHARE = 0.8
STEPS = {"enqueue": "Enqueue Time", "h2d": "H2D Latency", "compute": "{device} Compute Time", "d2h": "D2H Latency"}
EXPLANATIONS = """
=== Explanations of the performance metrics ===
Total Host Walltime: from the begin of the first query after the warm-up to the end of the last one; of several
models, each has the time of its own turns.
{device} Compute Time: of one query, without copying its input and output.
Total {device} Compute Time: the sum over all queries. Much below the walltime: the host or the copies hold it back.
Throughput: queries divided by the Total Host Walltime.
Enqueue Time: how long the host takes to start a query.
H2D Latency, D2H Latency: copying the input to the device, the output back.
Latency: the sum of H2D Latency, {device} Compute Time and D2H Latency."""


@dataclasses.dataclass(frozen=True)
class Result:
    """The numbers of one model. `steps`: the summary of each of STEPS, None if the backend does not have it."""

    trace: Trace
    device: str
    absent: dict[str, str]
    latency: Summary
    steps: dict[str, Summary | None]
    warnings: list[str]

    @classmethod
    def of(cls, probe: Probe, trace: Trace, percentages: Sequence[float], warnings: Sequence[str]) -> Result:
        """Compute the numbers of a trace; warnings about them are added to `warnings`, those about conditions."""
        queries = trace.queries
        steps = {name: _summary(queries, name, percentages) for name in STEPS}
        latency = summarise([query.latency_ms for query in queries], percentages)
        found = [*_number_warnings(steps, probe.device), *warnings]
        return cls(trace, probe.device, probe.absent, latency, steps, found)

    @property
    def throughput_qps(self) -> float:
        """Queries per second of the walltime."""
        return 1000 * len(self.trace.queries) / self.trace.wall_ms

    @property
    def total_compute_s(self) -> float:
        """The sum of the compute times."""
        return sum(_length(query.compute) for query in self.trace.queries) / 1000

    def summary_lines(self) -> Iterator[str]:
        """Yield the lines of trtexec's block; the line of an absent step has the reason."""
        yield "=== Performance summary ==="
        yield f"Throughput: {self.throughput_qps:g} qps"
        yield f"Latency: {_numbers(self.latency)}"
        for name, title in STEPS.items():
            summary = self.steps[name]
            text = f"absent ({self.absent.get(name)})" if summary is None else _numbers(summary)
            yield f"{title.format(device=self.device)}: {text}"
        yield f"Total Host Walltime: {self.trace.wall_ms / 1000:g} s"
        yield f"Total {self.device} Compute Time: {self.total_compute_s:g} s"
        for warning in self.warnings:
            yield f"* {warning}"

    def trace_lines(self, average_of: int) -> Iterator[str]:
        """Yield averages of `average_of` queries each, as trtexec prints them; a shorter rest is left out."""
        yield "=== Trace details ==="
        yield f"Trace averages of {average_of} runs:"
        queries = self.trace.queries
        if len(queries) < average_of:
            yield f"none: only {len(queries)} were measured"
        for begin in range(0, len(queries) - average_of + 1, average_of):
            part = queries[begin : begin + average_of]
            compute, latency = _mean(part, "compute"), sum(query.latency_ms for query in part) / average_of
            line = (
                f"Average on {average_of} runs - {self.device} latency: {compute:g} ms - Host latency: {latency:g} ms"
            )
            yield line if part[0].enqueue is None else f"{line} (enqueue {_mean(part, 'enqueue'):g} ms)"

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers for --json; null for an absent step."""
        steps = {f"{name}_ms": _plain(summary) for name, summary in self.steps.items()}
        return {
            "warm_up_queries": self.trace.warm_up_queries,
            "queries": len(self.trace.queries),
            "throughput_qps": self.throughput_qps,
            "latency_ms": _plain(self.latency),
            **steps,
            "absent": self.absent,
            "host_walltime_s": self.trace.wall_ms / 1000,
            "total_compute_s": self.total_compute_s,
            "warnings": self.warnings,
        }


def explanations(device: str) -> str:
    """Return the meaning of the lines of the summary."""
    return EXPLANATIONS.format(device=device).strip()


def ratio_line(name: str, base: str, ratio: Ratio) -> str:
    """Return the line that compares one model with the first one."""
    return (
        f"{name} / {base}: median latency x{ratio.median:.3f} "
        f"(of adjacent turns, 80% are from x{ratio.low:.3f} to x{ratio.high:.3f})"
    )


def times_for_export(queries: Sequence[Query]) -> list[dict[str, float]]:
    """Return the content of trtexec's --exportTimes: begin and end of each step in ms, except absent steps."""
    return [_exported(query) for query in queries]


def profile_for_export(layers: Sequence[LayerTime], count: int) -> list[dict[str, Any]]:
    """Return the content of trtexec's --exportProfile: the number of queries, then each layer's times in ms."""
    whole = sum(sum(layer.times_ms) for layer in layers) or 1.0
    rows: list[dict[str, Any]] = [{"count": count}]
    for layer in layers:
        total, summary = sum(layer.times_ms), summarise(layer.times_ms, ())
        rows.append(
            {
                "name": layer.name,
                "timeMs": total,
                "averageMs": total / count,
                "medianMs": summary.median,
                "percentage": 100 * total / whole,
            }
        )
    return rows


def _exported(query: Query) -> dict[str, float]:
    row: dict[str, float] = {}
    for name, key in (("enqueue", "Enq"), ("h2d", "H2d"), ("compute", "Compute"), ("d2h", "D2h")):
        span: Span | None = getattr(query, name)
        if span is not None:
            row |= {f"start{key}Ms": span[0], f"end{key}Ms": span[1]}
            if name != "enqueue":
                row[f"{key[0].lower()}{key[1:]}Ms"] = _length(span)
    return row | {"latencyMs": query.latency_ms}


def _number_warnings(steps: dict[str, Summary | None], device: str) -> list[str]:
    compute, enqueue = steps["compute"], steps["enqueue"]
    assert compute is not None, "every backend computes"
    warnings = []
    if enqueue is not None and enqueue.median > MOST_ENQUEUE_SHARE * compute.median:
        warnings.append(
            f"Throughput may be bound by Enqueue Time rather than {device} Compute and the {device} may be "
            "under-utilized. If not already in use, --useCudaGraph may increase the throughput."
        )
    for name, way, what in (("h2d", "host-to-device", "inputs"), ("d2h", "device-to-host", "outputs")):
        step = steps[name]
        if step is not None and step.median >= compute.median:
            warnings.append(
                f"Throughput may be bound by {way} transfers for the {what} rather than {device} Compute and the "
                f"{device} may be under-utilized. Add --noDataTransfers flag to disable data transfers."
            )
    if compute.variation_percent > MOST_VARIATION_PERCENT:
        cure = "Fix its clock" if device == "GPU" else "Stop other programs, fix the clock"
        warnings.append(
            f"{device} compute time is unstable, with coefficient of variance = {compute.variation_percent:g}%. "
            f"{cure}, or measure longer with --duration; the median and the ratio of two models suffer least."
        )
    return warnings


def _summary(queries: Sequence[Query], name: str, percentages: Sequence[float]) -> Summary | None:
    spans = [span for span in (getattr(query, name) for query in queries) if span is not None]
    return summarise([_length(span) for span in spans], percentages) if spans else None


def _mean(queries: Sequence[Query], name: str) -> float:
    return sum(_length(getattr(query, name)) for query in queries) / len(queries)


def _length(span: Span) -> float:
    return span[1] - span[0]


def _numbers(summary: Summary) -> str:
    parts = {"min": summary.min, "max": summary.max, "mean": summary.mean, "median": summary.median}
    parts |= {f"percentile({percentage:g}%)": value for percentage, value in summary.percentiles.items()}
    return ", ".join(f"{name} = {value:g} ms" for name, value in parts.items())


def _plain(summary: Summary | None) -> dict[str, Any] | None:
    if summary is None:
        return None
    percentiles = {f"{percentage:g}": value for percentage, value in summary.percentiles.items()}
    return {**dataclasses.asdict(summary), "percentiles": percentiles}
