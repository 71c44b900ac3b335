"""What is usual: the values that each part of a contract is searched among, and what they are called."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal, TypeAlias

import numpy as np

from taijitu_export.adopt.original import Signature
from taijitu_export.adopt.preprocessing import COLOURS, FILLS, INTERPOLATIONS, RULES, Preprocessing, Resize
from taijitu_runtime.card import InputSpec
from taijitu_runtime.errors import UsageError

Part: TypeAlias = Literal["arithmetic", "resize", "interpolation"]
Values: TypeAlias = dict[str, Any]
"""Fields of an InputSpec that belong together."""

FIELDS: dict[str, tuple[str, ...]] = {
    "color": ("colour",),
    "numbers": ("scale", "mean", "std"),
    "resize": ("resize", "resize_size", "fill"),
    "interpolation": ("interpolation",),
}
"""What a candidate is told apart by, and the fields that it stands in."""

PARTS: dict[Part, tuple[str, ...]] = {
    "arithmetic": (*FIELDS["color"], *FIELDS["numbers"]),
    "resize": FIELDS["resize"],
    "interpolation": FIELDS["interpolation"],
}
"""What is searched at a time: which numbers fit depends on the order of the channels."""

SMALL_SIDE = 64
"""Up to here a network sees thumbnails: its numbers may be CIFAR's, and one pixel more or less is a step of its own."""


@dataclasses.dataclass(frozen=True)
class Numbers:
    """A family of scale, mean and std. Means and stds are in the order R, G, B."""

    name: str
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fits: Callable[[int], bool] = lambda _: True


