"""The engine card: `model.engine.json` next to a TensorRT plan, which itself stays a bare, byte-valid plan.

It holds the model's card, what the plan was built for and from, and how to build it again. `EngineCard.from_dict` is
the one validator; `save_engine` and `EngineCard.read` are the two ends of the file.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import platform
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from taijitu_runtime.card import PRECISIONS, ModelCard
from taijitu_runtime.errors import ArtefactError
from taijitu_runtime.fields import (
    check_choice,
    check_sha256,
    check_text,
    check_version,
    fail,
    plain,
    read_fields,
    tuple_from_list,
)
from taijitu_runtime.files import replacing

ENGINE_FORMAT_VERSION = 1
LIBRARIES = {"tensorrt": "TensorRT", "tensorrt_rtx": "TensorRT-RTX"}
"""Modules, and their names at NVIDIA."""

LIBRARY_INSTALLS = {"tensorrt": "taijitu[gpu]", "tensorrt_rtx": "taijitu[rtx]"}

HARDWARE_COMPATIBILITY = {
    "none": "NONE",
    "ampere+": "AMPERE_PLUS",
    "sameComputeCapability": "SAME_COMPUTE_CAPABILITY",
}
"""trtexec's names, and TensorRT's."""

AMPERE = (8, 0)
"""The oldest compute capability of "ampere+", and of a TensorRT-RTX engine that is built without naming one."""

RTX_COMPUTE_CAPABILITIES = ("7.5", "8.0", "8.6", "8.9", "12.0", "12.1")
"""The GPUs that TensorRT-RTX runs on."""

BUILD_AGAIN = "taijitu engine model.onnx --saveEngine=model.engine"


# The flags of taijitu engine that decide the result, and the only ones that a rebuild repeats: a sidecar may come
# from an untrusted source, so it must not name other files, ask for help or change what is printed.
RECORDED_FLAGS = frozenset(
    f"--{name}"
    for name in [
        "backend",
        "fp16",
        "int8",
        "noTF32",
        "minShapes",
        "optShapes",
        "maxShapes",
        "computeCapabilities",
        "hardwareCompatibilityLevel",
        "versionCompatible",
        "useDLACore",
        "allowGPUFallback",
        "memPoolSize",
        "builderOptimizationLevel",
        "nishPlugin",
        "skipInference",
    ]
)


@dataclasses.dataclass(frozen=True)
class Library:
    """The library that built the plan: its Python module, one of LIBRARIES, and its version, such as "10.3.0"."""

    name: str
    version: str

    def __post_init__(self) -> None:
        check_choice("library.name", self.name, tuple(LIBRARIES))
        check_text("library.version", self.version, 'a version such as "10.3.0"', r"\d+\.\d+[\w.+-]*")

    @property
    def is_rtx(self) -> bool:
        """Whether it is TensorRT-RTX."""
        return self.name == "tensorrt_rtx"


@dataclasses.dataclass(frozen=True, kw_only=True)
class BuiltFor:
    """The machines that run the plan.

    `platform`: as `platform_here()`. `compute_capabilities`: such as ("8.6", "8.9"); empty for TensorRT-RTX's default,
    Ampere and later. `gpu`, `driver`: name and version of the GPU and driver that it was built with; None where it was
    built without one, as are its `multiprocessors` and `memory_bytes`. `board`: the board's own name,
    such as "NVIDIA Jetson AGX Orin Developer Kit"; None if it has none. `hardware_compatibility`:
    trtexec's --hardwareCompatibilityLevel. `dla_core`: its number, or None for a plan that uses none.
    """

    platform: str
    compute_capabilities: tuple[str, ...]
    gpu: str | None
    driver: str | None
    multiprocessors: int | None = None
    memory_bytes: int | None = None
    board: str | None = None
    hardware_compatibility: str = "none"
    dla_core: int | None = None

    def __post_init__(self) -> None:
        check_text("built_for.platform", self.platform, 'such as "linux_x86_64"')
        if not isinstance(self.compute_capabilities, tuple):
            raise fail("built_for.compute_capabilities", self.compute_capabilities, 'a list such as ["8.6", "8.9"]')
        for number in self.compute_capabilities:
            check_text("built_for.compute_capabilities", number, 'numbers such as "8.6"', r"\d{1,2}\.\d")
        for name in ("gpu", "driver", "board"):
            if getattr(self, name) is not None:
                check_text(f"built_for.{name}", getattr(self, name), "text, or null where it was built without one")
        for name in ("multiprocessors", "memory_bytes"):
            number = getattr(self, name)
            if number is not None and (type(number) is not int or number < 1):
                raise fail(f"built_for.{name}", number, "a positive whole number, or null where there was no GPU")
        check_choice("built_for.hardware_compatibility", self.hardware_compatibility, tuple(HARDWARE_COMPATIBILITY))
        if self.dla_core is not None and (type(self.dla_core) is not int or self.dla_core < 0):
            raise fail("built_for.dla_core", self.dla_core, "the number of a DLA core, or null")


@dataclasses.dataclass(frozen=True)
class EnginePrecision:
    """The precision that was asked for, and the one that was counted.

    `asked`: "fp32", "fp16" or "int8". `layers`: how many layers compute in which type (float16: 31); may be empty for a
    network without weights. `counted_in`: "engine", every layer of the plan, or "network", the layers with weights of
    the typed network that it was built from, where the plan could not be opened.
    """

    asked: str
    layers: dict[str, int]
    counted_in: str = "network"

    def __post_init__(self) -> None:
        check_choice("precision.asked", self.asked, PRECISIONS)
        check_choice("precision.counted_in", self.counted_in, ("network", "engine"))
        if not isinstance(self.layers, dict):
            raise fail("precision.layers", self.layers, 'a count for each type, such as {"float16": 31}')
        for name, count in self.layers.items():
            if type(count) is not int or count < 0:
                raise fail(f"precision.layers.{name}", count, "a number of layers")


@dataclasses.dataclass(frozen=True)
class ShapeRange:
    """The smallest, the usual and the largest shape of an input in one optimisation profile."""

    min: tuple[int, ...]
    opt: tuple[int, ...]
    max: tuple[int, ...]

    def __post_init__(self) -> None:
        for name in ("min", "opt", "max"):
            _check_shape(f"profiles.{name}", getattr(self, name), smallest=0)
        if not len(self.min) == len(self.opt) == len(self.max) or not all(
            low <= usual <= high for low, usual, high in zip(self.min, self.opt, self.max)
        ):
            raise fail("profiles", [self.min, self.opt, self.max], "min <= opt <= max in every dimension")


@dataclasses.dataclass(frozen=True)
class TensorSpec:
    """An input or output: its name, numpy's name of its type ("uint8", "float32"), its shape, -1 where it is open."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        check_text("tensor name", self.name, "a name")
        check_text(f"tensor {self.name}, dtype", self.dtype, 'a type such as "float32"', r"[a-z]+\d*\w*")
        _check_shape(f"tensor {self.name}, shape", self.shape, smallest=-1)


