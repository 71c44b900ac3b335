"""The model card: the contract that every artefact carries, from the checkpoint to the edge.

A checkpoint keeps `ModelCard.to_dict()`, an ONNX file `to_metadata()` in its metadata_props. `ModelCard.from_dict` is
the one validator: what it accepts is a card, regardless of its author.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from taijitu_runtime.decision.decision import Decision
from taijitu_runtime.errors import ArtefactError
from taijitu_runtime.fields import (
    OPTIONAL,
    SHA256,
    check_choice,
    check_mapping,
    check_text,
    check_version,
    fail,
    json_from_text,
    plain,
    read_fields,
    tuple_from_list,
    written_fields,
)
from taijitu_runtime.labels import check_labels
from taijitu_runtime.passport import Passport

FORMAT_VERSION = 1
METADATA_PREFIX = "taijitu."
MAX_SIDE = 16384
PRECISIONS = ("fp32", "fp16", "int8")
CHANNELS = {"RGB": 3, "BGR": 3, "grey": 1}
INTERPOLATIONS = ("bilinear_antialias", "bicubic_antialias", "bilinear_opencv", "bicubic_opencv", "nearest")
OUTPUTS = ("logits", "probabilities")
FLOAT_VALUES = ("normalised", "pixels")
ARITHMETIC = ("colour", "scale", "mean", "std")
"""The fields of InputSpec that say what is computed from a prepared picture, inside a model that takes its pixels."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class InputSpec:
    """The network's input: how a picture becomes a uint8 RGB array (height, width, 3), and the arithmetic on that.

    The first part happens where pictures are read, in `pictures.preprocess.preprocess`:

    `height`, `width`: pixels of the result.
    `resize`: "shorter_side" scales the shorter side to `resize_size` pixels, keeps the aspect ratio and crops the
    centre; "stretch" scales both sides, to the result or, where `resize_size` is larger, to that size of the same
    shape, and crops the centre; "letterbox" scales the picture to fit into the result, keeps the aspect ratio, centres
    it and fills the rest with `fill`.
    `resize_size`: pixels of the shorter side before the crop, at least the crop; for "letterbox" the longer of `height`
    and `width`.
    `interpolation`: "bilinear_antialias" or "bicubic_antialias", Pillow's filters of that name; "bilinear_opencv" or
    "bicubic_opencv", OpenCV's, which do not antialias; "nearest", Pillow's.
    `fill`: R, G, B in [0, 255], of the border that "letterbox" leaves.

    The second part is arithmetic, inside the graph of a model that takes uint8, and in `pictures.preprocess.normalise`
    for one that takes float32:

    `colour`: the channels that the network gets: "RGB", "BGR", or "grey", a single channel, the luminance of Pillow's
    "L".
    `scale`, `mean`, `std`: the network gets (pixel * scale - mean) / std; one mean and one std for each channel, in the
    order of `colour`.
    `float_values`: what a model that takes float32 gets: "normalised" numbers, or "pixels", RGB in [0, 255], and the
    arithmetic is inside the graph as for uint8.
    ArtefactError for any field outside its range.
    """

    height: int
    width: int
    colour: str = "RGB"
    resize: str
    resize_size: int
    crop: str = "centre"
    interpolation: str = "bilinear_antialias"
    mean: tuple[float, ...]
    std: tuple[float, ...]
    scale: float = dataclasses.field(default=1 / 255, metadata=OPTIONAL)
    fill: tuple[int, int, int] = dataclasses.field(default=(0, 0, 0), metadata=OPTIONAL)
    float_values: str = dataclasses.field(default="normalised", metadata=OPTIONAL)

    def __post_init__(self) -> None:
        for name in ("height", "width", "resize_size"):
            _check_side(f"input.{name}", getattr(self, name))
        check_choice("input.colour", self.colour, tuple(CHANNELS))
        check_choice("input.resize", self.resize, ("shorter_side", "stretch", "letterbox"))
        check_choice("input.crop", self.crop, ("centre",))
        check_choice("input.interpolation", self.interpolation, INTERPOLATIONS)
        check_choice("input.float_values", self.float_values, FLOAT_VALUES)
        self._check_resize_size()
        if type(self.scale) not in (int, float) or not 0 < self.scale <= 1:
            raise fail("input.scale", self.scale, "a number in (0, 1] that pixels are multiplied by")
        largest = 255 * self.scale
        count = CHANNELS[self.colour]
        _check_numbers("input.mean", self.mean, count, lambda value: 0 <= value <= largest, f"in [0, {largest:g}]")
        most = max(1.0, largest)
        _check_numbers("input.std", self.std, count, lambda value: 0 < value <= most, f"in (0, {most:g}]")
        levels = self.fill if isinstance(self.fill, tuple) else ()
        if len(levels) != 3 or not all(type(level) is int and 0 <= level <= 255 for level in levels):
            raise fail("input.fill", self.fill, "3 integers from 0 to 255")

    @property
    def channels(self) -> int:
        """The number of channels that the network gets: 3, or 1 for grey."""
        return CHANNELS[self.colour]

    def _check_resize_size(self) -> None:
        got, sides = self.resize_size, (self.height, self.width)
        if self.resize == "shorter_side" and got < max(sides):
            raise fail("input.resize_size", got, f"at least the crop, {max(sides)}")
        if self.resize == "stretch" and got < min(sides):
            raise fail("input.resize_size", got, f"at least the shorter side of the result, {min(sides)}")
        if self.resize == "letterbox" and got != max(sides):
            raise fail("input.resize_size", got, f"the longer side of the result, {max(sides)}")


