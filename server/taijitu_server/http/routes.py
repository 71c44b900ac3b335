"""Which handler answers POST on which path."""

from __future__ import annotations

from functools import partial

from taijitu_server.http.classify import classify
from taijitu_server.http.middleware import Find, Handler
from taijitu_server.kserve import routes as kserve
from taijitu_server.state import ServerState

INFER, INFER_VERSION = "/v2/models/{model}/infer", "/v2/models/{model}/versions/{version}/infer"
INDEX = "/v2/repository/index"
LOAD, UNLOAD = "/v2/repository/models/{model}/load", "/v2/repository/models/{model}/unload"


def post_routes(state: ServerState) -> Find:
    """The function from a path to its documented form and its handler; None where FastAPI is to answer."""

    def find(path: str) -> tuple[str, Handler] | None:
        if path == "/classify":
            return path, partial(classify, state)
        match path.split("/"):
            case ["", "v2", "models", name, "infer"]:
                return INFER, partial(kserve.infer, state, name=name, version=None)
            case ["", "v2", "models", name, "versions", version, "infer"]:
                return INFER_VERSION, partial(kserve.infer, state, name=name, version=version)
            case ["", "v2", "repository", "index"]:
                return INDEX, partial(kserve.index, state)
            case ["", "v2", "repository", "models", name, "load"]:
                return LOAD, partial(kserve.load, state, name=name)
            case ["", "v2", "repository", "models", name, "unload"]:
                return UNLOAD, partial(kserve.unload, state, name=name)
        return None

    return find
