"""POST /classify: pictures in, labels with probabilities out."""

from __future__ import annotations

from typing import Any

import orjson

from taijitu_server.http.exchange import Call, WholeReply, server_timing
from taijitu_server.http.forms import read_pictures
from taijitu_server.models.batcher import Job, Rows, Steps
from taijitu_server.models.served_model import QUICK_BYTES
from taijitu_server.state import ServerState

USUAL_TOP = 5


async def classify(state: ServerState, call: Call) -> WholeReply:
    """Classify pictures; those of one request go through the network together."""
    top = call.whole_number("top", USUAL_TOP)
    name, version = call.query.get("model"), call.query.get("version")
    state.registry.get(name, version)  # unknown: said before the body is read
    pictures = await read_pictures(call, state.bodies, state.settings.max_pictures)
    model = state.registry.get(name, version)  # it may have been replaced meanwhile

    found = pictures() if call.held_bytes <= QUICK_BYTES else None

    def prepare(_: Job) -> Rows | Steps:
        return model.rows_from_pictures(pictures() if found is None else found)

    is_quick = found is not None and all(map(model.is_quick, found))
    job = model.submit(None if is_quick else state.pool, prepare, state.settings.queue_timeout_ms / 1e3)
    scores = await call.answered(job)
    stages_ms = call.note_stages(job)
    call.notes["model"] = model.name
    answers = scores.answers(model.labels, top)
    content: dict[str, Any] = {"model": model.name, "version": model.version}
    if len(answers) == 1:
        content["answers"] = answers[0]
    else:
        content["results"] = [{"answers": of_one} for of_one in answers]
    content["latency_ms"] = call.latency_ms
    content["stages_ms"] = stages_ms
    return WholeReply(orjson.dumps(content), headers={"Server-Timing": server_timing(stages_ms)})
