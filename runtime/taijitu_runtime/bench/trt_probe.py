"""Measure an engine, with CUDA events for the work on the GPU."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taijitu_runtime.bench.queries import LayerTime, Probe, Query
from taijitu_runtime.bench.trt_network import TrtNetwork
from taijitu_runtime.engine_card import LIBRARIES


class TrtProbe(Probe):
    """The probe of an opened TrtNetwork: one stream, one query at a time, as in `infer` of a backend.

    Args:
        network: The network, opened.
        feeds: An array for each of its inputs, by name.
        transfers: Copy inputs and outputs in every query.
    """

    device = "GPU"

    def __init__(self, network: TrtNetwork, feeds: dict[str, NDArray[Any]], *, transfers: bool) -> None:
        self._network, self._transfers = network, transfers
        self._gpu, self._stream = network.plan.gpu, network.plan.stream
        self.absent = {} if transfers else {"h2d": "--noDataTransfers", "d2h": "--noDataTransfers"}
        card, model = network.plan.card, self._gpu.model
        self.modes = {
            "Backend": f"{LIBRARIES[card.library.name]} {card.library.version}",
            "GPU": f"{model}, compute capability {model.compute_capability}",
            "Layers": ", ".join(f"{count} {dtype}" for dtype, count in card.precision.layers.items()) or "none counted",
            "Data transfers": "Enabled" if transfers else "Disabled",
            "CUDA Graph": "Enabled" if network.cuda_graph else "Disabled",
            "Streams": "1, one query at a time",
        }
        network.prepare(feeds)
        self._base, *self._events = [self._gpu.event() for _ in range(5)]
        self._gpu.record(self._base, self._stream)
        self._gpu.synchronise(self._stream)
        self._start_s = time.perf_counter()

    def run(self, count: int) -> list[Query]:
        """As in Probe."""
        return [self._query() for _ in range(count)]

    def profile(self, count: int) -> list[LayerTime]:
        """As in Probe, but without a CUDA graph, which has no layers."""
        layers: dict[str, list[float]] = {}
        with self._network.reporting_layers(lambda name, time_ms: layers.setdefault(name, []).append(time_ms)):
            self.run(count)
        return [LayerTime(name, np.asarray(times, float).tolist()) for name, times in layers.items()]

    def layer_info(self) -> dict[str, Any]:
        """As in Probe."""
        return self._network.layer_info()

    def _query(self) -> Query:
        gpu, stream = self._gpu, self._stream
        begin, computing, computed, end = self._events
        gpu.record(begin, stream)
        if self._transfers:
            self._network.upload()
        gpu.record(computing, stream)
        enqueued_s = time.perf_counter()
        self._network.enqueue()
        done_s = time.perf_counter()
        gpu.record(computed, stream)
        if self._transfers:
            self._network.download()
        gpu.record(end, stream)
        gpu.synchronise(stream)
        # CUDA returns times in float32, whose resolution is 4 microseconds a minute after the base.
        begin_ms = gpu.elapsed_ms(self._base, begin)
        times = [begin_ms, *(begin_ms + gpu.elapsed_ms(begin, event) for event in (computing, computed, end))]
        return Query(
            compute=(times[1], times[2]),
            enqueue=(1000 * (enqueued_s - self._start_s), 1000 * (done_s - self._start_s)),
            h2d=(times[0], times[1]) if self._transfers else None,
            d2h=(times[2], times[3]) if self._transfers else None,
        )
