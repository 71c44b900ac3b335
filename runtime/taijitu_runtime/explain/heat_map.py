"""A heat map: a picture in grey, with the places in colour that speak for a label."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from taijitu_runtime.errors import require
from taijitu_runtime.pictures.decoding.pillow import INSTALL
from taijitu_runtime.pictures.resizing.geometry import SeenRegion

LEAST_SIDE, MOST_SIDE = 256, 1024
"""Pixels of the longer side: smaller pictures are enlarged, larger ones reduced."""

RAMP = ((90, 0, 60), (220, 40, 30), (255, 150, 0), (255, 240, 120))
"""R, G, B from the weakest to the strongest place."""

MOST_OPAQUE = 0.8
DARKENED = 0.45  # what the network does not see


def draw_heat_map(picture: NDArray[np.uint8], class_map: NDArray[np.float32], region: SeenRegion) -> NDArray[np.uint8]:
    """Draw a class-activation map on a picture.

    A place is coloured as far as it is above the map's mean, which is the logit: it then speaks for the label more than
    the picture as a whole does. What the network does not see is darkened.

    Args:
        picture: uint8 RGB (H, W, 3), [0, 255].
        class_map: float32 (h, w).
        region: The part of the picture that the map covers.

    Returns:
        uint8 RGB; the longer side has 256 to 1024 pixels.
    """
    require("PIL", INSTALL)
    from PIL import Image

    image = Image.fromarray(picture)
    longer = max(image.size)
    scale = min(max(longer, LEAST_SIDE), MOST_SIDE) / longer
    size = max(1, round(scale * image.width)), max(1, round(scale * image.height))
    enlarged = image.resize(size, Image.Resampling.BICUBIC if scale < 1 else Image.Resampling.NEAREST)
    grey = np.asarray(enlarged.convert("L"), np.float32)[..., None]
    strength, is_seen = _strength(class_map, region, size)
    levels = np.linspace(0, 1, len(RAMP))
    colour = np.stack([np.interp(strength, levels, channel) for channel in zip(*RAMP)], axis=-1)
    opaque = MOST_OPAQUE * np.sqrt(strength)[..., None]
    drawn = ((1 - opaque) * grey + opaque * colour) * np.where(is_seen, 1.0, DARKENED)[..., None]
    return np.asarray(np.rint(drawn), np.uint8)


def _strength(
    class_map: NDArray[np.float32], region: SeenRegion, size: tuple[int, int]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return how strong the map is at each pixel, float32 (H, W), [0, 1], and whether the network sees it."""
    from PIL import Image

    above = np.maximum(0, class_map - class_map.mean())
    above /= above.max() or 1
    left, right = (round(share * size[0]) for share in region[::2])
    top, bottom = (round(share * size[1]) for share in region[1::2])
    box = (max(1, right - left), max(1, bottom - top))
    smooth = np.asarray(Image.fromarray(above.astype(np.float32)).resize(box, Image.Resampling.BILINEAR))
    strength = np.zeros(size[::-1], np.float32)
    is_seen = np.zeros(size[::-1], np.bool_)
    rows, columns = slice(max(0, top), min(size[1], bottom)), slice(max(0, left), min(size[0], right))
    strength[rows, columns] = smooth[max(0, -top) :, max(0, -left) :][
        : rows.stop - rows.start, : columns.stop - columns.start
    ]
    is_seen[rows, columns] = True
    return strength, is_seen
