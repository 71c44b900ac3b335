"""Whether the server lives and is ready, what it serves, and what it has counted."""

from __future__ import annotations

import orjson
from prometheus_client import CONTENT_TYPE_LATEST

from taijitu_server.errors import NOT_READY, overloaded
from taijitu_server.http.exchange import Call, WholeReply
from taijitu_server.state import ServerState


async def live(state: ServerState, call: Call) -> WholeReply:
    """200 as long as the process answers."""
    return WholeReply(b'{"status":"live"}')


async def ready(state: ServerState, call: Call) -> WholeReply:
    """200 while work may be sent here, else 503.

    `failures`: files that could not take over, and why.
    """
    check_ready(state)
    models = {name: sorted(versions, key=int) for name, versions in sorted(state.registry.served.items())}
    failures = {f"{name}/{version}": reason for (name, version), reason in state.registry.failures.items()}
    return WholeReply(orjson.dumps({"status": "ready", "models": models, "failures": failures}))


async def metrics(state: ServerState, call: Call) -> WholeReply:
    """Metrics in Prometheus' text format."""
    return WholeReply(state.metrics.text(), content_type=CONTENT_TYPE_LATEST)


async def models(state: ServerState, call: Call) -> WholeReply:
    """Every served version: its labels and its card."""
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
    return WholeReply(orjson.dumps(found))


def check_ready(state: ServerState) -> None:
    """HttpError 503 where no work should be sent here now."""
    if state.unready:
        raise overloaded(NOT_READY, f"not ready: {state.unready}", state.settings.retry_after_s)


async def no_cameras(state: ServerState, call: Call) -> WholeReply:
    """No camera: the server was started without any."""
    return WholeReply(b"[]")
