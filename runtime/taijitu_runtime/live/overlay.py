"""Draw answers on a frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taijitu_runtime.answers import Answer
from taijitu_runtime.errors import require

ROWS = 24  # of text in a frame's height
LEAST_ROW_PIXELS = 14
READABLE_HEIGHT, LARGEST_SIDE = 480, 1920  # frames below the first are enlarged, up to the second
TEXT_SHARE = 0.5  # of a frame's height
PANEL_ROWS = 14  # in its width
WHITE, BAR, FRAME = (255, 255, 255), (60, 150, 60), (60, 200, 255)  # BGR
NOTHING = "-"


def draw(
    pixels: NDArray[np.uint8], answers: Sequence[Answer], box: tuple[int, int, int, int] | None, status: str
) -> NDArray[np.uint8]:
    """Return a copy of uint8 BGR (H, W, 3) with a bar and a label per answer, the border of the region, and a status.

    A small frame is enlarged by a whole number, so that the text leaves most of it free. If there is not enough room
    for all answers, the first ones are shown; a frame that is too flat gets no text.
    """
    cv2 = require("cv2", "taijitu[camera]")
    scale = scale_of(*pixels.shape[:2])
    height, width = scale * pixels.shape[0], scale * pixels.shape[1]
    picture: NDArray[np.uint8] = pixels.copy()
    if scale > 1:
        picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_NEAREST)
    row = max(LEAST_ROW_PIXELS, height // ROWS)
    if box:
        left, top, right, bottom = (scale * side for side in box)
        cv2.rectangle(picture, (left, top), (right - 1, bottom - 1), FRAME, max(1, row // 12))
    panel_width = min(width, PANEL_ROWS * row)
    rows = int(TEXT_SHARE * height / row)
    if rows:
        _draw_answers(cv2, picture[:, :panel_width], answers[: max(1, rows - 1)], row)
    if rows > 1:
        _darken(picture[height - row :, :panel_width])
        write(cv2, picture, status, row, height - row)
    return picture


def scale_of(height: int, width: int) -> int:
    """Return the factor by which a frame is enlarged to make its text readable."""
    return max(1, min(-(-READABLE_HEIGHT // height), LARGEST_SIDE // max(height, width)))


def _draw_answers(cv2: Any, panel: NDArray[np.uint8], answers: Sequence[Answer], row: int) -> None:
    _darken(panel[: row * max(1, len(answers))])
    for index, answer in enumerate(answers):
        top = index * row
        right = max(1, round(answer.probability * panel.shape[1]))
        cv2.rectangle(panel, (0, top + 1), (right - 1, top + row - 2), BAR, cv2.FILLED)
        write(cv2, panel, f"{answer.probability:4.0%} {answer.label}", row, top)
    if not answers:
        write(cv2, panel, NOTHING, row, 0)


def draw_banner(picture: NDArray[np.uint8], text: str) -> NDArray[np.uint8]:
    """Return a darkened copy of uint8 BGR (H, W, 3) with a line of text in the middle, for while no frames come."""
    cv2 = require("cv2", "taijitu[camera]")
    dark: NDArray[np.uint8] = picture // np.uint8(2)
    row = max(LEAST_ROW_PIXELS, dark.shape[0] // ROWS)
    write(cv2, dark, text, row, (dark.shape[0] - row) // 2)
    return dark


def write(cv2: Any, picture: NDArray[np.uint8], text: str, row: int, top: int) -> None:
    """Write a line of text, `row` pixels high, `top` pixels from the top; missing glyphs become question marks."""
    place = (row // 4, top + round(0.75 * row))
    cv2.putText(picture, text, place, cv2.FONT_HERSHEY_SIMPLEX, row / 36, WHITE, max(1, row // 20), cv2.LINE_AA)


def _darken(part: NDArray[np.uint8]) -> None:
    np.floor_divide(part, 3, out=part)
