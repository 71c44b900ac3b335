"""POST /classify: from pictures to labels with probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from taijitu_runtime.classifier import USUAL_TOP
from taijitu_server.http.forms import Pictures, read_pictures
from taijitu_server.http.request import Request
from taijitu_server.http.response import WholeResponse, server_timing
from taijitu_server.models.batcher import Job, Rows, Steps
from taijitu_server.models.preparation import QUICK_BYTES
from taijitu_server.models.served_model import ServedModel
from taijitu_server.state import ServerState

MAP_DECIMALS = 4

Result = dict[str, Any]


async def classify(state: ServerState, request: Request) -> WholeResponse:
    """Classify pictures; all pictures of a request run as one batch, or one by one where they are explained."""
    top = request.whole_number("top", USUAL_TOP)
    threshold = request.probability("threshold")
    is_explained = request.flag("explain")
    name, version = request.query.get("model"), request.query.get("version")
    named = state.registry.get(name, version)  # refuses an unknown model before the body is read
    if is_explained:
        named.explainer.check()
    pictures = await read_pictures(request, state.bodies, state.settings.max_pictures)
    model = state.registry.get(name, version)  # again: it may have been replaced in the meantime

    ask = _explained if is_explained else _classified
    job, results = await ask(state, request, model, pictures, top, threshold)
    stages_ms = request.note_stages(job)
    request.notes["model"] = model.name
    content: dict[str, Any] = {"model": model.name, "version": model.version}
    content |= results[0] if len(results) == 1 else {"results": results}
    content["latency_ms"] = request.latency_ms
    content["stages_ms"] = stages_ms
    body = orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
    return WholeResponse(body, headers={"Server-Timing": server_timing(stages_ms)})


async def _classified(
    state: ServerState, request: Request, model: ServedModel, pictures: Pictures, top: int, threshold: float | None
) -> tuple[Job, list[Result]]:
    found = pictures() if request.held_bytes <= QUICK_BYTES else None

    def prepare(_: Job) -> Rows | Steps:
        return model.preparation.rows(pictures() if found is None else found)

    is_quick = found is not None and all(map(model.preparation.is_quick, found))
    job = model.submit(None if is_quick else state.pool, prepare)
    scores = await request.scores_of(job)
    answers = scores.answers(model.labels, top)
    certainties = scores.certainties(model.decision_rule.with_threshold(threshold))
    return job, [{"answers": each, **certainty.as_json()} for each, certainty in zip(answers, certainties, strict=True)]


async def _explained(
    state: ServerState, request: Request, model: ServedModel, pictures: Pictures, top: int, threshold: float | None
) -> tuple[Job, list[Result]]:
    job, explanations = model.submit_explained(state.pool, pictures, top, threshold)
    await request.scores_of(job)
    results: list[Result] = []
    for each in explanations:
        answers = [
            {**answer.as_json(), "map": _rounded(place_values)}
            for answer, place_values in zip(each.prediction.answers, each.maps, strict=True)
        ]
        region = [round(share, MAP_DECIMALS) for share in each.region]
        results.append({"answers": answers, **each.prediction.certainty.as_json(), "region": region})
    return job, results


def _rounded(numbers: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.ascontiguousarray(np.round(numbers, MAP_DECIMALS))
