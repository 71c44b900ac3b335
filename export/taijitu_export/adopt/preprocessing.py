"""Collect how a network's pictures are prepared, part by part, and make the contract of these parts."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import Literal

import numpy as np

from taijitu_export.adopt.original import Signature
from taijitu_runtime.card import InputSpec
from taijitu_runtime.errors import ArtefactError, UsageError, name_hint

Interpolation = Literal["bilinear", "bicubic", "bilinear_opencv", "bicubic_opencv", "nearest"]
INTERPOLATIONS = {
    "bilinear": "bilinear_antialias",
    "bicubic": "bicubic_antialias",
    "bilinear_opencv": "bilinear_opencv",
    "bicubic_opencv": "bicubic_opencv",
    "nearest": "nearest",
}
"""Names for users, and those of the card."""

Colour = Literal["rgb", "bgr", "grey"]
COLOURS = {"rgb": "RGB", "bgr": "BGR", "grey": "grey"}
RULES = {"shorter": "shorter_side", "stretch": "stretch", "letterbox": "letterbox"}
FILLS = {"black": (0, 0, 0), "white": (255, 255, 255), "grey": (128, 128, 128)}
RESIZE_FORMS = "shorter:256, stretch, stretch:256, or letterbox:320:white"


@dataclasses.dataclass(frozen=True)
class Resize:
    """A resize rule of the card, its size in pixels (None: that of the network's input), and the border's colour.

    `of`: the shorter side of the input that the size is meant for; None for a size that holds for any input.
    """

    rule: str
    size: int | None = None
    fill: tuple[int, int, int] = (0, 0, 0)
    of: int | None = None

    def size_for(self, height: int, width: int) -> int:
        """Return the card's `resize_size` for a network with an input of this size."""
        if self.size is None:
            return min(height, width) if self.rule == "stretch" else max(height, width)
        if self.of is None or self.rule == "letterbox":
            return self.size
        return round(self.size * min(height, width) / self.of)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """Parts of a contract; None where a part is not known.

    `size`: height and width of the network's input; `usual_size`: the same, where the file leaves it open and the user
    does not ask for another. `interpolation`, `colour`, `scale`, `mean`, `std`: as in the card
    (`InputSpec`); one mean is for all channels. `labels`: in the order of the network's outputs. `source`: where the
    parts come from, in words; empty for the user's flags. `flags`: the parts that flags gave, where others are added.
    """

    size: tuple[int, int] | None = None
    usual_size: tuple[int, int] | None = None
    resize: Resize | None = None
    interpolation: str | None = None
    colour: str | None = None
    scale: float | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    labels: tuple[str, ...] | None = None
    source: str = ""
    flags: frozenset[str] = frozenset()

    @property
    def described_source(self) -> str:
        """Where the parts of the input come from, in words."""
        return " and ".join(filter(None, [self.source, "your flags" if self.flags or not self.source else ""]))

    def over(self, other: Preprocessing) -> Preprocessing:
        """Return these parts, and those of `other` where there are none."""
        known = {name: value for name, value in vars(self).items() if value is not None and value != ""}
        flags = self.flags if self.source else frozenset(known) - {"labels", "flags"}
        return dataclasses.replace(other, **{**known, "flags": flags | other.flags})

    def spec(self, signature: Signature) -> InputSpec:
        """Return the contract for a network. UsageError where a part is missing, or does not fit the network."""
        parts = self._of_bytes() if signature.dtype == np.uint8 else self
        parts = parts.over(_own(signature))
        if (parts.colour == "grey") != (signature.channels == 1):
            raise UsageError(
                f"got --color {str(parts.colour).lower()} for a network of {signature.channels} channels, expected "
                "grey for 1 channel, and rgb or bgr for 3"
            )
        if missing := [f"--{name}" for name in ("resize", "mean", "std") if getattr(parts, name) is None]:
            raise UsageError(
                f"got no {', '.join(missing)}, expected the values of the network's training; give them, or --like "
                "timm/NAME, torchvision/NAME or preprocessor_config.json"
            )
        assert parts.resize is not None  # for mypy: it is not missing
        height, width = parts.final_size(signature)
        count = signature.channels
        try:
            return InputSpec(
                height=height,
                width=width,
                colour=parts.colour or "",
                resize=parts.resize.rule,
                resize_size=parts.resize.size_for(height, width),
                interpolation=parts.interpolation or "",
                scale=parts.scale or 0.0,
                mean=_for_channels(parts.mean, count),
                std=_for_channels(parts.std, count),
                fill=parts.resize.fill,
            )
        except ArtefactError as error:
            reason = re.sub(r"^model card, input\.|; correct it or make the file again$", "", str(error))
            raise UsageError(f"{reason}; correct the flag") from None

    def _of_bytes(self) -> Preprocessing:
        """Return the parts without normalisation, which is in a network that takes bytes. UsageError for flags."""
        given = [name for name, value in (("scale", 1.0), ("mean", 0.0), ("std", 1.0)) if self._differs(name, value)]
        given = [name for name in given if name in self.flags or not self.source]
        if given:
            raise UsageError(
                f"got --{', --'.join(given)} for a network that takes bytes and gets them unchanged; remove the flag"
            )
        return dataclasses.replace(self, scale=None, mean=None, std=None)

    def _differs(self, name: str, neutral: float) -> bool:
        got = getattr(self, name)
        return got is not None and set(np.ravel(got)) != {neutral}

    def final_size(self, signature: Signature) -> tuple[int, int]:
        """Return height and width of the network's input. UsageError where the file has another, or none is given."""
        own = (signature.height, signature.width)
        wanted = self.size or own
        if any(side not in (None, asked) for side, asked in zip(own, wanted)):
            raise UsageError(f"got a size of {wanted} pixels (height, width), expected {own}, as the file says")
        usual = self.usual_size or (None, None)
        height, width = (second if first is None else first for first, second in zip(wanted, usual))
        if height is None or width is None:
            raise UsageError(
                f"got an input of {own} pixels (height, width), which the file leaves open; give --size HxW"
            )
        return height, width


def _own(signature: Signature) -> Preprocessing:
    """Return the defaults; for a network that takes bytes, that it gets them unchanged."""
    usual = Preprocessing(
        interpolation="bilinear_antialias", colour="grey" if signature.channels == 1 else "RGB", scale=1 / 255
    )
    if signature.dtype == np.uint8:
        return Preprocessing(scale=1.0, mean=(0.0,), std=(1.0,)).over(usual)
    return usual


def _for_channels(numbers: Sequence[float] | None, count: int) -> tuple[float, ...]:
    numbers = tuple(numbers or ())
    return numbers * count if len(numbers) == 1 else numbers


def size_of(crop: int | None, size: tuple[int, int] | None) -> tuple[int, int] | None:
    """Return height and width, as one of the two says. UsageError where they differ."""
    if crop is not None and size not in (None, (crop, crop)):
        raise UsageError(f"got --crop {crop} and --size {'x'.join(map(str, size or ()))}, expected the same; give one")
    return size if crop is None else (crop, crop)


def resize_from_text(text: str) -> Resize:
    """Read "shorter:256", "stretch" or "letterbox:320:white". UsageError for anything else."""
    rule, *rest = text.split(":")
    if rule not in RULES or len(rest) > (2 if rule == "letterbox" else 1):
        raise UsageError(f"got --resize {text}, expected {RESIZE_FORMS}")
    size = int(rest[0]) if rest and rest[0].isascii() and rest[0].isdecimal() else None
    if rest and size is None:
        raise UsageError(f"got --resize {text}, expected a number of pixels after the first colon: {RESIZE_FORMS}")
    return Resize(RULES[rule], size, _fill(rest[1]) if len(rest) > 1 else (0, 0, 0))


def _fill(text: str) -> tuple[int, int, int]:
    if text in FILLS:
        return FILLS[text]
    levels = [int(part) for part in text.split(",") if part.isascii() and part.isdecimal()]
    if len(levels) != 3 or text.count(",") != 2 or max(levels) > 255:
        raise UsageError(f"got the colour {text!r}, expected {', '.join(FILLS)}, or R,G,B from 0 to 255")
    return levels[0], levels[1], levels[2]


def card_name(kind: str, got: str | None, known: dict[str, str]) -> str | None:
    """Return the card's name for what a user calls `got`. UsageError for an unknown one."""
    if got is not None and got not in known:
        raise UsageError(f"unknown {kind} {got!r}; {name_hint(got, known)}")
    return None if got is None else known[got]
