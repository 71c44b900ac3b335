"""The answers of a network to labelled pictures under one candidate after the other; no answer is computed twice."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
from numpy.typing import NDArray

from taijitu_export.adopt.finding.candidates import Values
from taijitu_export.adopt.finding.likelihood import logits_of
from taijitu_export.adopt.onnx_from_foreign import Ending, ends_in
from taijitu_export.adopt.original import Original
from taijitu_runtime.card import InputSpec
from taijitu_runtime.datasets import Content, PictureSet, bytes_of, prepare
from taijitu_runtime.errors import PictureError
from taijitu_runtime.machine import usable_cores
from taijitu_runtime.pictures.headers import LARGE_PIXELS
from taijitu_runtime.pictures.preprocess import decode_picture

BATCH = 16
HELD_BYTES = 1 << 29
"""Decoded pictures that are kept in memory, and as much of resized ones; the others are made again when needed."""


class CandidateAnswers:
    """Pictures in an order that mixes their labels, and a network's logits for them.

    Args:
        original: The network.
        standard: Its graph, as `standard_graph` makes it.
        pictures: The pictures.
        targets: Their labels' indices, int64 (N,).
        most: How many of the pictures are looked at.
    """

    def __init__(
        self,
        original: Original,
        standard: onnx.ModelProto,
        pictures: PictureSet,
        targets: NDArray[np.int64],
        most: int,
    ) -> None:
        order = _mixed(targets)[:most]
        self._original = original
        self._standard = standard
        self._source, self._names = pictures.source, [pictures.names[index] for index in order]
        self._contents: list[Content] = [pictures.contents[index] for index in order]
        self._large: set[int] = set()
        self._held_bytes = 0
        self.labels = len(pictures.labels)
        self._ending: Ending | None = None
        self._resized: dict[InputSpec, dict[int, NDArray[np.uint8]]] = {}  # the latest used last
        self._logits: dict[InputSpec, NDArray[np.float32]] = {}
        self.targets: NDArray[np.int64] = targets[order]

    def __len__(self) -> int:
        return len(self._contents)

    def answered(self, spec: InputSpec) -> int:
        """Return how many pictures were answered under a candidate."""
        return len(self._logits.get(spec, ()))

    def logits(self, spec: InputSpec) -> NDArray[np.float32]:
        """Return what the network gave so far under a candidate, float32 (N, K)."""
        return self._logits[spec]

    def answer(self, spec: InputSpec, count: int) -> Iterator[int]:
        """Ask for the first `count` pictures under a candidate, and yield how many were answered, batch by batch."""
        done = self.answered(spec)
        for first in range(done, count, BATCH):
            images = self._prepared(spec, first, min(count, first + BATCH))
            given = self._original.run(self._original.network_input(images, spec))
            if self._ending is None:
                self._ending = ends_in(self._standard, given, self.labels)
            logits, before = logits_of(given, self._ending), self._logits.get(spec)
            self._logits[spec] = logits if before is None else np.concatenate([before, logits])
            yield len(self._logits[spec])

    def _prepared(self, spec: InputSpec, first: int, end: int) -> NDArray[np.uint8]:
        """Return the pictures from `first` to before `end`; candidates that differ in their arithmetic share them."""
        neutral = dataclasses.replace(spec, **_NEUTRAL)
        held = self._resized[neutral] = self._resized.pop(neutral, {})
        if missing := [index for index in range(first, end) if index not in held]:
            with ThreadPoolExecutor(usable_cores()) as pool:
                held.update(zip(missing, pool.map(lambda index: self._resize(index, neutral), missing)))
        images = np.stack([held[index] for index in range(first, end)])
        self._let_go(images[0].nbytes)
        return images

    def _let_go(self, picture_bytes: int) -> None:
        """Forget the resized pictures that were not used for the longest time, where all are more than HELD_BYTES."""
        while len(self._resized) > 1 and picture_bytes * sum(map(len, self._resized.values())) > HELD_BYTES:
            del self._resized[next(iter(self._resized))]

    def _resize(self, index: int, spec: InputSpec) -> NDArray[np.uint8]:
        try:
            return prepare(self._held(index), spec)
        except PictureError as error:
            raise error.named(f"{self._source}: {self._names[index]}") from error

    def _held(self, index: int) -> Content:
        """Return the picture, decoded where that is exact and there is room."""
        content = self._contents[index]
        if isinstance(content, np.ndarray) or index in self._large or self._held_bytes > HELD_BYTES:
            return content
        pixels = decode_picture(content if isinstance(content, str) else bytes_of(content))
        if pixels.shape[0] * pixels.shape[1] > LARGE_PIXELS:
            self._large.add(index)
            return content
        self._held_bytes += pixels.nbytes
        self._contents[index] = pixels
        return pixels


_NEUTRAL: Values = {"colour": "RGB", "scale": 1.0, "mean": (0.0,) * 3, "std": (1.0,) * 3}
"""One value of the arithmetic, for candidates that differ in nothing else."""


def _mixed(targets: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return an order, int64 (N,), whose beginning has as many labels as it can, the same at every call."""
    shuffled = np.random.default_rng(0).permutation(len(targets))
    rank = np.empty(len(targets), np.int64)
    seen: dict[int, int] = {}
    for index in shuffled:
        label = int(targets[index])
        rank[index] = seen[label] = seen.get(label, -1) + 1
    order: NDArray[np.int64] = shuffled[np.argsort(rank[shuffled], kind="stable")]
    return order
