"""The table of all routes.

Dispatch, refused methods, known query parameters and the OpenAPI document follow from these rows.
"""

from __future__ import annotations

from taijitu_runtime.classifier import USUAL_TOP
from taijitu_server.endpoints import health, page
from taijitu_server.endpoints.classify import classify
from taijitu_server.errors import (
    BODY_ERRORS,
    CAMERA_CONTROL,
    CAMERA_OFF,
    CAMERA_UNKNOWN,
    CONTENT_TYPE,
    INFERENCE_ERRORS,
    MODEL_ERRORS,
    MODEL_LOAD,
    MODEL_REPLACED,
    MODEL_UNNAMED,
    NO_MAPS,
    NOT_READY,
    ORIGIN,
    PICTURE_ERRORS,
    RELOAD_OFF,
)
from taijitu_server.http.request import WEBSOCKET
from taijitu_server.http.response import JSON
from taijitu_server.kserve import routes as kserve
from taijitu_server.routing import openapi, schemas
from taijitu_server.routing.router import Parameter, Route

CLASSIFY_QUERY = (
    Parameter(
        "top",
        {"type": "integer", "minimum": 1, "maximum": 999_999_999, "default": USUAL_TOP},
        "Number of answers, the likeliest first.",
    ),
    Parameter(
        "threshold",
        {"type": "number", "minimum": 0, "maximum": 1},
        "Probability from which the first answer is known; by default that of the model's card, if it has one.",
    ),
    Parameter(
        "explain",
        {"type": "integer", "enum": [0, 1], "default": 0},
        "1: each answer has a class-activation map, where the model has such maps.",
    ),
    Parameter("model", schemas.TEXT, "Name of the model; required if several are served."),
    Parameter("version", schemas.TEXT, "Version of the model; by default the highest."),
)
OBJECTS = {JSON: schemas.OBJECTS}
MODEL, VERSION = "/v2/models/{model}", "/v2/models/{model}/versions/{version}"
CHANGED = "/v2/repository/models/{model}"
INFER_ERRORS = (*MODEL_ERRORS, *BODY_ERRORS, *PICTURE_ERRORS, *INFERENCE_ERRORS)
CHANGE_ERRORS = (*MODEL_ERRORS, *BODY_ERRORS, ORIGIN, RELOAD_OFF, MODEL_LOAD)
CONTROL_ERRORS = (CAMERA_UNKNOWN, CAMERA_CONTROL, ORIGIN)


def routes(has_cameras: bool) -> tuple[Route, ...]:
    """Return the rows for a server with or without cameras."""
    rows = [
        Route("GET", "/", page.page, "page", is_open=True, is_documented=False),
        Route("GET", "/docs", page.docs, "page", is_documented=False),
        Route("POST", "/classify", classify, "classify", query=CLASSIFY_QUERY,
              body=schemas.PICTURES, body_required=True, response={JSON: schemas.CLASSIFIED},
              errors=(MODEL_UNNAMED, MODEL_REPLACED, NO_MAPS, CONTENT_TYPE, *INFER_ERRORS)),
        Route("GET", "/health/live", health.live, "health", is_open=True, is_probe=True),
        Route("GET", "/health/ready", health.ready, "health", is_open=True, is_probe=True, errors=(NOT_READY,)),
        Route("GET", "/metrics", health.metrics, "health", response={"text/plain": schemas.TEXT}),
        Route("GET", "/models", health.models, "models", response=OBJECTS),
        Route("GET", "/v2", kserve.server, "KServe v2"),
        Route("GET", "/v2/health/live", kserve.live, "KServe v2", is_open=True, is_probe=True),
        Route("GET", "/v2/health/ready", kserve.ready, "KServe v2", is_open=True, is_probe=True, errors=(NOT_READY,)),
        *(
            route
            for path in (MODEL, VERSION)
            for route in (
                Route("GET", path, kserve.model, "KServe v2", errors=MODEL_ERRORS),
                Route("GET", f"{path}/ready", kserve.model_ready, "KServe v2", errors=(*MODEL_ERRORS, NOT_READY)),
                Route("POST", f"{path}/infer", kserve.infer, "KServe v2",
                      body=schemas.INFER, body_required=True, response=schemas.INFERRED, errors=INFER_ERRORS),
            )
        ),
        Route("POST", "/v2/repository/index", kserve.index, "KServe v2",
              body=schemas.INDEX, response=OBJECTS, errors=BODY_ERRORS),
        Route("POST", f"{CHANGED}/load", kserve.load, "KServe v2", body=schemas.CHANGE, errors=CHANGE_ERRORS),
        Route("POST", f"{CHANGED}/unload", kserve.unload, "KServe v2", body=schemas.CHANGE, errors=CHANGE_ERRORS),
    ]  # fmt: skip
    if has_cameras:  # only then, as their imports take time
        from taijitu_server.cameras import routes as cameras

        camera = "/cameras/{name}"
        rows += [
            Route("GET", "/cameras", cameras.cameras, "cameras", response=OBJECTS),
            Route("GET", camera, cameras.camera, "cameras", errors=(CAMERA_UNKNOWN,)),
            Route("GET", f"{camera}/stream", cameras.stream, "cameras",
                  response={"multipart/x-mixed-replace": schemas.TEXT}, errors=(CAMERA_UNKNOWN, CAMERA_OFF)),
            Route("POST", f"{camera}/start", cameras.start, "cameras", errors=CONTROL_ERRORS),
            Route("POST", f"{camera}/stop", cameras.stop, "cameras", errors=CONTROL_ERRORS),
            Route(WEBSOCKET, f"{camera}/results", cameras.results, "cameras", errors=(CAMERA_UNKNOWN, ORIGIN)),
        ]  # fmt: skip
    else:
        rows.append(Route("GET", "/cameras", health.no_cameras, "cameras", response=OBJECTS))
    rows.append(openapi.route(rows))
    return tuple(rows)
