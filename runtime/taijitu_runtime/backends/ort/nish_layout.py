"""Nish inside ONNX Runtime's blocked layout (NCHWc), as a cache made when a model is loaded.

The layout pass does not know our operator and reorders the memory before and after each. An elementwise kernel does
not care: so the pass gets a stand-in that it knows (onnx_graph/nish.py), and Nish takes its place again in what comes
out. That file holds for one processor and one version of ONNX Runtime, so it is not kept with shipped files, but in the
cache folder (cache.py); without one it is made at each start. Wherever anything is in doubt, the model is loaded as it
is.
"""

from __future__ import annotations

import hashlib
import logging
import platform
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from taijitu_runtime.backends.ort.options import session_options
from taijitu_runtime.cache import cache_folder, keep_newest, private_folder, read_own
from taijitu_runtime.errors import WriteError, one_line
from taijitu_runtime.files import replacing
from taijitu_runtime.onnx_graph.nish import count_nish, with_nish, with_stand_in
from taijitu_runtime.providers import CPU

_log = logging.getLogger(__name__)

MAGIC = b"taijitu layout 2\n"
"""The number is incremented when the content of the files changes."""

ALLOWED_DIFFERENCE = 1e-4
"""Between logits, as a share of their range; two orders of the same float32 sums are a hundredth of it apart."""

NOT_KEPT = "Nish in the blocked layout, and not kept for the next start: "

# What in /proc/cpuinfo tells a processor, and not its momentary state; the second line is aarch64's.
CPU_KEYS = {
    *("vendor_id", "cpu family", "model", "model name", "stepping", "flags"),
    *("CPU implementer", "CPU architecture", "CPU variant", "CPU part", "CPU revision", "Features"),
}

NewSession = Callable[[bytes, Any], Any]

# It would make the stand-in an attribute of Gemm, which has to have one then.
DISABLED_OPTIMISERS = ["GemmActivationFusion"]


class LayoutError(Exception):
    """The reason why the cache is not used; it is logged only."""


def relaid_session(ort: Any, model: bytes, library: Path, new_session: NewSession) -> Any:
    """Open a session of `model` with Nish in the blocked layout; return None where that is not possible or not safe.

    `library`: that of the Nish kernels. `new_session(model, level)` makes a session that has them, `level` being one of
    ONNX Runtime's GraphOptimizationLevel.
    """
    try:
        file = _file(_key(ort, model, library))
        relaid = _read(file) if file is not None else None
        made = relaid is None
        if relaid is None:
            relaid = _relay(ort, model, file.parent if file is not None else None)
        session = new_session(relaid, ort.GraphOptimizationLevel.ORT_DISABLE_ALL)
        if made or _log.isEnabledFor(logging.DEBUG):
            _check_parity(session, new_session(model, ort.GraphOptimizationLevel.ORT_ENABLE_ALL))
        if made and file is not None:
            _write(file, relaid)
    except Exception as error:  # a cache may fail in any way, and never stop a model from being loaded
        _log.debug("Nish in the plain layout: %s: %s", type(error).__name__, one_line(error))
        return None
    return session


def _file(key: str) -> Path | None:
    """Return the path of the cached model; None without a folder for it: then it is made at each start."""
    try:
        return private_folder(cache_folder()) / f"{key}.layout"
    except (OSError, RuntimeError) as error:
        _log.debug("%s%s: %s", NOT_KEPT, type(error).__name__, error)
        return None


def _relay(ort: Any, model: bytes, folder: Path | None) -> bytes:
    options = session_options(ort, threads=1)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        optimised = Path(scratch) / "optimised.onnx"
        options.optimized_model_filepath = str(optimised)
        ort.InferenceSession(
            with_stand_in(model),
            options,
            providers=[CPU],
            disabled_optimizers=DISABLED_OPTIMISERS,
        )
        relaid, restored = with_nish(optimised.read_bytes())
    expected = count_nish(model)
    if restored != expected:
        raise LayoutError(f"{restored} of {expected} nodes were found again")
    return relaid


def _check_parity(session: Any, plain: Any) -> None:
    """Raise LayoutError unless both answer the same about a random input."""
    random = np.random.default_rng(0)
    inputs: dict[str, Any] = {}
    for node in plain.get_inputs():
        shape = [size if isinstance(size, int) else 2 for size in node.shape]
        kinds = {
            "tensor(uint8)": random.integers(0, 256, shape, dtype=np.uint8),
            "tensor(float)": random.standard_normal(shape, dtype=np.float32),
        }
        inputs[node.name] = kinds[node.type]
    for ours, theirs in zip(session.run(None, inputs), plain.run(None, inputs), strict=True):
        difference, allowed = np.abs(ours - theirs).max(), ALLOWED_DIFFERENCE * np.ptp(theirs)
        if not difference <= allowed:
            raise LayoutError(f"the answers differ by {difference:.2g}, allowed {allowed:.2g}")


def _key(ort: Any, model: bytes, library: Path) -> str:
    """Return a key that changes with everything that the file depends on."""
    parts = [
        hashlib.sha256(model).hexdigest(),
        ort.__version__,
        ort.get_build_info(),
        _processor(Path("/proc/cpuinfo").read_text()),
        hashlib.sha256(library.read_bytes()).hexdigest(),
    ]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _processor(cpuinfo: str) -> str:
    kinds = set()
    for block in cpuinfo.split("\n\n"):
        lines = [line for line in block.splitlines() if line.partition(":")[0].strip() in CPU_KEYS]
        kinds.add("\n".join(lines))
    described = "\n\n".join(sorted(kinds - {""}))
    if not described:
        raise LayoutError("the processor does not say what it is")
    return f"{platform.machine()}\n{described}"


def _read(file: Path) -> bytes | None:
    """Return the model in the file; None if it is missing or cannot be trusted, and has to be made again."""
    try:
        content = read_own(file)
    except FileNotFoundError:
        return None
    except OSError as error:
        _log.debug("made again: %s: %s", type(error).__name__, error)
        return None
    head, digest, model = content[: len(MAGIC)], content[len(MAGIC) :][:32], content[len(MAGIC) + 32 :]
    return model if head == MAGIC and digest == hashlib.sha256(model).digest() else None


def _write(file: Path, model: bytes) -> None:
    try:
        with replacing(file, private=True) as temporary:
            temporary.write_bytes(MAGIC + hashlib.sha256(model).digest() + model)
        keep_newest(file.parent.glob("*.layout"))
    except (OSError, WriteError) as error:  # a full disk costs the cache, not the session that was just made
        _log.debug("%s%s: %s", NOT_KEPT, type(error).__name__, error)
