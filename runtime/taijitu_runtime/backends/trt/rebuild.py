"""Rebuild an engine for this machine, from the ONNX file and with the arguments in its sidecar."""

from __future__ import annotations

import importlib.util
import shlex
import subprocess
from pathlib import Path

from taijitu_runtime.child_python import python_command
from taijitu_runtime.engine_card import AMPERE, EngineCard
from taijitu_runtime.errors import ArtefactError, MissingDependencyError
from taijitu_runtime.installed import version_numbers
from taijitu_runtime.onnx_graph.external_data import sha256_with_weights

BUILDER = "taijitu_export.engine.cli"
RUN = f"from {BUILDER} import main; raise SystemExit(main())"
TARGET_FLAG = "--computeCapabilities"


def rebuild_engine(path: Path, card: EngineCard, compute_capability: str | None = None) -> None:
    """Run the module of export/to_engine.py in another process; its progress goes to stderr.

    Args:
        path: The engine.
        card: Its sidecar.
        compute_capability: That of the present GPU, which replaces those that TensorRT-RTX was built for.

    Raises:
        ArtefactError: The ONNX file is missing or not the one that the engine was built from, or the build failed.
        MissingDependencyError: taijitu_export is not installed.
    """
    source = path.parent / card.source.path
    if not source.is_file():
        raise ArtefactError(
            f"{path}: cannot be built again: got no {source}, expected the ONNX that it was built from; copy it there"
        )
    arguments = [str(source), f"--saveEngine={path}", *arguments_for(card, compute_capability)]
    digest = sha256_with_weights(source)
    if digest != card.source.sha256:
        raise ArtefactError(
            f"{path}: cannot be built again: got another {source} (sha256 {digest[:12]}...) than it was built from "
            f"({card.source.sha256[:12]}...); for this one: taijitu engine {shlex.join(arguments)}"
        )
    if not _has_builder():
        raise MissingDependencyError(BUILDER, "taijitu[export]", f"needed to build {path} again")
    done = subprocess.run(python_command(RUN, *arguments), stdout=subprocess.DEVNULL, check=False)
    if done.returncode != 0:
        raise ArtefactError(
            f"{path}: building it again failed (exit code {done.returncode}, the reason is above); "
            f"try: taijitu engine {shlex.join(arguments)}"
        )
    if EngineCard.read(path).built == card.built:
        raise ArtefactError(
            f"{path}: building it again ended without an engine; try: taijitu engine {shlex.join(arguments)}"
        )


def arguments_for(card: EngineCard, compute_capability: str | None) -> list[str]:
    """Return the recorded arguments, for the GPU of `compute_capability`, if given.

    It replaces the recorded ones, and is added where TensorRT-RTX's default, Ampere and later, does not include it.
    """
    others = [text for text in card.arguments if not text.startswith(TARGET_FLAG)]
    if compute_capability is None:
        return list(card.arguments)
    is_default = len(others) == len(card.arguments)
    is_older = card.library.is_rtx and version_numbers(compute_capability) < AMPERE
    return [*others, f"{TARGET_FLAG}={compute_capability}"] if is_older or not is_default else others


def _has_builder() -> bool:
    try:
        return importlib.util.find_spec(BUILDER) is not None
    except ModuleNotFoundError:
        return False