UNIT = 1 / 255
COLOUR_NUMBERS = (
    Numbers("ImageNet's mean and std", UNIT, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    Numbers("-1 to 1", UNIT, (0.5,) * 3, (0.5,) * 3),
    Numbers("0 to 1", UNIT, (0.0,) * 3, (1.0,) * 3),
    Numbers("0 to 255", 1.0, (0.0,) * 3, (1.0,) * 3),
    Numbers("0 to 255 less Caffe's mean", 1.0, (123.68, 116.779, 103.939), (1.0,) * 3),
    Numbers(
        "CIFAR-10's mean and std",
        UNIT,
        (0.4914, 0.4822, 0.4465),
        (0.2470, 0.2435, 0.2616),
        lambda side: side <= SMALL_SIDE,
    ),
    Numbers(
        "CIFAR-10's mean and its pictures' mean std",
        UNIT,
        (0.4914, 0.4822, 0.4465),
        (0.2023, 0.1994, 0.2010),
        lambda side: side <= SMALL_SIDE,
    ),
    Numbers(
        "CLIP's mean and std",
        UNIT,
        (0.48145466, 0.4578275, 0.40821073),
        (0.26862954, 0.26130258, 0.27577711),
        lambda side: side > SMALL_SIDE,
    ),
)
GREY_NUMBERS = (
    Numbers("0 to 1", UNIT, (0.0,), (1.0,)),
    Numbers("-1 to 1", UNIT, (0.5,), (0.5,)),
    Numbers("0 to 255", 1.0, (0.0,), (1.0,)),
    Numbers("MNIST's mean and std", UNIT, (0.1307,), (0.3081,)),
    Numbers("ImageNet's mean and std", UNIT, (0.449,), (0.226,)),
)

SHARES = (0.875, 1.0, 0.9, 0.95, 224 / 232)
"""Sides of the crop as shares of the resized picture; the commonest first, with which the search starts."""
SMALL_SHARES, SMALL_STEPS = (0.875, 1.0, 0.8), (4, 8)
"""The same of thumbnails, and the pixels that these are larger before the crop."""
BORDERS = (*FILLS.values(), (114, 114, 114))
"""Colours of the letterbox; the last one is YOLO's."""


def arithmetic_values(known: Preprocessing, signature: Signature, size: tuple[int, int]) -> list[Values]:
    """Return colour, scale, mean and std: each family in RGB, in BGR, and in BGR with numbers in the order R, G, B."""
    colours = ["grey"] if signature.channels == 1 else ["RGB", "BGR"]
    if known.colour is not None:
        colours = [known.colour]
    found: list[Values] = []
    for numbers, colour in itertools.product(_families(known, signature, min(size)), colours):
        for turned in (True, False) if colour == "BGR" else (False,):
            step = -1 if turned else 1
            parts = Preprocessing(
                size=size, colour=colour, scale=numbers.scale, mean=numbers.mean[::step], std=numbers.std[::step]
            )
            found += _valid(known, parts, signature, PARTS["arithmetic"])
    return distinct(found)


def resize_values(known: Preprocessing, signature: Signature, size: tuple[int, int]) -> list[Values]:
    """Return the resize rules with their usual sizes and borders."""
    rules = [known.resize] if known.resize is not None else list(_usual_resizes(size))
    found = (_valid(known, Preprocessing(size=size, resize=rule), signature, PARTS["resize"]) for rule in rules)
    return distinct(itertools.chain.from_iterable(found))


def interpolation_values(known: Preprocessing) -> list[Values]:
    """Return the filters; "nearest", which hardly anybody trains with, only where it is known."""
    usual = [name for name in INTERPOLATIONS.values() if name != "nearest"]
    names = usual if known.interpolation is None else [known.interpolation]
    return [{"interpolation": name} for name in names]


def unusual_resizes(spec: InputSpec, usual: Iterable[Values]) -> list[Values]:
    """Return sizes near that of `spec` which are not usual, with the same rule."""
    if spec.resize == "letterbox":
        return []
    step = max(1, min(spec.height, spec.width) // 56)
    least = max(spec.height, spec.width) if spec.resize == "shorter_side" else min(spec.height, spec.width)
    sizes = (spec.resize_size + k * step for k in (-2, -1, 1, 2))
    near = [{**values_of(spec, "resize"), "resize_size": size} for size in sizes if size >= least]
    there = list(usual)
    return [values for values in near if values not in there]


def values_of(spec: InputSpec, part: Part) -> Values:
    """Return the fields of `spec` that belong to a part."""
    return {name: getattr(spec, name) for name in PARTS[part]}


def differences(spec: InputSpec, other: InputSpec) -> tuple[str, ...]:
    """Return the names in FIELDS of what differs; numbers are compared in the order R, G, B."""
    return tuple(name for name in FIELDS if _told(spec, name) != _told(other, name))


def flags(spec: InputSpec, names: Iterable[str]) -> str:
    """Return the command line's flags that say these parts of a contract, by their names in FIELDS."""
    return " ".join(_FLAGS[name](spec) for name in FIELDS if name in set(names))


def words(spec: InputSpec, name: str) -> str:
    """Describe one part of a contract, by its name in FIELDS, for people."""
    if name == "numbers":
        for numbers in (*COLOUR_NUMBERS, *GREY_NUMBERS):
            values = numbers.scale, numbers.mean, numbers.std
            if _told(spec, "numbers") == values:
                return numbers.name
            if spec.colour == "BGR" and (spec.scale, spec.mean, spec.std) == values:
                return f"{numbers.name} in the order R, G, B"
    return spec.colour if name == "color" else _FLAGS[name](spec).replace("--", "").replace("resize ", "")


def _told(spec: InputSpec, name: str) -> tuple[Any, ...]:
    if name != "numbers":
        return tuple(getattr(spec, field) for field in FIELDS[name])
    step = -1 if spec.colour == "BGR" else 1
    return spec.scale, spec.mean[::step], spec.std[::step]


def _families(known: Preprocessing, signature: Signature, side: int) -> list[Numbers]:
    if signature.dtype == np.uint8:
        return [Numbers("bytes as they are", 1.0, (0.0,) * signature.channels, (1.0,) * signature.channels)]
    usual = [each for each in (GREY_NUMBERS if signature.channels == 1 else COLOUR_NUMBERS) if each.fits(side)]
    if known.scale is None:
        return usual
    # Somebody who names a scale means the pixels of that range: the families of the other are in its units then.
    fitting = [each for each in usual if each.scale == known.scale]
    factor = known.scale / UNIT
    scaled = [
        dataclasses.replace(
            each,
            scale=known.scale,
            mean=tuple(value * factor for value in each.mean),
            std=tuple(value * factor for value in each.std),
        )
        for each in usual
        if each.scale == UNIT and known.scale != UNIT
    ]
    return [*fitting, *scaled] or usual


def _usual_resizes(size: tuple[int, int]) -> Iterator[Resize]:
    short, long = min(size), max(size)
    is_small = long <= SMALL_SIDE
    sides = [math.floor(long / share + 1e-6) for share in (SMALL_SHARES if is_small else SHARES)]
    if is_small:
        sides += [math.ceil(long / share - 1e-6) for share in SMALL_SHARES] + [long + step for step in SMALL_STEPS]
    for side in dict.fromkeys(sides):
        yield Resize("shorter_side", side)
    yield Resize("stretch", short)
    yield Resize("stretch", math.floor(short / SHARES[0]))
    for border in BORDERS:
        yield Resize("letterbox", long, border)


def _valid(known: Preprocessing, parts: Preprocessing, signature: Signature, fields: Iterable[str]) -> list[Values]:
    """Return the values of `fields` in the contract of parts that hold together; an empty list where they do not."""
    neutral = Preprocessing(resize=Resize("letterbox"), mean=(0.0,), std=(1.0,))
    try:
        spec = known.over(parts).over(neutral).spec(signature)
    except UsageError:
        return []
    return [{name: getattr(spec, name) for name in fields}]


def distinct(found: Iterable[Values]) -> list[Values]:
    """Return each of the values once, in their order."""
    kept: list[Values] = []
    for values in found:
        if values not in kept:
            kept.append(values)
    return kept


def _fill(spec: InputSpec) -> str:
    names: Mapping[Any, str] = {colour: name for name, colour in FILLS.items()}
    return names.get(spec.fill, ",".join(map(str, spec.fill)))


def _resize_flag(spec: InputSpec) -> str:
    rule = _name_in(RULES, spec.resize)
    if spec.resize == "letterbox":
        return f"--resize {rule}:{spec.resize_size}:{_fill(spec)}"
    is_plain = spec.resize == "stretch" and spec.resize_size == min(spec.height, spec.width)
    return f"--resize {rule}" if is_plain else f"--resize {rule}:{spec.resize_size}"


def _numbers_flag(spec: InputSpec) -> str:
    mean, std = (" ".join(map(_exact, _short(part))) for part in (spec.mean, spec.std))
    scale = "" if spec.scale == UNIT else f"--scale {_exact(spec.scale)} "
    return f"{scale}--mean {mean} --std {std}"


def _exact(number: float) -> str:
    """Return the shortest text that is read as the same number."""
    return np.format_float_positional(number, trim="-")


def _short(numbers: tuple[float, ...]) -> tuple[float, ...]:
    return numbers[:1] if len(set(numbers)) == 1 else numbers


def _name_in(names: Mapping[str, str], value: str) -> str:
    return next(name for name, each in names.items() if each == value)


_FLAGS: dict[str, Callable[[InputSpec], str]] = {
    "color": lambda spec: f"--color {_name_in(COLOURS, spec.colour)}",
    "numbers": _numbers_flag,
    "resize": _resize_flag,
    "interpolation": lambda spec: f"--interpolation {_name_in(INTERPOLATIONS, spec.interpolation)}",
}
