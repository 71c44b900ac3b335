"""A data set small enough to train on in a second: two labels with different colours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write train/{blue,red}: 24 pictures each; test/: 6 each; 40 x 36 pixels, PNG."""
    folder = tmp_path_factory.mktemp("tiny")
    generator = np.random.default_rng(0)
    for split, count in (("train", 24), ("test", 6)):
        for channel, label in ((2, "blue"), (0, "red")):
            (folder / split / label).mkdir(parents=True)
            for i in range(count):
                pixels = generator.integers(0, 120, (36, 40, 3), dtype=np.uint8)
                pixels[..., channel] += 100
                Image.fromarray(pixels).save(folder / split / label / f"{i:02d}.png")
    return folder
