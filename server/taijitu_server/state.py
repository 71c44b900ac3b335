"""What all requests of one server share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from taijitu_server.http.auth import Keys
from taijitu_server.http.body import Bodies
from taijitu_server.http.origin import Hosts
from taijitu_server.logs import LineWriter
from taijitu_server.models.decode_pool import DecodePool
from taijitu_server.models.registry import Registry
from taijitu_server.settings import Settings

if TYPE_CHECKING:
    from taijitu_server.cameras.cameras import Cameras


class ServerState:
    """Made by `Application`. `is_local`: the server listens for its own machine only.

    `is_draining`: readiness says that work should go elsewhere, what comes is still answered. `is_closing`: the port is
    about to close, what has no end of its own ends.
    """

    def __init__(self, registry: Registry, settings: Settings, is_local: bool) -> None:
        self.registry = registry
        self.settings = settings
        self.metrics = registry.metrics
        self.hosts = Hosts(settings, is_local)
        self.keys = Keys(settings.api_keys)
        self.bodies = Bodies(settings)
        self.pool = DecodePool(settings.decode_threads)
        self.access_log = LineWriter() if settings.access_log else None
        self.cameras = self._cameras() if settings.camera else None
        self.is_started = False
        self.is_draining = self.is_closing = False

    @property
    def unready(self) -> str:
        """Why no work should be sent here now; empty where it should."""
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
        from taijitu_server.cameras.cameras import Cameras  # a server without any need not pay for them

        model = self.registry.get(self.settings.camera_model or None).name  # whichever are loaded later
        cameras = Cameras(self.settings, lambda: self.registry.get(model))
        self.metrics.registry.register(cameras)
        return cameras

    def close(self) -> None:
        """Let every thread finish what it has, and free the models."""
        self.pool.close()
        self.registry.close()
        if self.access_log is not None:
            self.access_log.close()
