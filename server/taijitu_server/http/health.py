"""Liveness, readiness, served models and metrics."""

from __future__ import annotations

import orjson
from prometheus_client import CONTENT_TYPE_LATEST

from taijitu_server.errors import NOT_READY, overloaded
from taijitu_server.http.request import Request
from taijitu_server.http.response import WholeResponse
from taijitu_server.state import ServerState


async def live(state: ServerState, request: Request) -> WholeResponse:
    """Report liveness: 200 as long as the process answers."""
    return WholeResponse(b'{"status":"live"}')


async def ready(state: ServerState, request: Request) -> WholeResponse:
    """Report readiness: 200 while the server accepts work, otherwise 503.

    `failures` lists the model files that could not be loaded, with the reason.
    """
    check_ready(state)
    models = {name: sorted(versions, key=int) for name, versions in sorted(state.registry.served.items())}
    failures = {f"{name}/{version}": reason for (name, version), reason in state.registry.failures.items()}
    return WholeResponse(orjson.dumps({"status": "ready", "models": models, "failures": failures}))


async def metrics(state: ServerState, request: Request) -> WholeResponse:
    """Return the metrics in Prometheus' text format."""
    return WholeResponse(state.metrics.text(), content_type=CONTENT_TYPE_LATEST)


async def models(state: ServerState, request: Request) -> WholeResponse:
    """List every served version with its labels and its card."""
    found = [
        {
            "model": model.name,
            "version": model.version,
            "labels": list(model.labels),
            "backend": model.classifier.backend.name,
            "card": model.classifier.card.to_dict(),
        }
        for model in state.registry.all()
    ]
    return WholeResponse(orjson.dumps(found))


def check_ready(state: ServerState) -> None:
    """Raise HttpError 503 while the server is not ready."""
    if state.unready:
        raise overloaded(NOT_READY, f"not ready: {state.unready}", state.settings.retry_after_s)


async def no_cameras(state: ServerState, request: Request) -> WholeResponse:
    """List the cameras: none, as the server was started without any."""
    return WholeResponse(b"[]")
