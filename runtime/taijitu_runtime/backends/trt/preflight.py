"""Checks before a plan is passed to TensorRT, whose errors about a wrong plan are unclear or missing.

Each check raises EngineError in one line: what the engine was built for, what is here, and the command to type.
"""

from __future__ import annotations

import hashlib
import logging
import shlex
from pathlib import Path
from typing import Any

from taijitu_runtime.backends.cuda import GpuModel
from taijitu_runtime.backends.trt import nish_plugin
from taijitu_runtime.backends.trt.rebuild import arguments_for
from taijitu_runtime.engine_card import AMPERE, LIBRARIES, LIBRARY_INSTALLS, BuiltFor, EngineCard, platform_here
from taijitu_runtime.errors import DeviceError, EngineError, MissingDependencyError, require
from taijitu_runtime.installed import version_numbers

_log = logging.getLogger(__name__)

LEAST_MEMORY_SHARE = 0.9
"""Share of the memory that an engine was built with: firmware keeps a little more or less on boards of one model."""


def read_plan(path: Path, card: EngineCard) -> bytes:
    """Read the plan. Raises EngineError unless it has the hash in the sidecar: it is truncated, damaged or swapped."""
    plan = path.read_bytes()
    digest = hashlib.sha256(plan).hexdigest()
    if digest != card.plan_sha256:
        raise EngineError(
            f"{path}: got {len(plan)} bytes with sha256 {digest[:12]}..., expected {card.plan_sha256[:12]}... as its "
            f"sidecar says: the file is damaged or of another build; copy both again, or {_build_again(path, card)}"
        )
    return plan


def load_library(path: Path, card: EngineCard) -> Any:
    """Import the module that this engine needs, `tensorrt` or `tensorrt_rtx`.

    Raises:
        EngineError: The engine is for another platform or version.
        MissingDependencyError: The module is not installed.
    """
    here = platform_here()
    if card.built_for.platform != here:
        raise _built_for(path, card, card.built_for.platform, here)
    try:
        trt = require(card.library.name, LIBRARY_INSTALLS[card.library.name])
    except MissingDependencyError as error:
        name = f"{LIBRARIES[card.library.name]} {card.library.version}"
        raise MissingDependencyError(
            card.library.name, LIBRARY_INSTALLS[card.library.name], f"{path} was built with {name}; {error.__cause__}"
        ) from None
    if not _version_fits(card, trt.__version__):
        name = LIBRARIES[card.library.name]
        raise _built_for(path, card, f"{name} {card.library.version}", f"{name} {trt.__version__}")
    return trt


def register_plugins(path: Path, card: EngineCard, trt: Any) -> None:
    """Register the plugin that the plan uses, if any, with TensorRT. Raises DeviceError where that fails."""
    if nish_plugin.FLAG not in card.flags:
        return
    try:
        nish_plugin.register_nish_plugin(trt)
    except DeviceError as error:
        raise DeviceError(f"{path}: {error}; or build the engine without --nishPlugin") from None


def check_gpu(path: Path, card: EngineCard, gpu: GpuModel) -> None:
    """Raise EngineError unless the engine runs on this GPU; log a warning if it was built on another model."""
    built_for = card.built_for
    here = version_numbers(gpu.compute_capability)
    rtx_default = card.library.is_rtx and not built_for.compute_capabilities
    if rtx_default or built_for.hardware_compatibility == "ampere+":
        fits, wanted = here >= AMPERE, "compute capability 8.0 and later"
    else:
        fits = gpu.compute_capability in built_for.compute_capabilities
        wanted = f"compute capability {', '.join(built_for.compute_capabilities) or '(none is named)'}"
    if not fits:
        wanted += f" ({built_for.gpu})" if built_for.gpu else ""
        raise _built_for(path, card, wanted, f"{gpu.compute_capability} ({gpu.name})", gpu.compute_capability)
    if not card.library.is_rtx and built_for.hardware_compatibility == "none":
        for built, found in other_model(built_for, gpu):
            _log.warning("%s was built on %s, runs on %s: one built here may be faster", path, built, found)


def other_model(built_for: BuiltFor, gpu: GpuModel) -> list[tuple[str, str]]:
    """Return the first difference between the GPU of the build and this one, as two texts; empty without any.

    TensorRT chose kernels by timing them on the former. Every Jetson Orin calls its GPU "Orin", so the name alone does
    not distinguish an AGX Orin from an Orin Nano. Facts that the sidecar lacks are not compared.
    """
    if built_for.gpu != gpu.name:
        return [(str(built_for.gpu), gpu.name)]
    if built_for.multiprocessors not in (None, gpu.multiprocessors):
        return [
            (f"{gpu.name} with {built_for.multiprocessors} multiprocessors", f"one with {gpu.multiprocessors}"),
        ]
    memory = built_for.memory_bytes
    if memory is not None and gpu.memory_bytes < LEAST_MEMORY_SHARE * memory:
        return [(f"{gpu.name} with {memory / 2**30:.1f} GiB", f"one with {gpu.memory_bytes / 2**30:.1f} GiB")]
    if built_for.board and gpu.board and built_for.board != gpu.board:
        return [(built_for.board, gpu.board)]
    return []


def check_validity(path: Path, card: EngineCard, runtime: Any, trt: Any, plan: bytes) -> None:
    """Raise EngineError if TensorRT-RTX reports, without loading the plan, that it cannot run; needs a driver."""
    validity, diagnostics = runtime.get_engine_validity(plan)
    if validity == trt.EngineValidity.SUBOPTIMAL:
        _log.warning("%s: TensorRT-RTX says that an engine built for this GPU would be faster", path)
    if validity != trt.EngineValidity.INVALID:
        return
    kinds = trt.EngineInvalidityDiagnostics
    reasons = [name for name, kind in kinds.__members__.items() if int(diagnostics) & int(kind)]
    if "CUDA_ERROR" in reasons or not reasons:
        raise DeviceError(
            f"{path}: TensorRT-RTX could not ask the GPU ({', '.join(reasons) or 'no reason given'}), "
            "expected a driver and a GPU; check nvidia-smi"
        )
    text = ", ".join(reason.lower().replace("_", " ") for reason in reasons)
    raise EngineError(
        f"{path}: TensorRT-RTX {trt.__version__} says that it cannot run here: {text}; {_build_again(path, card)}"
    )


def _version_fits(card: EngineCard, here: str) -> bool:
    built, found = version_numbers(card.library.version), version_numbers(here)
    if card.is_version_compatible:
        return built[0] == found[0] and found >= built[:3]
    return built[:3] == found[:3]


def _built_for(path: Path, card: EngineCard, wanted: str, here: str, capability: str | None = None) -> EngineError:
    return EngineError(f"{path}: built for {wanted}, here is {here}; {_build_again(path, card, capability)}")


def _build_again(path: Path, card: EngineCard, compute_capability: str | None = None) -> str:
    """Return what to do; the command is for the GPU of `compute_capability`, or None for those of the sidecar."""
    recorded = arguments_for(card, compute_capability)
    arguments = shlex.join([str(path.parent / card.source.path), f"--saveEngine={path}", *recorded])
    return f"add --rebuild (rebuild=True), or build it here: taijitu engine {arguments}"
