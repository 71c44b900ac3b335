"""Decoding a whole split into memory, and looking at the files of one that will be streamed, both in threads."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from taijitu_runtime.console import Progress
from taijitu_runtime.machine import usable_cores
from taijitu_training.data.pictures import Pictures
from taijitu_training.data.samples import Decoder, Job, Samples, fault, open_picture
from taijitu_training.errors import DataError

CHUNK = 64  # pictures a task: a million tasks would take a gigabyte


def decode(samples: Samples, decoder: Decoder) -> Pictures:
    """All of `samples` after the evaluation transform. DataError names the broken ones."""
    pixels = samples.contents
    if isinstance(pixels, np.ndarray) and decoder.keeps(pixels.shape[1:]):
        return Pictures(torch.from_numpy(pixels), samples.targets)
    images = torch.empty((len(samples), *decoder.size, 3), dtype=torch.uint8)
    pixels = images.numpy()

    def place(i: int) -> str | None:
        decoded, _ = decoder[Job(samples.contents[i], 0)]
        if isinstance(decoded, str):
            return decoded
        pixels[i] = decoded
        return None

    _in_threads(place, len(samples), "decoding")
    return Pictures(images, samples.targets)


def check_headers(samples: Samples) -> None:
    """Read the header of every picture; DataError names those without one.

    A file that was cut off or damaged after its header shows only when it is decoded, during the first epoch.
    """

    def look(i: int) -> str | None:
        try:
            open_picture(samples.contents[i]).close()
        except Exception as error:  # Pillow raises many kinds for a broken file
            return fault(samples.contents[i], error)
        return None

    if not isinstance(samples.contents, np.ndarray):
        _in_threads(look, len(samples), "checking")


def is_first() -> bool:
    """Whether this process shows the bar: one for all processes together."""
    return os.environ.get("RANK", "0") == "0"


def _in_threads(work: Callable[[int], str | None], count: int, what: str) -> None:
    def chunk(start: int) -> list[str]:
        return [fault for i in range(start, min(start + CHUNK, count)) if (fault := work(i)) is not None]

    broken: list[str] = []
    pool = ThreadPoolExecutor(usable_cores())
    try:
        with Progress(count, what=what, hidden=not is_first()) as bar:
            for faults in pool.map(chunk, range(0, count, CHUNK)):
                broken += faults
                bar.advance(CHUNK)
    finally:
        pool.shutdown(cancel_futures=True)
    if broken:
        more = f" and {len(broken) - 3} more" if len(broken) > 3 else ""
        raise DataError(f"unreadable pictures: {'; '.join(broken[:3])}{more}; repair or remove them")
