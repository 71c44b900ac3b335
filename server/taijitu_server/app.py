"""The application: routes around models that are passed in. No state at module level."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from taijitu_runtime import __version__
from taijitu_runtime.errors import TaijituError
from taijitu_server.errors import HttpError, overloaded
from taijitu_server.http.middleware import Middleware
from taijitu_server.http.page import add_page
from taijitu_server.http.routes import post_routes
from taijitu_server.kserve.routes import EXTENSIONS, model_metadata
from taijitu_server.models.registry import Registry
from taijitu_server.openapi import REFUSALS, with_post_routes
from taijitu_server.settings import Settings
from taijitu_server.state import ServerState

log = logging.getLogger("taijitu.server")

LOOK_S = 1.0  # between looks for requests that a model does not answer


def create_app(registry: Registry, settings: Settings | None = None) -> FastAPI:
    """An ASGI application that serves the registry's models, and frees them when it ends.

    `app.state.server` is its ServerState. The models are loaded already: see `Registry.load_all`.
    """
    state = ServerState(registry, settings or registry.settings)
    # FastAPI's pages of documentation load scripts from the internet; ours works without.
    app = FastAPI(
        title="taijitu",
        version=__version__,
        lifespan=_lifespan,
        docs_url=None,
        redoc_url=None,
        responses=REFUSALS,
    )
    app.state.server = state
    app.openapi = with_post_routes(app)  # type: ignore[method-assign]  # as FastAPI's documentation has it
    _add_errors(app)
    _add_health(app, state)
    _add_kserve(app, state)
    _add_cameras(app, state)
    add_page(app)
    # Not by add_middleware, which would put layers of FastAPI's around ours, each a few percent of a request's time.
    app.middleware_stack = _with_cors(
        Middleware(app.build_middleware_stack(), state, post_routes(state)), state.settings
    )
    return app


def _with_cors(app: ASGIApp, settings: Settings) -> ASGIApp:
    origins = settings.allowed_origins()
    if not origins:
        return app
    return CORSMiddleware(app, allow_origins=origins, allow_methods=["GET", "POST"], allow_headers=["*"])


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    state: ServerState = app.state.server
    tasks = [asyncio.create_task(_look(state))]
    if state.settings.reload_s:
        tasks.append(asyncio.create_task(_watch(state)))
    if state.cameras is not None:
        await state.cameras.start()
    state.is_started = True
    yield
    state.is_draining = True
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


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> JSONResponse:
        text = {404: "no such path; see /docs", 405: f"got {request.method}, which this path does not take"}
        headers = dict(error.headers) if error.headers else None
        content = {"error": text.get(error.status_code, str(error.detail))}
        return JSONResponse(content, status_code=error.status_code, headers=headers)

    @app.exception_handler(HttpError)
    async def ours(request: Request, error: HttpError) -> JSONResponse:
        return JSONResponse({"error": error.text}, status_code=error.status, headers=error.headers)


def _not_ready(state: ServerState, text: str) -> HttpError:
    return overloaded("not_ready", text, state.settings.retry_after_s)


def _add_health(app: FastAPI, state: ServerState) -> None:
    @app.get("/health/live", tags=["health"])
    async def live() -> dict[str, str]:
        """200 as long as the process answers."""
        return {"status": "live"}

    @app.get("/health/ready", tags=["health"])
    async def ready() -> dict[str, Any]:
        """200 while work may be sent here, else 503. `failures`: files that could not take over, and why."""
        if state.unready:
            raise _not_ready(state, f"not ready: {state.unready}")
        models = {name: sorted(versions, key=int) for name, versions in sorted(state.registry.served.items())}
        failures = {f"{name}/{version}": reason for (name, version), reason in state.registry.failures.items()}
        return {"status": "ready", "models": models, "failures": failures}

    @app.get("/metrics", tags=["health"], response_class=Response)
    async def metrics() -> Response:
        """Metrics in Prometheus' text format."""
        return Response(state.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    @app.get("/models", tags=["models"])
    async def models() -> list[dict[str, Any]]:
        """Every served version: its labels and its card."""
        return [
            {
                "model": model.name,
                "version": model.version,
                "labels": list(model.labels),
                "backend": model.classifier.backend.name,
                "card": model.classifier.card.to_dict(),
            }
            for model in state.registry.all()
        ]


def _add_kserve(app: FastAPI, state: ServerState) -> None:
    @app.get("/v2", tags=["KServe v2"])
    async def server_metadata() -> dict[str, Any]:
        """Name, version and protocol extensions of the server."""
        return {"name": "taijitu", "version": __version__, "extensions": list(EXTENSIONS)}

    @app.get("/v2/health/live", tags=["KServe v2"])
    async def v2_live() -> dict[str, bool]:
        """200 as long as the process answers."""
        return {"live": True}

    @app.get("/v2/health/ready", tags=["KServe v2"])
    async def v2_ready() -> dict[str, bool]:
        """200 while work may be sent here, else 503."""
        if state.unready:
            raise _not_ready(state, f"not ready: {state.unready}")
        return {"ready": True}

    @app.get("/v2/models/{model}", tags=["KServe v2"])
    @app.get("/v2/models/{model}/versions/{version}", tags=["KServe v2"])
    async def metadata(model: str, version: str | None = None) -> dict[str, Any]:
        """What a model takes and gives."""
        found = state.registry.get(model, version)
        return model_metadata(found, sorted(state.registry.served[model], key=int))

    @app.get("/v2/models/{model}/ready", tags=["KServe v2"])
    @app.get("/v2/models/{model}/versions/{version}/ready", tags=["KServe v2"])
    async def model_ready(model: str, version: str | None = None) -> dict[str, Any]:
        """200 while a model answers, else 503."""
        found = state.registry.get(model, version)
        if not found.is_alive or state.unready:
            raise _not_ready(state, f"{found.name} is not ready")
        return {"name": found.name, "ready": True}


def _add_cameras(app: FastAPI, state: ServerState) -> None:
    @app.get("/cameras", tags=["cameras"])
    async def cameras() -> list[dict[str, Any]]:
        """Every camera as `/cameras/{name}` gives it."""
        return [camera.status() for camera in state.cameras.by_name.values()] if state.cameras else []

    if state.cameras is not None:
        from taijitu_server.cameras.routes import add_camera_routes

        add_camera_routes(app, state, state.cameras)
