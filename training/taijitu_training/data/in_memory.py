"""Decode a whole split into memory, or check the files of one that will be streamed, both in threads."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import torch

from taijitu_runtime.console import Progress
from taijitu_runtime.datasets import bytes_of
from taijitu_runtime.errors import DataError, PictureError, listed
from taijitu_runtime.machine import usable_cores
from taijitu_runtime.pictures.headers import inspect
from taijitu_training.data.pictures import Pictures
from taijitu_training.data.samples import Decoder, Job, Samples, fault
from taijitu_training.torchrun import is_first

T = TypeVar("T", Pictures, Samples)
CHUNK = 64  # pictures a task: a million tasks would take a gigabyte
MOST_NAMED = 100


class Unreadable:
    """The pictures of all splits that cannot be decoded: listed, and an error unless they may be `skip`ped."""

    def __init__(self, skip: bool = False) -> None:
        self.skip = skip
        self.listed: list[str] = []
        self.looked_at = 0

    def without(self, split: T, broken: dict[int, str]) -> T:
        """List the `broken` ones, and return the others of `split`."""
        self.looked_at += len(split)
        self.listed += broken.values()
        if not broken:
            return split
        return split.subset(torch.tensor([i for i in range(len(split)) if i not in broken], dtype=torch.int64))

    def check(self) -> None:
        """Raise DataError, which names the broken pictures of all splits, unless they may be skipped."""
        if not self.listed or self.skip:
            return
        raise DataError(
            f"got {len(self.listed)} pictures of {self.looked_at} that cannot be decoded: "
            f"{listed(self.listed, MOST_NAMED, '; ')}; repair or remove them, or leave them out with --skip-unreadable"
        )


def decode(samples: Samples, decoder: Decoder, unreadable: Unreadable) -> Pictures:
    """Decode all of `samples` into the network's input, without the broken ones; see `Unreadable`."""
    contents = samples.contents
    if isinstance(contents, np.ndarray) and decoder.keeps(contents.shape[1:]):
        return Pictures(torch.from_numpy(contents), samples.targets)
    images = torch.empty((len(samples), *decoder.size, 3), dtype=torch.uint8)
    pixels = images.numpy()

    def place(i: int) -> str | None:
        decoded, _ = decoder[Job(contents[i], 0)]
        if isinstance(decoded, str):
            return decoded
        pixels[i] = decoded
        return None

    broken = _in_threads(place, len(samples), "decoding")
    return unreadable.without(Pictures(images, samples.targets), broken)


def checked(samples: Samples, decoder: Decoder, unreadable: Unreadable) -> Samples:
    """Return `samples` without the broken ones; see `Unreadable`.

    Every file is read and checked without decoding, which finds truncated ones. Damage within the pixels is found when
    it is decoded, in the first epoch; if it may be skipped, every picture is decoded here once.
    """
    if isinstance(samples.contents, np.ndarray):
        return samples

    def look(i: int) -> str | None:
        content = samples.contents[i]
        if unreadable.skip:
            decoded, _ = decoder[Job(content, 0)]
            return decoded if isinstance(decoded, str) else None
        try:
            if not isinstance(content, np.ndarray):
                inspect(bytes_of(content))
        except PictureError as error:
            return fault(content, error)
        return None

    return unreadable.without(samples, _in_threads(look, len(samples), "checking"))


def _in_threads(work: Callable[[int], str | None], count: int, what: str) -> dict[int, str]:
    """Return the text of `work` for each of 0 ... count - 1, if it returns one."""

    def chunk(start: int) -> dict[int, str]:
        return {i: said for i in range(start, min(start + CHUNK, count)) if (said := work(i)) is not None}

    broken: dict[int, str] = {}
    pool = ThreadPoolExecutor(usable_cores())
    try:
        with Progress(count, what=what, hidden=not is_first()) as bar:
            for faults in pool.map(chunk, range(0, count, CHUNK)):
                broken |= faults
                bar.advance(CHUNK)
    finally:
        pool.shutdown(cancel_futures=True)
    return broken
