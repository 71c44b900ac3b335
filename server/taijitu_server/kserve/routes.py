"""KServe v2 ('Open Inference Protocol') over REST: health, metadata, inference, and loading models by POST."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson

from taijitu_runtime.installed import taijitu_version
from taijitu_server.errors import MODEL_LOAD, NOT_READY, RELOAD_OFF, HttpError, bad_request, overloaded
from taijitu_server.http.exchange import Call, WholeReply, check_names, server_timing
from taijitu_server.http.health import check_ready
from taijitu_server.http.origin import check_origin
from taijitu_server.kserve.request import DATATYPES, INPUT, OUTPUTS, InferRequest, infer_request_from_body
from taijitu_server.kserve.response import reply_from_scores
from taijitu_server.models.batcher import Job, Rows, Steps
from taijitu_server.models.served_model import ServedModel
from taijitu_server.state import ServerState

EXTENSIONS = ("classification", "binary_tensor_data", "model_repository")
QUICK_VALUES = 1024  # an answer of so many scores is written out in about the time that another thread takes to begin


async def server(state: ServerState, call: Call) -> WholeReply:
    """Name, version and protocol extensions of the server."""
    return WholeReply(orjson.dumps({"name": "taijitu", "version": taijitu_version(), "extensions": EXTENSIONS}))


async def live(state: ServerState, call: Call) -> WholeReply:
    """200 as long as the process answers."""
    return WholeReply(b'{"live":true}')


async def ready(state: ServerState, call: Call) -> WholeReply:
    """200 while work may be sent here, else 503."""
    check_ready(state)
    return WholeReply(b'{"ready":true}')


async def model(state: ServerState, call: Call) -> WholeReply:
    """What a model takes and gives."""
    found = _named(state, call)
    return WholeReply(orjson.dumps(model_metadata(found, sorted(state.registry.served[found.name], key=int))))


async def model_ready(state: ServerState, call: Call) -> WholeReply:
    """200 while a model answers, else 503."""
    found = _named(state, call)
    if not found.is_alive or state.unready:
        raise overloaded(NOT_READY, f"{found.name} is not ready", state.settings.retry_after_s)
    return WholeReply(orjson.dumps({"name": found.name, "ready": True}))


async def infer(state: ServerState, call: Call) -> WholeReply:
    """Infer, in JSON or with binary tensors; datatype BYTES takes picture files."""
    _named(state, call)  # unknown: said before the body is read
    body = await state.bodies.read(call)
    model = _named(state, call)  # it may have been replaced meanwhile
    header_length = call.header(b"inference-header-content-length")
    parsed: list[InferRequest] = []

    def prepare(job: Job) -> Rows | Steps:
        request = infer_request_from_body(body, header_length, model.input, state.settings)
        request.check_model(model.name, model.version)
        parsed.append(request)
        if request.timeout_s is not None:
            job.deadline = min(job.deadline, job.put_at + request.timeout_s)
        return model.rows_from_pictures(request.pictures) if request.rows is None else request.rows

    job = model.submit(state.pool, prepare, state.settings.queue_timeout_ms / 1e3)
    scores = await call.answered(job)
    stages_ms = call.note_stages(job)
    call.notes["model"] = model.name
    accepted = call.header(b"accept-encoding")
    if scores.logits.size <= QUICK_VALUES:
        reply = reply_from_scores(model, parsed[0], scores, accepted)
    else:
        reply = await asyncio.to_thread(reply_from_scores, model, parsed[0], scores, accepted)
    reply.headers["Server-Timing"] = server_timing(stages_ms)
    return reply


async def index(state: ServerState, call: Call) -> WholeReply:
    """The models, and why one is not served; with `ready` those only that are."""
    content = await _json_object(state, call)
    check_names("the request", content, ("ready",))
    if not isinstance(content.get("ready", False), bool):
        raise bad_request("ready: expected true or false")
    rows = [
        {"name": model.name, "version": model.version, "state": "READY", "reason": ""} for model in state.registry.all()
    ]
    served = {(row["name"], row["version"]) for row in rows}
    for (name, version), reason in state.registry.failures.items():
        if (name, version) not in served and not content.get("ready"):
            rows.append({"name": name, "version": version, "state": "UNAVAILABLE", "reason": reason})
    return WholeReply(orjson.dumps(rows))


async def load(state: ServerState, call: Call) -> WholeReply:
    """Load a model's files again; 400 where what is new cannot be served."""
    name = call.names["model"]
    await _check_change(state, call)
    failed = await state.registry.refresh(name, again=True)
    if failed:
        raise HttpError(MODEL_LOAD, f"{failed[0]}; what was served before still is")
    state.registry.get(name)
    return WholeReply(b"{}")


async def unload(state: ServerState, call: Call) -> WholeReply:
    """Stop serving a model, once what was accepted is answered."""
    name = call.names["model"]
    await _check_change(state, call)
    state.registry.get(name)
    await state.registry.unload(name)
    return WholeReply(b"{}")


def model_metadata(model: ServedModel, versions: list[str]) -> dict[str, Any]:
    """GET /v2/models/NAME: what it takes and gives."""
    count = len(model.labels)
    return {
        "name": model.name,
        "versions": versions,
        "platform": "onnxruntime_onnx" if model.classifier.backend.name == "onnxruntime" else "tensorrt_plan",
        "inputs": [
            {
                "name": INPUT,
                "datatype": DATATYPES[model.input.dtype.name],
                "shape": [-1, *model.input.shape(1)[1:]],
            }
        ],
        "outputs": [{"name": name, "datatype": "FP32", "shape": [-1, count]} for name in OUTPUTS],
    }


def _named(state: ServerState, call: Call) -> ServedModel:
    return state.registry.get(call.names["model"], call.names.get("version"))


async def _check_change(state: ServerState, call: Call) -> None:
    if not state.settings.reload_by_post:
        raise HttpError(RELOAD_OFF, "models are not loaded by POST here; start the server with --reload-by-post")
    check_origin(call, state.settings)
    content = await _json_object(state, call)
    check_names("the request", content, ("parameters",))
    parameters = content.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise bad_request("parameters: expected a JSON object")
    if parameters.keys() - {"unload_dependents"}:
        raise bad_request("got parameters, expected none: models come from the server's folder only")


async def _json_object(state: ServerState, call: Call) -> dict[str, Any]:
    text = await state.bodies.read(call)
    try:
        content = orjson.loads(text) if text else {}
    except orjson.JSONDecodeError as error:
        raise bad_request(f"the request is not JSON: {error.msg[:100]}") from None
    if not isinstance(content, dict):
        raise bad_request("the request: expected a JSON object")
    return content
