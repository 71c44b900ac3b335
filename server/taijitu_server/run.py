"""One server process: uvicorn with the application, and a graceful shutdown."""

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
from collections.abc import Callable

import uvicorn

from taijitu_server.app import Application
from taijitu_server.errors import ErrorKind
from taijitu_server.http.connection import connection_class
from taijitu_server.logs import Log
from taijitu_server.models.registry import Registry
from taijitu_server.state import ServerState

logger = logging.getLogger("taijitu.server")

MAX_WEBSOCKET_BYTES = 1024  # of a message from a client, which the server does not read
# A thread that returns from inference waits for the interpreter's lock for up to this time; the default is 5 ms.
SWITCH_INTERVAL_S = 0.0005
FREE_TIMEOUT_S = 5.0  # after the time for work in flight


def serve(registry: Registry, listener: socket.socket, log: Log, announce: Callable[[], None]) -> None:
    """Answer requests on `listener` until SIGTERM, SIGINT or SIGHUP; accepted requests are still answered.

    `announce` is called once nothing in the settings can be an error any more.
    """
    settings = registry.settings
    app = Application(registry, is_local=_is_loopback(listener))
    state = app.state

    def refused(kind: ErrorKind) -> None:
        state.metrics.observe_request("other", kind.status, kind.reason, 0.0)

    config = uvicorn.Config(
        app,
        http=connection_class(settings, refused),
        ws=_send_only_websocket() if settings.camera else "none",
        ws_max_size=MAX_WEBSOCKET_BYTES,
        ws_per_message_deflate=False,
        loop="uvloop",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=settings.keep_alive_s,  # type: ignore[arg-type]  # a float works too
        timeout_graceful_shutdown=settings.shutdown_s,
    )
    server = _Server(config, state, log)
    announce()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    gc.collect()
    gc.freeze()  # loaded modules stay: a collection through them would stop all requests for tens of milliseconds
    gc.collect()  # finds nothing: CPython's next full collection waits for a quarter of what the last one found
    server.run(sockets=[listener])


def _is_loopback(listener: socket.socket) -> bool:
    return ipaddress.ip_address(listener.getsockname()[0].partition("%")[0]).is_loopback


def _send_only_websocket() -> type[asyncio.Protocol]:
    from taijitu_server.http.websocket import SendOnlyWebSocket  # only servers with cameras need it

    return SendOnlyWebSocket


class _Server(uvicorn.Server):
    """uvicorn's server, which reports 'not ready' for a while before it closes its port."""

    def __init__(self, config: uvicorn.Config, state: ServerState, log: Log) -> None:
        super().__init__(config)
        self._state = state
        self._log = log
        self._exit_timer: threading.Timer | None = None
        for number in (signal.SIGINT, signal.SIGTERM):  # before uvicorn's own handlers, and after them
            signal.signal(number, self._stop)
        if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:  # nohup ignores it, and so do workers
            signal.signal(signal.SIGHUP, self.handle_exit)

    def _stop(self, number: int, frame: object) -> None:
        self._state.is_draining = self._state.is_closing = True
        self.should_exit = True

    def handle_exit(self, sig: int, frame: object) -> None:
        """Start the drain, in which requests are still answered, or end it at a second signal; called for signals."""
        drain_s = self._state.settings.drain_s
        self._limit_shutdown(drain_s)
        if self._state.is_draining or not drain_s or not self.started:
            self._stop(sig, frame)
            return
        self._state.is_draining = True
        signal.signal(signal.SIGALRM, self._stop)
        signal.setitimer(signal.ITIMER_REAL, drain_s)

    def _limit_shutdown(self, drain_s: float) -> None:
        """End the process if a thread does not end in time, such as one that hangs in a call of a driver."""
        if self._exit_timer is None:
            after_s = drain_s + self._state.settings.shutdown_s + FREE_TIMEOUT_S
            self._exit_timer = threading.Timer(after_s, self._exit)
            self._exit_timer.daemon = True
            self._exit_timer.start()

    def _exit(self) -> None:
        names = sorted(thread.name for thread in threading.enumerate() if thread.daemon)
        logger.error("the shutdown takes too long; the process ends, threads still running: %s", ", ".join(names))
        self._log.close()
        os._exit(1)
