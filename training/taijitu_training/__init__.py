"""Networks, training and checkpoints. Imports torch and nothing of the other packages."""

from taijitu_training.errors import TaijituError, UnknownNameError
from taijitu_training.models import create_model, list_models

__all__ = ["TaijituError", "UnknownNameError", "create_model", "list_models"]
