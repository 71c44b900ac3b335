"""Find weights that timm publishes on Hugging Face in this machine's cache, or download them after a message."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from taijitu_runtime.errors import UsageError, first_line, require
from taijitu_training.errors import CheckpointError
from taijitu_training.weights.published import timm_config

FILES = ("model.safetensors", "pytorch_model.bin")


def published_weights(name: str, offline: bool, report: Callable[[str], object]) -> Path:
    """Return the file of "resnet18.a1_in1k", or of "resnet18" for its default weights.

    Args:
        name: timm's name of the network, with a tag if other weights than its default ones are meant.
        offline: Refuse to download.
        report: Gets the line that says what is downloaded, from where, how large and under which licence, before it is.

    Raises:
        UsageError: The file is not here, and `offline`.
        CheckpointError: There are no such weights, or they cannot be downloaded.
    """
    hub = require("huggingface_hub", "taijitu[train]")
    config = timm_config(name)
    if not config.hf_hub_id:
        where = f"; get {config.url} and give it by --init" if config.url else ""
        raise CheckpointError(f"got timm/{name}, which has no weights on Hugging Face, expected some{where}")
    repository, _, revision = config.hf_hub_id.partition("@")
    files = (config.hf_hub_filename,) if config.hf_hub_filename else FILES
    for file in files:
        found = hub.try_to_load_from_cache(repository, file, revision=revision or None)
        if isinstance(found, str):
            return Path(found)
    do = (
        f"on a machine with a network: hf download {repository} {files[0]}, then --init FILE, or copy its cache to "
        f"{hub.constants.HF_HUB_CACHE}"
    )
    if offline or hub.constants.HF_HUB_OFFLINE:
        got = "--offline" if offline else "HF_HUB_OFFLINE"
        raise UsageError(f"got {got}, and {files[0]} of {repository} is not on this machine; {do}")
    try:
        return _downloaded(hub, repository, files, revision or None, config.license, report)
    except Exception as error:  # of three libraries, each with errors of its own
        raise CheckpointError(f"could not download {files[0]} of {repository} ({first_line(error)}); {do}") from None


def _downloaded(
    hub: Any,
    repository: str,
    files: tuple[str, ...],
    revision: str | None,
    licence: str,
    report: Callable[[str], object],
) -> Path:
    for file in files:
        url = hub.hf_hub_url(repository, file, revision=revision)
        try:
            size = hub.get_hf_file_metadata(url).size
        except hub.errors.EntryNotFoundError:
            if file == files[-1]:
                raise
            continue
        megabytes = "of unknown size" if size is None else f"{size / 1e6:.1f} MB"
        report(f"downloads {url}, {megabytes}, licence: {licence or 'not stated'}")
        return Path(hub.hf_hub_download(repository, file, revision=revision))
    raise FileNotFoundError(files[0])
