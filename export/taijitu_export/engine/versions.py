"""The differences between the releases of TensorRT and TensorRT-RTX, and why; no other file has any.

Everything else is the same in TensorRT 8.6 to 11 and in TensorRT-RTX 1.x. Code asks `Library.has(feature)`
or `Library.need(feature, flag)`, never for a version. A test compares the table with the releases' members.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Version = tuple[int, int]

OLDEST = {"tensorrt": (8, 6), "tensorrt_rtx": (1, 2)}
"""The first supported release of each library."""


@dataclass(frozen=True)
class Difference:
    """One row of the table.

    `symbol`: "Class.member" of the Python module; None for a property of the parser, which no member shows. `tensorrt`:
    the release that added it to TensorRT, and the one that removed it (None: not removed); None where it never had it.
    `rtx`: whether TensorRT-RTX has it ("used"), has the name but does nothing with it, or worse ("idle"), or does not
    even have the name ("absent"). `why`: the reason, and its source.
    """

    symbol: str | None
    tensorrt: tuple[Version, Version | None] | None
    rtx: Literal["used", "idle", "absent"]
    why: str

    def in_tensorrt(self, version: Version) -> bool:
        """Return whether that release of TensorRT has it."""
        if self.tensorrt is None:
            return False
        since, before = self.tensorrt
        return since <= version and (before is None or version < before)


DIFFERENCES: dict[str, Difference] = {
    "explicit batch": Difference(
        "NetworkDefinitionCreationFlag.EXPLICIT_BATCH",
        ((8, 6), (11, 0)),
        "absent",
        "8.x parses ONNX only with it; 10.0: every network has an explicit batch and the flag is ignored; gone in 11.0",
    ),
    "typed network": Difference(
        "NetworkDefinitionCreationFlag.STRONGLY_TYPED",
        ((10, 0), None),
        "used",
        "10.0: strongly typed networks, of the types that the ONNX graph has; 11.0: always so, the flag is ignored",
    ),
    "precision flags": Difference(
        "BuilderFlag.FP16",
        ((8, 6), (11, 0)),
        "absent",
        "10.12 deprecates weak typing, 11.0 removes it, FP16 and INT8 with it; TensorRT-RTX never had it",
    ),
    "quantised activations": Difference(
        "INetworkDefinition.add_quantize",
        ((8, 6), None),
        "idle",
        "TensorRT-RTX computes in int8 only where the weights of a matrix product alone are int8, not convolutions "
        "(support matrix: INT8 WoQ GEMM)",
    ),
    "float16 scales": Difference(
        None,
        ((10, 0), None),
        "used",
        "8.6 parses opsets up to 17 (its release notes), and a scale may be float16 from opset 19 on",
    ),
    "progress": Difference(
        "IBuilderConfig.progress_monitor",
        ((10, 0), None),
        "used",
        "10.0 adds IProgressMonitor to Python",
    ),
    "optimisation level": Difference(
        "IBuilderConfig.builder_optimization_level",
        ((8, 6), None),
        "used",
        "8.6 adds levels 0 to 5",
    ),
    "tactic shared memory": Difference(
        "MemoryPoolType.TACTIC_SHARED_MEMORY",
        ((10, 0), None),
        "used",
        "10.0 adds this pool",
    ),
    "timing cache": Difference(
        "IBuilderConfig.create_timing_cache",
        ((8, 6), None),
        "idle",
        "TensorRT-RTX times no tactics while it builds; a timing cache makes it ask for a GPU and changes nothing "
        "(release notes 1.1), its calls are deprecated (1.2)",
    ),
    "version compatibility": Difference(
        "BuilderFlag.VERSION_COMPATIBLE",
        ((8, 6), None),
        "idle",
        "8.6 adds it; engines of TensorRT-RTX hold for one release (Engine Compatibility), 1.7.1 fails without a "
        "lean runtime that it does not have",
    ),
    "hardware compatibility": Difference(
        "HardwareCompatibilityLevel.AMPERE_PLUS",
        ((8, 6), None),
        "idle",
        "8.6 adds ampere+; TensorRT-RTX ignores it with a warning, and has --computeCapabilities for that",
    ),
    "same compute capability": Difference(
        "HardwareCompatibilityLevel.SAME_COMPUTE_CAPABILITY",
        ((10, 9), None),
        "idle",
        "10.9 adds it (release notes); TensorRT-RTX has --computeCapabilities",
    ),
    "compute capabilities": Difference(
        "IBuilderConfig.set_compute_capability",
        None,
        "used",
        "TensorRT builds for the GPU that it runs on; --hardwareCompatibilityLevel widens that",
    ),
    "DLA": Difference(
        "IBuilderConfig.DLA_core",
        ((8, 6), None),
        "idle",
        "TensorRT-RTX is for RTX cards, which have no DLA; TensorRT tells how many cores there are (releases 10.8 to "
        "11.4.0 support none)",
    ),
    "parser's node names": Difference(
        "ParserError.node_name",
        ((10, 0), None),
        "used",
        "10.0 tells the name and the operator of a node that cannot be parsed; 8.6 tells its number",
    ),
    "plugin for Nish": Difference(
        None,
        ((10, 7), None),
        "idle",
        "from 10.7 on the parser takes a plugin where the file also has a definition, before that the definition "
        "(release notes); TensorRT-RTX has no plugins, and its parser ends the process for a node that is one",
    ),
}
