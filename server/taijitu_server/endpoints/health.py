"""Liveness, readiness, served models and metrics."""

from __future__ import annotations

from typing import Any

import orjson
from prometheus_client import CONTENT_TYPE_LATEST

from taijitu_server.errors import NOT_READY, overloaded
from taijitu_server.http.request import Request
from taijitu_server.http.response import WholeResponse
from taijitu_server.models.served_model import ServedModel
from taijitu_server.state import ServerState


async def live(state: ServerState, request: Request) -> WholeResponse:
    """Report liveness: 200 as long as the process answers."""
    return WholeResponse(b'{"status":"live"}')


async def ready(state: ServerState, request: Request) -> WholeResponse:
    """Report readiness: 200 while the server accepts work, otherwise 503.

    `proofs` says whether each model answers as its passport says; `failures` lists the model files that could not be
    loaded, with the reason.
    """
    check_ready(state)
    models = {name: sorted(versions, key=int) for name, versions in sorted(state.registry.served.items())}
    proofs = {f"{model.name}/{model.version}": _proof_text(model) for model in state.registry.all()}
    failures = {f"{name}/{version}": reason for (name, version), reason in state.registry.failures.items()}
    found = {"status": "ready", "models": models, "proofs": proofs, "failures": failures}
    return WholeResponse(orjson.dumps(found))


async def metrics(state: ServerState, request: Request) -> WholeResponse:
    """Return the metrics in Prometheus' text format."""
    return WholeResponse(state.metrics.text(), content_type=CONTENT_TYPE_LATEST)


async def models(state: ServerState, request: Request) -> WholeResponse:
    """List every served version with its labels, card and proof, and every one that could not be loaded, with why."""
    found: list[dict[str, Any]] = [
        {
            "model": model.name,
            "version": model.version,
            "labels": list(model.labels),
            "backend": model.classifier.backend.name,
            "explains": model.explainer.has_maps,
            "card": {name: part for name, part in model.classifier.card.to_dict().items() if name != "proof"},
            "proof": model.proof.to_dict() if model.proof else {"outcome": "off"},
        }
        for model in state.registry.all()
    ]
    for (name, version), reason in state.registry.unserved().items():
        found.append({"model": name, "version": version, "failure": reason})
    return WholeResponse(orjson.dumps(found))


def _proof_text(model: ServedModel) -> str:
    return str(model.proof) if model.proof else "off"


def check_ready(state: ServerState) -> None:
    """Raise HttpError 503 while the server is not ready."""
    if state.unready:
        raise overloaded(NOT_READY, f"not ready: {state.unready}", state.settings.retry_after_s)


async def no_cameras(state: ServerState, request: Request) -> WholeResponse:
    """List the cameras: none, as the server was started without any."""
    return WholeResponse(b"[]")
