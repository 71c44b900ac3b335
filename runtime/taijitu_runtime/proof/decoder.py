"""Test the installed JPEG decoder with a tiny JPEG whose pixels are known."""

from __future__ import annotations

import base64

import numpy as np
from numpy.typing import NDArray

from taijitu_runtime.pictures.preprocess import decode_picture

ALLOWED_LEVELS = 2
"""JPEG decoders differ by one from rounding, in the transform and in the colours."""

COLOURS = (
    ((220, 30, 40), (40, 200, 60), (30, 50, 210), (240, 220, 40)),
    ((250, 250, 250), (5, 5, 5), (90, 100, 110), (240, 130, 20)),
)
"""Colours of the blocks of 8 x 8 pixels, in 2 rows of 4."""

# Baseline, 4:4:4, all quantisers 1: every block is one coefficient, its colour.
JPEG = base64.b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB"
    "AQEBAQEBAQH/2wBDAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQH/wAAR"
    "CAAQACADAREAAhEBAxEB/8QAFgABAQEAAAAAAAAAAAAAAAAACQoL/8QAFBABAAAAAAAAAAAAAAAAAAAAAP/EABkBAAIDAQAAAAAAAAAAAAAAAAgK"
    "AAYJC//EABQRAQAAAAAAAAAAAAAAAAAAAAD/2gAMAwEAAhEDEQA/AC/BObwMAH9y5015/Brg0eHJ/bAFoN0A3YK6IroXhTzQFdzGD//Z"
)


def decoder_error() -> int:
    """Return the largest difference of a decoded pixel from the JPEG's colours, in levels of 256."""
    expected: NDArray[np.int16] = np.array(COLOURS, np.int16).repeat(8, axis=0).repeat(8, axis=1)
    return int(np.abs(decode_picture(JPEG) - expected).max())
