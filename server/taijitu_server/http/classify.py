"""POST /classify: from pictures to labels with probabilities."""

from __future__ import annotations

from typing import Any

import orjson

from taijitu_server.http.forms import read_pictures
from taijitu_server.http.request import Request
from taijitu_server.http.response import WholeResponse, server_timing
from taijitu_server.models.batcher import Job, Rows, Steps
from taijitu_server.models.served_model import QUICK_BYTES
from taijitu_server.state import ServerState

DEFAULT_TOP = 5


async def classify(state: ServerState, request: Request) -> WholeResponse:
    """Classify pictures; all pictures of a request run as one batch."""
    top = request.whole_number("top", DEFAULT_TOP)
    threshold = request.probability("threshold")
    name, version = request.query.get("model"), request.query.get("version")
    state.registry.get(name, version)  # refuses an unknown model before the body is read
    pictures = await read_pictures(request, state.bodies, state.settings.max_pictures)
    model = state.registry.get(name, version)  # again: it may have been replaced in the meantime

    found = pictures() if request.held_bytes <= QUICK_BYTES else None

    def prepare(_: Job) -> Rows | Steps:
        return model.rows_from_pictures(pictures() if found is None else found)

    is_quick = found is not None and all(map(model.is_quick, found))
    job = model.submit(None if is_quick else state.pool, prepare, state.settings.queue_timeout_ms / 1e3)
    scores = await request.scores_of(job)
    stages_ms = request.note_stages(job)
    request.notes["model"] = model.name
    answers, doubts = scores.answers(model.labels, top), scores.doubts(model.doubt_rule.with_threshold(threshold))
    results = [{"answers": each, **doubt.as_json()} for each, doubt in zip(answers, doubts, strict=True)]
    content: dict[str, Any] = {"model": model.name, "version": model.version}
    content |= results[0] if len(results) == 1 else {"results": results}
    content["latency_ms"] = request.latency_ms
    content["stages_ms"] = stages_ms
    return WholeResponse(orjson.dumps(content), headers={"Server-Timing": server_timing(stages_ms)})
