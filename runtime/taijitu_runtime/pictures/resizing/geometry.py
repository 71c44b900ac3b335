"""Sizes and places: of a resized picture, of its crop or border, and of what the network sees in the picture."""

from __future__ import annotations

from typing import TypeAlias

from taijitu_runtime.card import InputSpec

SeenRegion: TypeAlias = tuple[float, float, float, float]
"""Left, top, right and bottom of what the network sees, as shares of the picture's width and height.

Below 0 and above 1 where the network sees a border around it.
"""


def region(width: int, height: int, spec: InputSpec) -> SeenRegion:
    """Return which part of a picture of that size the network sees."""
    size = resized_size(width, height, spec)
    if spec.resize == "letterbox":
        left, top = -((spec.width - size[0]) // 2), -((spec.height - size[1]) // 2)
        box = (left, top, left + spec.width, top + spec.height)
    else:
        box = crop_box(size, spec)
    return box[0] / size[0], box[1] / size[1], box[2] / size[0], box[3] / size[1]


def resized_size(width: int, height: int, spec: InputSpec) -> tuple[int, int]:
    """Return width and height before the crop, or before the border is added, of a picture of that size."""
    if spec.resize == "stretch":
        return unresized_size(spec)
    if spec.resize == "letterbox":
        if width * spec.height >= height * spec.width:
            return spec.width, max(1, round(height * spec.width / width))
        return max(1, round(width * spec.height / height)), spec.height
    new_long = int(spec.resize_size * max(width, height) / min(width, height))
    return (spec.resize_size, new_long) if width <= height else (new_long, spec.resize_size)


def unresized_size(spec: InputSpec) -> tuple[int, int]:
    """Return width and height of a picture that is as large as `spec` resizes to."""
    if spec.resize == "shorter_side":
        return spec.resize_size, spec.resize_size
    if spec.resize == "letterbox":
        return spec.width, spec.height
    short = min(spec.height, spec.width)
    return round(spec.width * spec.resize_size / short), round(spec.height * spec.resize_size / short)


def crop_box(size: tuple[int, int], spec: InputSpec) -> tuple[int, int, int, int]:
    """Return left, top, right and bottom of the crop in a picture of the resized `size` (width, height)."""
    left = round((size[0] - spec.width) / 2.0)
    top = round((size[1] - spec.height) / 2.0)
    return left, top, left + spec.width, top + spec.height
