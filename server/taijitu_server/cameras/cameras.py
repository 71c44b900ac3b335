"""All cameras of a server, and their metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from taijitu_runtime.errors import name_hint
from taijitu_runtime.live import State, source_from_text
from taijitu_server.cameras.camera import STOPPED, Camera
from taijitu_server.errors import CAMERA_UNKNOWN, HttpError
from taijitu_server.models.served_model import ServedModel
from taijitu_server.settings import Settings

STATES = (*(state.value for state in State), STOPPED)


class Cameras(Collector):
    """The cameras by name. Prometheus calls `collect` at each scrape, so that the age of a frame is current."""

    def __init__(self, settings: Settings, find_model: Callable[[], ServedModel]) -> None:
        self.by_name = {
            name: Camera(name, source_from_text(source), find_model, settings)
            for name, source in settings.camera.items()
        }

    def get(self, name: str) -> Camera:
        """Return a camera by name. Raises HttpError 404 for an unknown one."""
        found = self.by_name.get(name)
        if found is None:
            raise HttpError(CAMERA_UNKNOWN, f"no camera {name[:100]!r}; {name_hint(name, self.by_name)}")
        return found

    async def start(self) -> None:
        """Open all cameras."""
        await asyncio.gather(*(camera.start() for camera in self.by_name.values()))

    async def stop(self) -> None:
        """Release all cameras."""
        await asyncio.gather(*(camera.stop() for camera in self.by_name.values()))

    def collect(self) -> Iterator[Metric]:
        """Return the metrics of all cameras."""
        label = ["camera"]
        read = CounterMetricFamily("taijitu_camera_frames_read", "Frames that a camera delivered.", labels=label)
        frames = CounterMetricFamily(
            "taijitu_camera_frames", "Frames by outcome: classified, dropped, failed.", labels=["camera", "outcome"]
        )
        repeated = CounterMetricFamily(
            "taijitu_camera_frames_repeated", "Frames that were identical to the one before.", labels=label
        )
        reconnects = CounterMetricFamily(
            "taijitu_camera_reconnects", "Times that a camera was opened again.", labels=label
        )
        age = GaugeMetricFamily("taijitu_camera_frame_age_seconds", "Age of the newest frame.", labels=label)
        state = GaugeMetricFamily("taijitu_camera_state", "1 for the present state.", labels=["camera", "state"])
        viewers = GaugeMetricFamily("taijitu_camera_viewers", "Open MJPEG streams.", labels=label)
        for name, camera in self.by_name.items():
            counted, age_ms, now = camera.counters, camera.age_ms, camera.state
            read.add_metric([name], counted.read)
            outcomes = {"classified": counted.taken, "dropped": counted.dropped, "failed": counted.failed}
            for outcome, count in outcomes.items():
                frames.add_metric([name, outcome], count)
            repeated.add_metric([name], counted.repeated)
            reconnects.add_metric([name], counted.reconnects)
            if age_ms is not None:
                age.add_metric([name], age_ms / 1e3)
            for each in STATES:
                state.add_metric([name, each], each == now)
            viewers.add_metric([name], camera.parts.watchers)
        yield from (read, frames, repeated, reconnects, age, state, viewers)
