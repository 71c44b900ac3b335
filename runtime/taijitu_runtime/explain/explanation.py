"""What a model says of a picture, and where it looks."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from taijitu_runtime.errors import check_number
from taijitu_runtime.explain.heat_map import MOST_SIDE, draw_heat_map
from taijitu_runtime.pictures.limits import LIMITS, Limits
from taijitu_runtime.pictures.preprocess import decode_picture
from taijitu_runtime.pictures.resizing.geometry import SeenRegion
from taijitu_runtime.pictures.resizing.resize import check_picture

if TYPE_CHECKING:
    from taijitu_runtime.answers import Prediction
    from taijitu_runtime.pictures.preprocess import Picture


@dataclasses.dataclass(frozen=True)
class Explanation:
    """A prediction, with a class-activation map for each of its answers.

    `maps`: float32 (answers, h, w): what each place adds to the logit, which is the mean of a map, up to rounding.
    `region`: what part of the upright picture the maps cover, as left, top, right and bottom in shares of its width and
    height; below 0 and above 1 where the network sees a border around it.
    """

    prediction: Prediction
    maps: NDArray[np.float32] = dataclasses.field(repr=False, compare=False)
    region: SeenRegion

    def draw(self, picture: Picture, answer: int = 0, *, limits: Limits = LIMITS) -> NDArray[np.uint8]:
        """Draw the map of one of the answers on the picture that was explained.

        Args:
            picture: The same as for `Classifier.explain`.
            answer: Which of the answers, 0 for the likeliest.
            limits: As for `Classifier.explain`.

        Returns:
            uint8 RGB (H, W, 3): the picture in grey, coloured where it speaks for the label more than on average,
            darkened where the network does not look. The longer side has 256 to 1024 pixels.

        Raises:
            PictureError: The picture cannot be decoded.
            InputError: It is not a picture, such as an array of another dtype or shape.
            UsageError: There is no such answer.
        """
        last = len(self.maps) - 1
        check_number("answer", answer, 0, last, f"0 to {last}, one of those explained", whole=True)
        if isinstance(picture, np.ndarray):
            check_picture(picture)
        pixels = picture if isinstance(picture, np.ndarray) else decode_picture(picture, limits, MOST_SIDE)
        return draw_heat_map(pixels, self.maps[answer], self.region)
