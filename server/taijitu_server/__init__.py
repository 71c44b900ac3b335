"""HTTP around classifiers. Imports taijitu_runtime, Starlette and uvicorn; never torch."""

from taijitu_server.app import Application
from taijitu_server.metrics import Metrics
from taijitu_server.models.registry import Registry
from taijitu_server.settings import Settings

__all__ = ["Application", "Metrics", "Registry", "Settings"]
