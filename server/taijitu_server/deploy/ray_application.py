"""The server as a Ray Serve application: what serve.yaml of `taijitu ray-app` names as its import path."""

# No `from __future__ import annotations` here: Ray makes Arguments of serve.yaml only where it sees the class itself.

from pathlib import Path
from typing import Any

from pydantic import BaseModel
from ray import serve
from ray.serve import Application

from taijitu_server.app import Application as Server
from taijitu_server.deploy.ray_app import DEPLOYMENT
from taijitu_server.metrics import Metrics
from taijitu_server.models.registry import Registry
from taijitu_server.settings import settings_from


class Arguments(BaseModel):
    """`model`: an artefact, absolute or relative to the replica's working folder. `threads`: of one inference."""

    model: Path
    threads: int = 1


def application(arguments: Arguments) -> Application:
    """One deployment, whose replicas each load the model and answer with the server's own application."""

    def build() -> Server:
        settings = settings_from({"inference_threads": arguments.threads, "decode_threads": 1}, None)
        registry = Registry(settings, Metrics(), arguments.model)
        registry.load_all()
        return Server(registry)

    replicated: Any = serve.deployment(serve.ingress(build)(), name=DEPLOYMENT)
    bound: Application = replicated.bind()
    return bound
