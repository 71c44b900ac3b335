"""The server as a Ray Serve application: the import path in the serve.yaml of `taijitu ray-app`."""

# Without `from __future__ import annotations`: Ray needs the class Arguments itself to parse serve.yaml.

import logging
import os
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from ray import serve
from ray.serve import Application

from taijitu_runtime.machine import MOST_THREADS
from taijitu_server.app import Application as Server
from taijitu_server.deploy.ray_app import DEPLOYMENT
from taijitu_server.deploy.ray_replica import replica_settings, unused_variables
from taijitu_server.metrics import Metrics
from taijitu_server.models.registry import Registry
from taijitu_server.settings import unknown_variables

log = logging.getLogger("taijitu.server")


class Arguments(BaseModel):
    """The `args` of serve.yaml.

    Attributes:
        model: A model file; a relative path is relative to the replica's working folder.
        threads: Threads of one inference.
    """

    model_config = ConfigDict(extra="forbid")

    model: Path
    threads: int = Field(1, ge=1, le=MOST_THREADS)


def application(arguments: Arguments) -> Application:
    """Return one deployment, whose replicas load the model and run the server's application."""

    def build() -> Server:
        settings = replica_settings(arguments.threads, os.environ)
        for text in (*unknown_variables(os.environ), *unused_variables(os.environ)):
            log.warning(text)
        registry = Registry(settings, Metrics(), arguments.model)
        registry.load_all()
        return Server(registry)

    replicated: Any = serve.deployment(serve.ingress(build)(), name=DEPLOYMENT)
    bound: Application = replicated.bind()
    return bound
