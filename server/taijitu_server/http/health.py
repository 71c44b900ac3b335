"""Whether the server lives and is ready, what it serves, and what it has counted."""

from __future__ import annotations

from typing import Any

import orjson
from prometheus_client import CONTENT_TYPE_LATEST

from taijitu_server.errors import NOT_READY, overloaded
from taijitu_server.http.exchange import Call, WholeReply
from taijitu_server.models.served_model import ServedModel
from taijitu_server.state import ServerState


async def live(state: ServerState, call: Call) -> WholeReply:
    """200 as long as the process answers."""
    return WholeReply(b'{"status":"live"}')


async def ready(state: ServerState, call: Call) -> WholeReply:
    """200 while work may be sent here, else 503.

    `proofs`: whether each model answers as its passport says. `failures`: files that could not take over, and why.
    """
    check_ready(state)
    models = {name: sorted(versions, key=int) for name, versions in sorted(state.registry.served.items())}
    proofs = {f"{model.name}/{model.version}": _proof_text(model) for model in state.registry.all()}
    failures = {f"{name}/{version}": reason for (name, version), reason in state.registry.failures.items()}
    found = {"status": "ready", "models": models, "proofs": proofs, "failures": failures}
    return WholeReply(orjson.dumps(found))


async def metrics(state: ServerState, call: Call) -> WholeReply:
    """Metrics in Prometheus' text format."""
    return WholeReply(state.metrics.text(), content_type=CONTENT_TYPE_LATEST)


async def models(state: ServerState, call: Call) -> WholeReply:
    """Every served version: its labels, its card and its proof; and every one that could not be loaded, and why."""
    found: list[dict[str, Any]] = [
        {
            "model": model.name,
            "version": model.version,
            "labels": list(model.labels),
            "backend": model.classifier.backend.name,
            "card": {name: part for name, part in model.classifier.card.to_dict().items() if name != "proof"},
            "proof": model.proof.to_dict() if model.proof else {"outcome": "off"},
        }
        for model in state.registry.all()
    ]
    served = {(model.name, model.version) for model in state.registry.all()}
    for (name, version), reason in state.registry.failures.items():
        if (name, version) not in served:
            found.append({"model": name, "version": version, "failure": reason})
    return WholeReply(orjson.dumps(found))


def _proof_text(model: ServedModel) -> str:
    return str(model.proof) if model.proof else "off"


def check_ready(state: ServerState) -> None:
    """HttpError 503 where no work should be sent here now."""
    if state.unready:
        raise overloaded(NOT_READY, f"not ready: {state.unready}", state.settings.retry_after_s)


async def no_cameras(state: ServerState, call: Call) -> WholeReply:
    """No camera: the server was started without any."""
    return WholeReply(b"[]")
