"""HTTP around classifiers. Imports taijitu_runtime, FastAPI and uvicorn; never torch."""

from taijitu_server.app import create_app
from taijitu_server.metrics import Metrics
from taijitu_server.models.registry import Registry
from taijitu_server.settings import Settings

__all__ = ["Metrics", "Registry", "Settings", "create_app"]
