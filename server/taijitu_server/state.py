"""The objects that all requests of one server share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from taijitu_server.http.auth import ApiKeys
from taijitu_server.http.body import BodyReader
from taijitu_server.http.origin import HostNames
from taijitu_server.logs import LineWriter
from taijitu_server.models.decode_pool import DecodePool
from taijitu_server.models.registry import Registry

if TYPE_CHECKING:
    from taijitu_server.cameras.cameras import Cameras


class ServerState:
    """The state of one server, created by `Application`.

    Attributes:
        is_started: The application's startup is complete.
        is_draining: Readiness reports that the server shuts down; requests are still answered.
        is_closing: The port is about to close, and endless responses (streams, WebSockets) end.
    """

    def __init__(self, registry: Registry, is_local: bool) -> None:
        self.registry = registry
        self.settings = settings = registry.settings
        self.metrics = registry.metrics
        self.hosts = HostNames(settings, is_local)
        self.keys = ApiKeys(settings.known_keys())
        self.bodies = BodyReader(settings)
        self.pool = DecodePool(settings.decode_threads)
        self.access_log = LineWriter() if settings.access_log else None
        self.cameras = self._cameras() if settings.camera else None
        self.is_started = False
        self.is_draining = self.is_closing = False

    @property
    def unready(self) -> str:
        """The reason why the server is not ready; empty where it is."""
        if not self.is_started:
            return "not started"
        if self.is_draining:
            return "shutting down"
        dead = [f"{model.name} version {model.version}" for model in self.registry.all() if not model.is_alive]
        if dead:
            return f"not running: {', '.join(dead)}; restart the server"
        if self.registry.refused:
            names = ", ".join(f"{name} version {version}" for name, version in sorted(self.registry.refused))
            return f"not proven: {names}; GET /models says why"
        return "" if self.registry.served else "no model is loaded"

    def _cameras(self) -> Cameras:
        from taijitu_server.cameras.cameras import Cameras  # only servers with cameras need it

        model = self.registry.get(self.settings.camera_model or None).name  # stays the same when others are loaded
        cameras = Cameras(self.settings, lambda: self.registry.get(model))
        self.metrics.registry.register(cameras)
        return cameras

    def close(self) -> None:
        """Let every thread finish its work, and free the models."""
        self.pool.close()
        self.registry.close()
        if self.access_log is not None:
            self.access_log.close()
