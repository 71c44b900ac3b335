"""Pictures of one colour each, in the folders of their labels."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from tests.helpers.tiny_model import plain

PAINT = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}


def paint(folder: Path, count: int) -> None:
    """Write `count` pictures of each colour, <label>/<number>.png, in sizes that differ."""
    for label, colour in PAINT.items():
        (folder / label).mkdir(parents=True)
        for i in range(count):
            Image.fromarray(plain(colour, 10 + i, 12)).save(folder / label / f"{i}.png")
