"""Answers drawn on a frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taijitu_runtime.answers import Answer
from taijitu_runtime.errors import require

ROWS = 24  # of text in a frame's height
LEAST_ROW_PIXELS = 14
WHITE, BAR, FRAME = (255, 255, 255), (60, 150, 60), (60, 200, 255)  # BGR
NOTHING = "-"


def draw(
    pixels: NDArray[np.uint8], answers: Sequence[Answer], box: tuple[int, int, int, int] | None, status: str
) -> NDArray[np.uint8]:
    """A copy of uint8 BGR (H, W, 3) with a bar and a label for each answer, the region's frame, and a status line."""
    cv2 = require("cv2", "taijitu[camera]")
    picture: NDArray[np.uint8] = pixels.copy()
    height, width = picture.shape[:2]
    row = max(LEAST_ROW_PIXELS, height // ROWS)
    if box:
        cv2.rectangle(picture, box[:2], (box[2] - 1, box[3] - 1), FRAME, max(1, row // 12))
    panel_width = min(width, 14 * row)
    _darken(picture[: row * max(1, len(answers)), :panel_width])
    for index, answer in enumerate(answers):
        top = index * row
        right = max(1, round(answer.probability * panel_width))
        cv2.rectangle(picture, (0, top + 1), (right - 1, top + row - 2), BAR, cv2.FILLED)
        write(cv2, picture, f"{answer.probability:4.0%} {answer.label}", row, top)
    if not answers:
        write(cv2, picture, NOTHING, row, 0)
    _darken(picture[height - row :, :panel_width])
    write(cv2, picture, status, row, height - row)
    return picture


def draw_banner(picture: NDArray[np.uint8], text: str) -> NDArray[np.uint8]:
    """A copy, darkened, with a line in the middle: what is shown while no frames come."""
    cv2 = require("cv2", "taijitu[camera]")
    dark: NDArray[np.uint8] = picture // np.uint8(2)
    row = max(LEAST_ROW_PIXELS, dark.shape[0] // ROWS)
    write(cv2, dark, text, row, (dark.shape[0] - row) // 2)
    return dark


def write(cv2: Any, picture: NDArray[np.uint8], text: str, row: int, top: int) -> None:
    """One line of text of `row` pixels' height, `top` pixels from the top; what the font lacks is a question mark."""
    place = (row // 4, top + round(0.75 * row))
    cv2.putText(picture, text, place, cv2.FONT_HERSHEY_SIMPLEX, row / 36, WHITE, max(1, row // 20), cv2.LINE_AA)


def _darken(part: NDArray[np.uint8]) -> None:
    np.floor_divide(part, 3, out=part)
