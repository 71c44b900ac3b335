"""The ASGI application: routes around models that are passed in. No state at module level."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator

from starlette import routing
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from taijitu_runtime.errors import TaijituError
from taijitu_server.http.middleware import Middleware
from taijitu_server.http.router import Router
from taijitu_server.http.routes import routes
from taijitu_server.models.registry import Registry
from taijitu_server.settings import Settings
from taijitu_server.state import ServerState

log = logging.getLogger("taijitu.server")

LOOK_S = 1.0  # between looks for requests that a model does not answer


class Application:
    """Serves the registry's models, which are loaded already (`Registry.load_all`), and frees them when it ends.

    Our own routes, since a framework's layers cost a good part of what a small picture's answer takes, and its
    validation would be a second one: see http/routes.py. Starlette does lifespan, CORS and WebSockets.
    `is_local`: the server listens for its own machine only (`Hosts`).
    """

    def __init__(self, registry: Registry, *, is_local: bool = False) -> None:
        self.state = ServerState(registry, registry.settings, is_local)
        requests = Middleware(self.state, Router(routes(has_cameras=self.state.cameras is not None)))
        self._requests = _with_cors(requests, registry.settings)
        self._lifespan = routing.Router(lifespan=lambda _: _life(self.state))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await (self._lifespan if scope["type"] == "lifespan" else self._requests)(scope, receive, send)


def _with_cors(app: ASGIApp, settings: Settings) -> ASGIApp:
    origins = settings.allowed_origins()
    if not origins:
        return app
    return CORSMiddleware(app, allow_origins=origins, allow_methods=["GET", "POST"], allow_headers=["*"])


@contextlib.asynccontextmanager
async def _life(state: ServerState) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(_look(state))]
    if state.settings.reload_s:
        tasks.append(asyncio.create_task(_watch(state)))
    if state.cameras is not None:
        await state.cameras.start()
    state.is_started = True
    yield
    state.is_draining = state.is_closing = True
    if state.cameras is not None:
        await state.cameras.stop()
    for task in tasks:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    state.close()


async def _look(state: ServerState) -> None:
    while True:
        await asyncio.sleep(min(LOOK_S, state.settings.run_timeout_s))
        for model in state.registry.all():
            model.look()


async def _watch(state: ServerState) -> None:
    while True:
        await asyncio.sleep(state.settings.reload_s)
        try:
            await state.registry.refresh()
        except TaijituError as error:
            log.error("the models were not looked at: %s", error)
        except Exception as error:
            log.error("the models were not looked at: %s", error, exc_info=error)
