"""The table of routes: all that there is to ask of this server.

Dispatch, refused methods, known query parameters and the OpenAPI document follow from these rows.
"""

from __future__ import annotations

from taijitu_server import openapi
from taijitu_server.errors import (
    CAMERA_CONTROL,
    CAMERA_OFF,
    CAMERA_UNKNOWN,
    CONTENT_TYPE,
    MODEL_LOAD,
    MODEL_UNNAMED,
    NOT_READY,
    OF_BODIES,
    OF_INFERENCE,
    OF_MODELS,
    OF_PICTURES,
    ORIGIN,
    RELOAD_OFF,
)
from taijitu_server.http import health, page, schemas
from taijitu_server.http.classify import USUAL_TOP, classify
from taijitu_server.http.exchange import JSON, WEBSOCKET
from taijitu_server.http.router import Parameter, Route
from taijitu_server.kserve import routes as kserve

CLASSIFY_QUERY = (
    Parameter(
        "top",
        {"type": "integer", "minimum": 1, "maximum": 999_999_999, "default": USUAL_TOP},
        "How many answers, the best first.",
    ),
    Parameter("model", schemas.TEXT, "The model's name, where there are several."),
    Parameter("version", schemas.TEXT, "Its version, if not the highest."),
)
OBJECTS = (JSON, schemas.OBJECTS)
MODEL, VERSION = "/v2/models/{model}", "/v2/models/{model}/versions/{version}"
CHANGED = "/v2/repository/models/{model}"
INFER_ERRORS = (*OF_MODELS, *OF_BODIES, *OF_PICTURES, *OF_INFERENCE)
CHANGE_ERRORS = (*OF_MODELS, *OF_BODIES, ORIGIN, RELOAD_OFF, MODEL_LOAD)
CONTROL_ERRORS = (CAMERA_UNKNOWN, CAMERA_CONTROL, ORIGIN)


def routes(has_cameras: bool) -> tuple[Route, ...]:
    """The rows for a server with cameras, or without any."""
    rows = [
        Route("GET", "/", page.page, "page", is_open=True, is_documented=False),
        Route("GET", "/docs", page.docs, "page", is_documented=False),
        Route("POST", "/classify", classify, "classify", query=CLASSIFY_QUERY,
              body=schemas.PICTURES, body_required=True, gives=(JSON, schemas.CLASSIFIED),
              errors=(MODEL_UNNAMED, CONTENT_TYPE, *INFER_ERRORS)),
        Route("GET", "/health/live", health.live, "health", is_open=True, is_probe=True),
        Route("GET", "/health/ready", health.ready, "health", is_open=True, is_probe=True, errors=(NOT_READY,)),
        Route("GET", "/metrics", health.metrics, "health", gives=("text/plain", schemas.TEXT)),
        Route("GET", "/models", health.models, "models", gives=OBJECTS),
        Route("GET", "/v2", kserve.server, "KServe v2"),
        Route("GET", "/v2/health/live", kserve.live, "KServe v2", is_open=True, is_probe=True),
        Route("GET", "/v2/health/ready", kserve.ready, "KServe v2", is_open=True, is_probe=True, errors=(NOT_READY,)),
        *(
            route
            for path in (MODEL, VERSION)
            for route in (
                Route("GET", path, kserve.model, "KServe v2", errors=OF_MODELS),
                Route("GET", f"{path}/ready", kserve.model_ready, "KServe v2", errors=(*OF_MODELS, NOT_READY)),
                Route("POST", f"{path}/infer", kserve.infer, "KServe v2",
                      body=schemas.INFER, body_required=True, errors=INFER_ERRORS),
            )
        ),
        Route("POST", "/v2/repository/index", kserve.index, "KServe v2",
              body=schemas.INDEX, gives=OBJECTS, errors=OF_BODIES),
        Route("POST", f"{CHANGED}/load", kserve.load, "KServe v2", body=schemas.CHANGE, errors=CHANGE_ERRORS),
        Route("POST", f"{CHANGED}/unload", kserve.unload, "KServe v2", body=schemas.CHANGE, errors=CHANGE_ERRORS),
    ]  # fmt: skip
    if has_cameras:  # a server without any need not pay for their imports
        from taijitu_server.cameras import routes as cameras

        camera = "/cameras/{name}"
        rows += [
            Route("GET", "/cameras", cameras.cameras, "cameras", gives=OBJECTS),
            Route("GET", camera, cameras.camera, "cameras", errors=(CAMERA_UNKNOWN,)),
            Route("GET", f"{camera}/stream", cameras.stream, "cameras",
                  gives=("multipart/x-mixed-replace", schemas.TEXT), errors=(CAMERA_UNKNOWN, CAMERA_OFF)),
            Route("POST", f"{camera}/start", cameras.start, "cameras", errors=CONTROL_ERRORS),
            Route("POST", f"{camera}/stop", cameras.stop, "cameras", errors=CONTROL_ERRORS),
            Route(WEBSOCKET, f"{camera}/results", cameras.results, "cameras", errors=(CAMERA_UNKNOWN, ORIGIN)),
        ]  # fmt: skip
    else:
        rows.append(Route("GET", "/cameras", health.no_cameras, "cameras", gives=OBJECTS))
    rows.append(openapi.route(rows))
    return tuple(rows)
