"""What a command does at its start with a model that fails its proof."""

from __future__ import annotations

from typing import Literal

Mode = Literal["on", "warn", "off"]
MODES: tuple[Mode, ...] = ("on", "warn", "off")
"""Refuse the model, warn and use it all the same, or do not prove it."""
