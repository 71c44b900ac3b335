"""KServe v2 ('Open Inference Protocol') over REST: inference, and loading models by POST."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson

from taijitu_server.errors import HttpError, bad_request
from taijitu_server.http.exchange import Call, Reply, server_timing
from taijitu_server.http.origin import check_origin
from taijitu_server.kserve.request import DATATYPES, INPUT, OUTPUTS, InferRequest, infer_request_from_body
from taijitu_server.kserve.response import reply_from_scores
from taijitu_server.models.batcher import Job, Rows, Steps
from taijitu_server.models.served_model import ServedModel
from taijitu_server.state import ServerState

EXTENSIONS = ("classification", "binary_tensor_data", "model_repository")
QUICK_VALUES = 1024  # an answer of so many scores is written out in about the time that another thread takes to begin


async def infer(state: ServerState, call: Call, name: str, version: str | None) -> Reply:
    """POST /v2/models/NAME[/versions/VERSION]/infer."""
    state.registry.get(name, version)  # unknown: said before the body is read
    body = await state.bodies.read(call)
    model = state.registry.get(name, version)  # it may have been replaced meanwhile
    header_length = call.header(b"inference-header-content-length")
    parsed: list[InferRequest] = []

    def prepare(job: Job) -> Rows | Steps:
        request = infer_request_from_body(body, header_length, model.input, state.settings)
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


async def index(state: ServerState, call: Call) -> Reply:
    """POST /v2/repository/index: the models, and why one is not served."""
    await state.bodies.read(call)
    rows = [
        {"name": model.name, "version": model.version, "state": "READY", "reason": ""} for model in state.registry.all()
    ]
    served = {(row["name"], row["version"]) for row in rows}
    for (name, version), reason in state.registry.failures.items():
        if (name, version) not in served:
            rows.append({"name": name, "version": version, "state": "UNAVAILABLE", "reason": reason})
    return Reply(orjson.dumps(rows))


async def load(state: ServerState, call: Call, name: str) -> Reply:
    """POST /v2/repository/models/NAME/load: look at its files again; 400 where what is new cannot be served."""
    await _change(state, call)
    failed = await state.registry.refresh(name, again=True)
    if failed:
        raise HttpError(400, "model_load", f"{failed[0]}; what was served before still is")
    state.registry.get(name)
    return Reply(b"{}")


async def unload(state: ServerState, call: Call, name: str) -> Reply:
    """POST /v2/repository/models/NAME/unload: stop serving it, once what was accepted is answered."""
    await _change(state, call)
    state.registry.get(name)
    await state.registry.unload(name)
    return Reply(b"{}")


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


async def _change(state: ServerState, call: Call) -> None:
    if not state.settings.reload_by_post:
        raise HttpError(403, "reload_off", "models are not loaded by POST here; start the server with --reload-by-post")
    check_origin(call.header(b"origin"), call.header(b"host"), state.settings)
    text = await state.bodies.read(call)
    try:
        content = orjson.loads(text) if text else {}
    except orjson.JSONDecodeError:
        raise bad_request("the request is no JSON") from None
    parameters = content.get("parameters", {}) if isinstance(content, dict) else None
    if not isinstance(parameters, dict):
        raise bad_request("expected a JSON object, and parameters, if any, as an object")
    if parameters.keys() - {"unload_dependents"}:
        raise bad_request("got parameters, expected none: models come from the server's folder only")
