"""Find weights that torchvision publishes in this machine's cache of torch.hub, or download them after a message."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch

from taijitu_runtime.errors import UsageError, one_line
from taijitu_training.errors import CheckpointError
from taijitu_training.weights.published import digest_of


def torchvision_file(entry: Any, offline: bool, report: Callable[[str], object]) -> Path:
    """Return the file of torchvision's weights.

    Args:
        entry: The result of `torchvision_weights`.
        offline: Refuse to download.
        report: Gets the line that says what is downloaded, from where, how large and under which licence, before it is.

    Raises:
        UsageError: The file is not here, and `offline`.
        CheckpointError: It cannot be downloaded, or has another hash than its name says.
    """
    file = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlsplit(entry.url).path).name
    if file.is_file():
        return file
    do = f"on a machine with a network: download {entry.url}, then --init FILE, or copy it to {file.parent}"
    if offline:
        raise UsageError(f"got --offline, and {file.name} is not on this machine; {do}")
    megabytes = entry.meta["_file_size"] * 2**20 / 1e6
    report(f"downloads {entry.url}, {megabytes:.1f} MB, licence: {licence_of(entry)}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(entry.url, str(file), hash_prefix=digest_of(entry), progress=sys.stderr.isatty())
    except (OSError, RuntimeError) as error:
        raise CheckpointError(f"could not download {file.name} ({one_line(error)}); {do}") from None
    return file


def licence_of(entry: Any) -> str:
    """Return the licence of torchvision's weights, where torchvision states one."""
    return str(entry.meta.get("license", "not stated"))