@dataclasses.dataclass(frozen=True)
class Source:
    """The ONNX file that the plan was built from: its path relative to the sidecar's folder, and its sha256."""

    path: str
    sha256: str

    def __post_init__(self) -> None:
        check_text("source.path", self.path, "a path relative to the sidecar")
        if PurePosixPath(self.path).is_absolute():
            raise fail("source.path", self.path, "a path relative to the sidecar, so that both can be moved")
        check_sha256("source.sha256", self.sha256)


@dataclasses.dataclass(frozen=True)
class Build:
    """When the plan was built (`date`, ISO 8601 with the offset from UTC) and how long it took (`seconds`)."""

    date: str
    seconds: float

    def __post_init__(self) -> None:
        check_text("built.date", self.date, "a date such as 2026-11-21T13:30:00+00:00", r"\d{4}-\d\d-\d\dT\S+")
        if type(self.seconds) not in (int, float) or self.seconds < 0:
            raise fail("built.seconds", self.seconds, "a number of seconds")


@dataclasses.dataclass(frozen=True, kw_only=True)
class EngineCard:
    """The contract of one engine.

    `card`: the model's, as in the ONNX file; None for an ONNX file that has none. `profiles`: for each optimisation
    profile the range of each input's shape. `flags`: the names of the builder's and the network's flags that were set
    ("FP16", "STRONGLY_TYPED"), and "NISH_PLUGIN" where the plan computes Nish by taijitu's plugin. `plan_sha256`: 64
    hex digits of the plan. `arguments`: of taijitu engine, without the ONNX and --saveEngine, which follow from
    `source` and the sidecar's own name. ArtefactError for any field outside its range.
    """

    format_version: int = ENGINE_FORMAT_VERSION
    card: ModelCard | None
    library: Library
    built_for: BuiltFor
    precision: EnginePrecision
    profiles: tuple[dict[str, ShapeRange], ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    flags: tuple[str, ...]
    plan_sha256: str
    source: Source
    arguments: tuple[str, ...]
    built: Build

    def __post_init__(self) -> None:
        check_version(self.format_version, ENGINE_FORMAT_VERSION)
        check_sha256("plan_sha256", self.plan_sha256)
        for name in ("flags", "arguments"):
            texts = getattr(self, name)
            if not isinstance(texts, tuple) or not all(isinstance(text, str) and text.isprintable() for text in texts):
                raise fail(name, texts, "a list of texts")
        for argument in self.arguments:
            if argument.split("=")[0] not in RECORDED_FLAGS:
                raise fail(
                    "arguments", argument, f"one of {', '.join(sorted(RECORDED_FLAGS))}, with =VALUE where it has one"
                )
        if not self.inputs or not self.outputs:
            raise fail("inputs, outputs", (len(self.inputs), len(self.outputs)), "at least one of each")
        for profile in self.profiles:
            if set(profile) - {tensor.name for tensor in self.inputs}:
                raise fail("profiles", sorted(profile), "names of inputs")

    @property
    def is_version_compatible(self) -> bool:
        """Whether later releases of the library's major version run the plan too, as it contains its own runtime."""
        return "VERSION_COMPATIBLE" in self.flags

    @classmethod
    def from_dict(cls, card: Mapping[str, Any]) -> EngineCard:
        """Validate an engine card in the form of `to_dict`; ArtefactError where it is wrong."""
        if not isinstance(card, Mapping):
            raise fail("whole", card, "a dict")
        check_version(card.get("format_version"), ENGINE_FORMAT_VERSION)
        fields = read_fields(cls, "", plain("whole", dict(card)))
        built_for = read_fields(BuiltFor, "built_for.", fields["built_for"])
        built_for["compute_capabilities"] = tuple_from_list(built_for["compute_capabilities"])
        parts = {
            "card": None if fields["card"] is None else ModelCard.from_dict(fields["card"]),
            "library": Library(**read_fields(Library, "library.", fields["library"])),
            "built_for": BuiltFor(**built_for),
            "precision": EnginePrecision(**read_fields(EnginePrecision, "precision.", fields["precision"])),
            "profiles": tuple(_profile(profile) for profile in _list("profiles", fields["profiles"])),
            "inputs": tuple(_tensor(tensor) for tensor in _list("inputs", fields["inputs"])),
            "outputs": tuple(_tensor(tensor) for tensor in _list("outputs", fields["outputs"])),
            "flags": tuple_from_list(fields["flags"]),
            "source": Source(**read_fields(Source, "source.", fields["source"])),
            "arguments": tuple_from_list(fields["arguments"]),
            "built": Build(**read_fields(Build, "built.", fields["built"])),
        }
        return cls(**{**fields, **parts})

    def to_dict(self) -> dict[str, Any]:
        """Return the card as plain JSON types; a copy that the caller may change."""
        whole = plain("whole", dataclasses.asdict(self) | {"card": self.card and self.card.to_dict()})
        assert isinstance(whole, dict)
        return whole

    @classmethod
    def read(cls, plan: Path) -> EngineCard:
        """Read and validate the sidecar of a plan.

        ArtefactError, naming it, where it is missing, not JSON, or wrong.
        """
        path = sidecar_of(plan)
        try:
            return cls.from_dict(json.loads(path.read_bytes()))
        except FileNotFoundError:
            got = f"{plan}: got no {path.name} next to it, expected the sidecar that taijitu engine writes"
            raise ArtefactError(f"{got}; copy it too, or build the engine again: {BUILD_AGAIN}") from None
        except OSError as error:
            raise ArtefactError(f"{path}: got a file that cannot be read ({error.strerror}); check it") from None
        except (ValueError, RecursionError) as error:
            raise ArtefactError(
                f"{path}: got a file that is not JSON ({error}), expected an engine's sidecar; copy it again, or "
                f"build the engine again: {BUILD_AGAIN}"
            ) from None
        except ArtefactError as error:
            raise ArtefactError(f"{path}: {error}") from None


def save_engine(path: Path, plan: bytes, card: EngineCard) -> None:
    """Write a plan and its sidecar so that a killed run leaves the old engine, the new one, or a detectable mismatch.

    ArtefactError if the card is not this plan's, WriteError if a file cannot be written.
    """
    digest = hashlib.sha256(plan).hexdigest()
    if card.plan_sha256 != digest:
        raise ArtefactError(f"{path}: got a card of the plan {card.plan_sha256}, expected {digest}")
    sidecar = sidecar_of(path)
    text = json.dumps(card.to_dict(), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    with replacing(sidecar) as new_sidecar, replacing(path) as new_plan:
        new_plan.write_bytes(plan)
        new_sidecar.write_text(text, encoding="utf-8")


def sidecar_of(plan: Path) -> Path:
    """Return the sidecar's path: the plan's with .json appended."""
    return plan.with_name(f"{plan.name}.json")


def platform_here() -> str:
    """Return operating system and processor, to which engines are bound: "linux_x86_64", "linux_aarch64"."""
    return f"{platform.system()}_{platform.machine()}".lower()


def _check_shape(field: str, got: object, smallest: int) -> None:
    if not isinstance(got, tuple) or not all(type(size) is int and size >= smallest for size in got):
        raise fail(field, got, f"a list of integers from {smallest} on")


def _list(field: str, got: object) -> list[Any]:
    if not isinstance(got, list):
        raise fail(field, got, "a list")
    return got


def _profile(got: object) -> dict[str, ShapeRange]:
    if not isinstance(got, dict):
        raise fail("profiles", got, "a dict of inputs")
    return {name: _range(name, shapes) for name, shapes in got.items()}


def _range(name: str, got: object) -> ShapeRange:
    fields = read_fields(ShapeRange, f"profiles.{name}.", got)
    low, usual, high = (tuple_from_list(fields[key]) for key in ("min", "opt", "max"))
    return ShapeRange(low, usual, high)  # type: ignore[arg-type]  # checked there


def _tensor(got: object) -> TensorSpec:
    fields = read_fields(TensorSpec, "tensor.", got)
    return TensorSpec(fields["name"], fields["dtype"], tuple_from_list(fields["shape"]))  # type: ignore[arg-type]  # checked there