@dataclasses.dataclass(frozen=True)
class Architecture:
    """Name and options that `create_model` of the training package builds the network from; options are plain JSON."""

    name: str
    options: dict[str, Any]

    def __post_init__(self) -> None:
        check_text("architecture.name", self.name, "a model's name, without control characters")
        check_mapping("architecture.options", self.options)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Precision:
    """The number format inside an artefact; ArtefactError for any field outside its range.

    `name`: "fp32", "fp16" or "int8". `excluded_layers`: layers that are not in it for any reason, by the names of
    their weights: in float32, or in float16 in an int8 file for engines. `calibration`: the source of the int8 scales
    (pictures, method, data), the data that the conversion was judged on, what it costs and may cost, plain JSON; empty
    for float32.
    """

    name: str = "fp32"
    excluded_layers: tuple[str, ...] = ()
    calibration: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        check_choice("precision.name", self.name, PRECISIONS)
        if not isinstance(self.excluded_layers, tuple):
            raise fail("precision.excluded_layers", self.excluded_layers, "names of layers")
        for index, layer in enumerate(self.excluded_layers):
            check_text(f"precision.excluded_layers[{index}]", layer, "the name of a layer, without control characters")
        check_mapping("precision.calibration", self.calibration)

    @property
    def is_float16_between(self) -> bool:
        """Whether an int8 file computes in float16 between its layers."""
        return bool(self.calibration.get("between") == "float16")

    @property
    def allowed_logit_error(self) -> float | None:
        """The error that the conversion may have, a share of the logit range; None where it is not recorded."""
        recorded = self.calibration.get("allowed_logit_error")
        return float(recorded) if isinstance(recorded, (int, float)) else None


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelCard:
    """The contract of one model.

    `labels`: the K classes in the order of the logits, each once; one alone only where the output is a probability.
    `training`: data, recipe, metrics, date: free-form plain JSON. `producer`: versions by package name.
    `source_sha256`: 64 hex digits of the file that this one was made from, or empty for a checkpoint that was trained
    from nothing. `precision`: float32 for a checkpoint. `output`: what the output `logits` holds: "logits", from which
    softmax makes probabilities, or "probabilities". `proof`: the artefact's evidence; None for a checkpoint.
    `decision`: its temperature, and which of its answers are known; None where it was not calibrated.

    ArtefactError for any field outside its range.
    """

    format_version: int = FORMAT_VERSION
    architecture: Architecture
    labels: tuple[str, ...]
    input: InputSpec
    training: dict[str, Any]
    producer: dict[str, str]
    source_sha256: str
    precision: Precision = dataclasses.field(default_factory=Precision)
    output: str = dataclasses.field(default="logits", metadata=OPTIONAL)
    proof: Passport | None = dataclasses.field(default=None, metadata=OPTIONAL)
    decision: Decision | None = dataclasses.field(default=None, metadata=OPTIONAL)

    def __post_init__(self) -> None:
        check_version(self.format_version, FORMAT_VERSION)
        for name, kind in (("architecture", Architecture), ("input", InputSpec), ("precision", Precision)):
            if not isinstance(getattr(self, name), kind):
                raise fail(name, getattr(self, name), f"an instance of {kind.__name__}")
        check_labels(self.labels)
        check_choice("output", self.output, OUTPUTS)
        if self.output == "logits" and len(self.labels) == 1:
            raise fail("labels", self.labels, "two labels or more: with one, softmax makes 100 % of every logit")
        check_mapping("training", self.training)
        check_mapping("producer", self.producer)
        for package, version in self.producer.items():
            check_text(f"producer.{package}", version, "a version as text", r".*")
        check_text("source_sha256", self.source_sha256, "64 lower-case hex digits, or an empty text", f"({SHA256})?")
        if self.decision is not None and self.decision.other not in (None, *self.labels):
            raise fail("decision.other", self.decision.other, "one of the labels")

    @classmethod
    def from_dict(cls, card: Mapping[str, Any]) -> ModelCard:
        """Validate a card in the form of `to_dict` (tuples pass for lists); ArtefactError where it is wrong.

        `precision`, `proof` and `decision` may be missing: checkpoints do not have them, nor do older artefacts, whose
        `precision.excluded_layers` was called `kept`.
        """
        if not isinstance(card, Mapping):
            raise fail("whole", card, "a dict")
        check_version(card.get("format_version"), FORMAT_VERSION)
        whole = plain("whole", {"precision": dataclasses.asdict(Precision()), **card})
        fields = read_fields(cls, "", whole)
        architecture = read_fields(Architecture, "architecture.", fields["architecture"])
        spec = read_fields(InputSpec, "input.", fields["input"])
        for name in {"mean", "std", "fill"} & spec.keys():
            spec[name] = tuple_from_list(spec[name])
        precision = read_fields(Precision, "precision.", _with_today_names(fields["precision"]))
        precision["excluded_layers"] = tuple_from_list(precision["excluded_layers"])
        fields["labels"] = tuple_from_list(fields["labels"])
        parts = {
            "architecture": Architecture(**architecture),
            "input": InputSpec(**spec),
            "precision": Precision(**precision),
            "proof": None if fields.get("proof") is None else Passport.from_plain(fields["proof"]),
            "decision": None if fields.get("decision") is None else Decision.from_plain(fields["decision"]),
        }
        return cls(**{**fields, **parts})

    def to_dict(self) -> dict[str, Any]:
        """Return the card as plain JSON types (dict, list, str, int, float, bool, None); a copy, the caller's own.

        OPTIONAL fields that have their default are left out.
        """
        card = plain("whole", written_fields(self))
        assert isinstance(card, dict)
        return card

    @classmethod
    def read_onnx_metadata(cls, metadata: Mapping[str, str], path: Path | None = None) -> ModelCard:
        """Read the card from a model's metadata: keys "taijitu.<field>", each a JSON value; other keys are ignored.

        ArtefactError, naming the file `path`, where a field is missing, is not JSON, or is wrong.
        """
        keys = {field.name: METADATA_PREFIX + field.name for field in dataclasses.fields(cls)}
        try:
            return cls.from_dict(
                {name: json_from_text(key, metadata[key]) for name, key in keys.items() if key in metadata}
            )
        except ArtefactError as error:
            raise ArtefactError(f"{path}: {error}" if path else str(error)) from None

    def to_metadata(self) -> dict[str, str]:
        """Return the card as metadata for an ONNX file: {"taijitu.<field>": JSON text}."""
        return {
            METADATA_PREFIX + name: json.dumps(value, ensure_ascii=False, allow_nan=False)
            for name, value in self.to_dict().items()
        }


def has_card(metadata: Mapping[str, str]) -> bool:
    """Return whether an ONNX file's metadata has a card, or parts of one."""
    return any(key.startswith(METADATA_PREFIX) for key in metadata)


def _check_side(field: str, got: object) -> None:
    if type(got) is not int or not 1 <= got <= MAX_SIDE:
        raise fail(field, got, f"an integer from 1 to {MAX_SIDE}, in pixels")


def _check_numbers(field: str, got: object, count: int, in_range: Callable[[float], bool], expected: str) -> None:
    numbers = got if isinstance(got, tuple) else ()
    if len(numbers) != count or not all(type(value) in (int, float) and in_range(value) for value in numbers):
        raise fail(field, got, f"{count} numbers {expected}, for pixels multiplied by input.scale")


def _with_today_names(precision: object) -> object:
    if not isinstance(precision, dict) or "excluded_layers" in precision:
        return precision
    return {"excluded_layers" if name == "kept" else name: value for name, value in precision.items()}
