"""Names of models in paths of the API and in files for other servers."""

from __future__ import annotations

import re

from taijitu_runtime.card import ModelCard

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
VERSION = re.compile(r"[1-9][0-9]{0,8}")


def name_from_card(card: ModelCard) -> str:
    """Return the architecture's name with "_" for what a path cannot have: timm/resnet18 is timm_resnet18."""
    name = re.sub(r"[^A-Za-z0-9._-]", "_", card.architecture.name).lstrip("._-")[:128]
    return name or "model"
