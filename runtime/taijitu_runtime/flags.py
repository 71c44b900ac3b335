"""The flags that several commands have: one meaning and one help each."""

from __future__ import annotations

import argparse
from typing import Any

from taijitu_runtime.providers import PROVIDERS

_SHARED: dict[str, dict[str, Any]] = {
    "--json": {"action": "store_true", "help": "print one JSON object on stdout and nothing else"},
    "--no-cuda-graphs": {
        "action": "store_true",
        "help": "engines: start each layer separately; graphs take up to 64 MiB of the GPU's memory",
    },
    "--provider": {
        "choices": PROVIDERS,
        "help": "where ONNX Runtime computes; one that does not load is an error (default: cpu)",
    },
    "--rebuild": {"action": "store_true", "help": "rebuild an engine that does not run here"},
    "--skip-unreadable": {
        "action": "store_true",
        "help": "leave out pictures that cannot be decoded, and list them (default: they are an error)",
    },
    "--threads": {"type": int, "default": 0, "metavar": "N", "help": "cores to use, 0 for all (default: %(default)s)"},
    "--threshold": {
        "type": float,
        "metavar": "P",
        "help": "probability from which the first answer is known (default: that of the model's card, if it has one)",
    },
}


def add_shared(group: argparse._ActionsContainer, *flags: str) -> None:
    """Add these flags, which several commands have, to a parser or a group of one."""
    for flag in flags:
        group.add_argument(flag, **_SHARED[flag])
