"""Measure an engine, with CUDA events for the work on the GPU."""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taijitu_runtime.backends import TrtBackend
from taijitu_runtime.backends.cuda import Gpu
from taijitu_runtime.backends.trt.engine import Engine
from taijitu_runtime.bench.queries import LayerTime, Probe, Query
from taijitu_runtime.engine_card import LIBRARIES


class TrtProbe(Probe):
    """The probe of a loaded TrtBackend: one stream, one query at a time, as in `infer`.

    Args:
        backend: The loaded backend.
        images: A batch that it takes.
        transfers: Copy images and logits in every query.
    """

    device = "GPU"

    def __init__(self, backend: TrtBackend, images: NDArray[Any], *, transfers: bool) -> None:
        self._backend, self._images, self._transfers = backend, images, transfers
        self.absent = {} if transfers else {"h2d": "--noDataTransfers", "d2h": "--noDataTransfers"}
        card = backend.engine_card
        assert card is not None, "the backend is loaded"
        self.modes = {
            "Backend": f"{LIBRARIES[card.library.name]} {card.library.version}",
            "GPU": backend.on_owner(
                lambda engine, gpu: f"{gpu.model}, compute capability {gpu.model.compute_capability}"
            ),
            "Layers": ", ".join(f"{count} {dtype}" for dtype, count in card.precision.layers.items()),
            "Data transfers": "Enabled" if transfers else "Disabled",
            "CUDA Graph": "Enabled" if backend.cuda_graphs else "Disabled",
            "Streams": "1, one query at a time",
        }
        backend.on_owner(self._prepare)

    def run(self, count: int) -> list[Query]:
        """As in Probe."""
        return self._backend.on_owner(lambda engine, gpu: [self._query(engine, gpu) for _ in range(count)])

    def profile(self, count: int) -> list[LayerTime]:
        """As in Probe, but without a CUDA graph, which has no layers."""
        return self._backend.on_owner(lambda engine, gpu: self._profile(engine, gpu, count))

    def layer_info(self) -> dict[str, Any]:
        """Return the output of TensorRT's engine inspector: names only, unless the engine was built with more."""

        def inspect(engine: Engine, gpu: Gpu) -> dict[str, Any]:
            inspector = engine.engine.create_engine_inspector()
            inspector.execution_context = engine.context
            found: dict[str, Any] = json.loads(inspector.get_engine_information(engine.json_format))
            return found

        return self._backend.on_owner(inspect)

    def _prepare(self, engine: Engine, gpu: Gpu) -> None:
        batch = len(self._images)
        if self._backend.cuda_graphs:
            engine.graphs.capture(batch)
        engine.set_batch(batch)
        engine.host_images[:batch] = self._images
        self._base, *self._events = [gpu.event() for _ in range(5)]
        engine.upload()
        gpu.record(self._base, engine.stream)
        gpu.synchronise(engine.stream)
        self._start_s = time.perf_counter()

    def _query(self, engine: Engine, gpu: Gpu) -> Query:
        begin, computing, computed, end = self._events
        gpu.record(begin, engine.stream)
        if self._transfers:
            engine.upload()
        gpu.record(computing, engine.stream)
        enqueued_s = time.perf_counter()
        engine.enqueue()
        done_s = time.perf_counter()
        gpu.record(computed, engine.stream)
        if self._transfers:
            engine.download()
        gpu.record(end, engine.stream)
        gpu.synchronise(engine.stream)
        # CUDA returns times in float32, whose resolution is 4 microseconds a minute after the base.
        begin_ms = gpu.elapsed_ms(self._base, begin)
        times = [begin_ms, *(begin_ms + gpu.elapsed_ms(begin, event) for event in (computing, computed, end))]
        return Query(
            compute=(times[1], times[2]),
            enqueue=(1000 * (enqueued_s - self._start_s), 1000 * (done_s - self._start_s)),
            h2d=(times[0], times[1]) if self._transfers else None,
            d2h=(times[2], times[3]) if self._transfers else None,
        )

    def _profile(self, engine: Engine, gpu: Gpu, count: int) -> list[LayerTime]:
        layers: dict[str, list[float]] = {}
        with (
            engine.graphs.set_aside(),
            engine.reporting_layers(lambda name, time_ms: layers.setdefault(name, []).append(time_ms)),
        ):
            engine.set_batch(len(self._images))
            for _ in range(count):
                self._query(engine, gpu)
        engine.set_batch(len(self._images))
        return [LayerTime(name, np.asarray(times, float).tolist()) for name, times in layers.items()]
