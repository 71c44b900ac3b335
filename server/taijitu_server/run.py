"""One server process: uvicorn around the application, and an orderly end."""

from __future__ import annotations

import asyncio
import gc
import ipaddress
import logging
import os
import signal
import socket
import sys
import threading

import uvicorn

from taijitu_server.app import Application
from taijitu_server.http.connection import connection_class
from taijitu_server.logs import Log
from taijitu_server.models.registry import Registry
from taijitu_server.state import ServerState

logger = logging.getLogger("taijitu.server")

MAX_WEBSOCKET_BYTES = 1024  # clients have nothing to say there
# A thread that comes back from the network waits for the interpreter's lock; 5 ms, the default, is half an answer.
LOCK_S = 0.0005
FREES_WITHIN_S = 5.0  # after the time for work in flight


def serve(registry: Registry, listener: socket.socket, log: Log) -> None:
    """Answer requests on `listener` until SIGTERM, SIGINT or SIGHUP; what was accepted is still answered."""
    settings = registry.settings
    app = Application(registry, is_local=_is_loopback(listener))
    state = app.state

    def refused(status: int, reason: str) -> None:
        state.metrics.observe_request("other", status, reason, 0.0)

    config = uvicorn.Config(
        app,
        http=connection_class(settings, refused),
        ws=_listening_only() if settings.camera else "none",
        ws_max_size=MAX_WEBSOCKET_BYTES,
        ws_per_message_deflate=False,
        loop="uvloop",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=settings.keep_alive_s,  # type: ignore[arg-type]  # it takes any number of seconds
        timeout_graceful_shutdown=settings.shutdown_s,
    )
    sys.setswitchinterval(LOCK_S)
    gc.collect()
    gc.freeze()  # what is loaded stays: looking for garbage in it would stop all requests for tens of milliseconds
    gc.collect()  # of nothing: CPython waits for new garbage to be a quarter of what it found the last time
    _Server(config, state, log).run(sockets=[listener])


def _is_loopback(listener: socket.socket) -> bool:
    return ipaddress.ip_address(listener.getsockname()[0].partition("%")[0]).is_loopback


def _listening_only() -> type[asyncio.Protocol]:
    from taijitu_server.http.websocket import ListeningOnly  # a server without cameras need not pay for it

    return ListeningOnly


class _Server(uvicorn.Server):
    """uvicorn's server, which first says 'not ready', and only then closes its port."""

    def __init__(self, config: uvicorn.Config, state: ServerState, log: Log) -> None:
        super().__init__(config)
        self._state = state
        self._log = log
        self._backstop: threading.Timer | None = None
        for number in (signal.SIGINT, signal.SIGTERM):  # before uvicorn's own handlers, and after them
            signal.signal(number, self._stop)
        if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:  # nohup ignores it, and so do workers
            signal.signal(signal.SIGHUP, self.handle_exit)

    def _stop(self, number: int, frame: object) -> None:
        self._state.is_draining = self._state.is_closing = True
        self.should_exit = True

    def handle_exit(self, sig: int, frame: object) -> None:
        """Called for a signal: requests are answered until the drain is over; a second signal does not wait for it."""
        drain_s = self._state.settings.drain_s
        self._limit_shutdown(drain_s)
        if self._state.is_draining or not drain_s or not self.started:
            self._stop(sig, frame)
            return
        self._state.is_draining = True
        signal.signal(signal.SIGALRM, self._stop)
        signal.setitimer(signal.ITIMER_REAL, drain_s)

    def _limit_shutdown(self, drain_s: float) -> None:
        """End the process where a thread does not end in time: one in a driver's call cannot be told to."""
        if self._backstop is None:
            self._backstop = threading.Timer(drain_s + self._state.settings.shutdown_s + FREES_WITHIN_S, self._give_up)
            self._backstop.daemon = True
            self._backstop.start()

    def _give_up(self) -> None:
        names = sorted(thread.name for thread in threading.enumerate() if thread.daemon)
        logger.error("the shutdown takes too long: the process is ended; running: %s", ", ".join(names))
        self._log.close()
        os._exit(1)
