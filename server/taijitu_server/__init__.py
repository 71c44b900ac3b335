"""HTTP around a classifier. Imports taijitu_runtime and FastAPI; never torch."""

from taijitu_server.app import create_app
from taijitu_server.settings import Settings

__all__ = ["Settings", "create_app"]
