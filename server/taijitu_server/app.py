"""The ASGI application: routes for models that are passed in. There is no state at module level."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator

from starlette import routing
from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from taijitu_runtime.errors import TaijituError
from taijitu_server.models.registry import Registry
from taijitu_server.routing.middleware import PREFLIGHT, Middleware
from taijitu_server.routing.router import Router
from taijitu_server.routing.routes import routes
from taijitu_server.settings import Settings
from taijitu_server.state import ServerState

log = logging.getLogger("taijitu.server")

# What a page of another origin may read of a response. Without the first one it cannot tell JSON from binary tensors.
EXPOSED_HEADERS = ("Inference-Header-Content-Length", "Retry-After", "Server-Timing", "X-Request-Id", "traceparent")
OVERDUE_CHECK_S = 1.0  # between checks for requests that a model does not answer


class Application:
    """Serves the models of a registry and frees them at shutdown.

    Routing is our own (routing/): the layers of a framework take a good part of the time that a small picture
    takes, and its validation would repeat ours. Starlette provides lifespan, CORS and WebSockets.

    Args:
        registry: The models, already loaded by `Registry.load_all`.
        is_local: The server listens on the loopback interface only (see `HostNames`).
    """

    def __init__(self, registry: Registry, *, is_local: bool = False) -> None:
        self.state = ServerState(registry, is_local)
        requests = Middleware(self.state, Router(routes(has_cameras=self.state.cameras is not None)))
        self._requests = _with_cors(requests, registry.settings)
        self._lifespan = routing.Router(lifespan=lambda _: _run_lifespan(self.state))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await (self._lifespan if scope["type"] == "lifespan" else self._requests)(scope, receive, send)


class _Cors(CORSMiddleware):
    """CORS whose preflights go through the middleware too, which counts and logs them as every request."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        if scope.get("method") == "OPTIONS" and {"origin", "access-control-request-method"} <= set(headers):
            preflight = self.preflight_response(request_headers=headers)
            await self.app({**scope, PREFLIGHT: preflight}, receive, send)
        else:
            await super().__call__(scope, receive, send)


def _with_cors(app: ASGIApp, settings: Settings) -> ASGIApp:
    origins = settings.allowed_origins()
    if not origins:
        return app
    return _Cors(
        app,
        allow_origins=origins,
        allow_methods=["GET", "POST"],
        allow_headers=["*"],
        expose_headers=EXPOSED_HEADERS,
    )


@contextlib.asynccontextmanager
async def _run_lifespan(state: ServerState) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(_fail_overdue(state))]
    if state.settings.reload_s:
        tasks.append(asyncio.create_task(_reload(state)))
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


async def _fail_overdue(state: ServerState) -> None:
    while True:
        await asyncio.sleep(min(OVERDUE_CHECK_S, state.settings.run_timeout_s))
        state.registry.check_overdue()


async def _reload(state: ServerState) -> None:
    while True:
        await asyncio.sleep(state.settings.reload_s)
        try:
            await state.registry.refresh()
        except TaijituError as error:
            log.error("the models could not be refreshed: %s", error)
        except Exception as error:
            log.error("the models could not be refreshed: %s", error, exc_info=error)
