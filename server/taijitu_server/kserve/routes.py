"""KServe v2 (Open Inference Protocol) over REST: health, metadata, inference, and loading models by POST."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson

from taijitu_runtime.console import shown
from taijitu_runtime.errors import UsageError, one_line
from taijitu_runtime.installed import taijitu_version
from taijitu_server.endpoints.health import check_ready
from taijitu_server.errors import MODEL_LOAD, NOT_READY, RELOAD_OFF, HttpError, bad_request, overloaded
from taijitu_server.http.json_body import content_from_json
from taijitu_server.http.origin import check_origin
from taijitu_server.http.request import Request, check_names
from taijitu_server.http.response import WholeResponse, server_timing
from taijitu_server.kserve.fields import checked_flag, checked_object
from taijitu_server.kserve.request import DATATYPES, DECIDED, INPUT, InferRequest, infer_request_from_body, outputs_of
from taijitu_server.kserve.response import response_from_scores
from taijitu_server.models.batcher import Job, Rows, Steps
from taijitu_server.models.served_model import ServedModel
from taijitu_server.state import ServerState

EXTENSIONS = ("classification", "binary_tensor_data", "model_repository")
QUICK_VALUES = 1024  # writing a response with this many scores takes about as long as starting work in another thread


async def server(state: ServerState, request: Request) -> WholeResponse:
    """Return name, version and protocol extensions of the server."""
    return WholeResponse(orjson.dumps({"name": "taijitu", "version": taijitu_version(), "extensions": EXTENSIONS}))


async def live(state: ServerState, request: Request) -> WholeResponse:
    """Report liveness: 200 as long as the process answers."""
    return WholeResponse(b'{"live":true}')


async def ready(state: ServerState, request: Request) -> WholeResponse:
    """Report readiness: 200 while the server accepts work, otherwise 503."""
    check_ready(state)
    return WholeResponse(b'{"ready":true}')


async def model(state: ServerState, request: Request) -> WholeResponse:
    """Describe the inputs and outputs of a model."""
    found = _named(state, request)
    return WholeResponse(orjson.dumps(model_metadata(found, sorted(state.registry.served[found.name], key=int))))


async def model_ready(state: ServerState, request: Request) -> WholeResponse:
    """Report readiness of a model: 200 while it answers, otherwise 503."""
    found = _named(state, request)
    if not found.is_alive or state.unready:
        raise overloaded(NOT_READY, f"{found.name} is not ready", state.settings.retry_after_s)
    return WholeResponse(orjson.dumps({"name": found.name, "ready": True}))


async def infer(state: ServerState, request: Request) -> WholeResponse:
    """Run inference on tensors in JSON or binary form, or on picture files with datatype BYTES."""
    _named(state, request)  # refuses an unknown model before the body is read
    body = await state.bodies.read(request)
    model = _named(state, request)  # again: it may have been replaced in the meantime
    header_length = request.header(b"inference-header-content-length")
    parsed: list[InferRequest] = []

    def prepare(job: Job) -> Rows | Steps:
        inference = infer_request_from_body(body, header_length, model.input, model.decision_rule, state.settings)
        inference.check_model(model.name, model.version)
        parsed.append(inference)
        if inference.timeout_s is not None:
            job.deadline = min(job.deadline, job.put_at + inference.timeout_s)
        return model.preparation.rows(inference.pictures) if inference.rows is None else inference.rows

    job = model.submit(state.pool, prepare)
    scores = await request.scores_of(job)
    stages_ms = request.note_stages(job)
    request.notes["model"] = model.name
    accepted = request.header(b"accept-encoding")
    if scores.logits.size <= QUICK_VALUES:
        response = response_from_scores(model, parsed[0], scores, accepted)
    else:
        response = await asyncio.to_thread(response_from_scores, model, parsed[0], scores, accepted)
    response.headers["Server-Timing"] = server_timing(stages_ms)
    return response


async def index(state: ServerState, request: Request) -> WholeResponse:
    """List the models, with the reason for those that are not served; with `ready`, only the served ones."""
    content = await _json_object(state, request)
    check_names("the request", content, ("ready",))
    only_served = checked_flag(content, "ready")
    rows = [
        {"name": model.name, "version": model.version, "state": "READY", "reason": ""} for model in state.registry.all()
    ]
    if not only_served:
        for (name, version), reason in state.registry.unserved().items():
            rows.append({"name": name, "version": version, "state": "UNAVAILABLE", "reason": reason})
    return WholeResponse(orjson.dumps(rows))


async def load(state: ServerState, request: Request) -> WholeResponse:
    """Load the files of a model again; 400 where the new files cannot be served, or their folder cannot be read."""
    name = request.path_values["model"]
    await _check_change(state, request)
    try:
        failed = await state.registry.refresh(name, again=True)
    except (UsageError, OSError) as error:
        failed = [shown(one_line(error))]
    if failed:
        is_served = name in state.registry.served
        now = "what was served before still is" if is_served else f"no version of {name} is served"
        raise HttpError(MODEL_LOAD, f"{failed[0]}; {now}")
    state.registry.get(name)
    return WholeResponse(b"{}")


async def unload(state: ServerState, request: Request) -> WholeResponse:
    """Stop serving a model after its accepted requests are answered."""
    name = request.path_values["model"]
    await _check_change(state, request)
    await state.registry.unload(name)
    return WholeResponse(b"{}")


def model_metadata(model: ServedModel, versions: list[str]) -> dict[str, Any]:
    """Return the content of GET /v2/models/NAME: inputs and outputs."""
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
        "outputs": [
            {
                "name": name,
                "datatype": "BOOL" if name in DECIDED else "FP32",
                "shape": [-1] if name == "known" else [-1, count],
            }
            for name in outputs_of(model.decision_rule)
        ],
    }


def _named(state: ServerState, request: Request) -> ServedModel:
    return state.registry.get(request.path_values["model"], request.path_values.get("version"))


async def _check_change(state: ServerState, request: Request) -> None:
    if not state.settings.reload_by_post:
        raise HttpError(RELOAD_OFF, "loading models by POST is disabled; start the server with --reload-by-post")
    check_origin(request, state.settings)
    content = await _json_object(state, request)
    check_names("the request", content, ("parameters",))
    given = content.get("parameters")
    parameters = {} if given is None else checked_object(given, "parameters")
    if parameters.keys() - {"unload_dependents"}:
        raise bad_request("got parameters, expected none, as models are loaded from the server's folder only")


async def _json_object(state: ServerState, request: Request) -> dict[str, Any]:
    text = await state.bodies.read(request)
    return checked_object(content_from_json(text, most_lists=2) if text else {}, "the request")
