"""The forms in which data sets are published, each known by the names of its files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from taijitu_runtime.datasets.found import Files, Found
from taijitu_runtime.datasets.published.cifar import cifar10_binary, cifar10_pickles, cifar100_binary, cifar100_pickles
from taijitu_runtime.datasets.published.mnist import mnist_idx


@dataclass(frozen=True)
class Published:
    """A form of published files.

    Attributes:
        marks: Patterns of file names; one of each, side by side, tell the form.
        parts: Patterns of all the files that belong to it.
        read: Reads them.
    """

    marks: tuple[str, ...]
    parts: tuple[str, ...]
    read: Callable[[Files], Found]


PUBLISHED = (
    Published(("batches.meta",), ("batches.meta", "data_batch_[1-5]", "test_batch"), cifar10_pickles),
    Published(("batches.meta.txt",), ("batches.meta.txt", "*_batch*.bin"), cifar10_binary),
    Published(("meta", "train"), ("meta", "train", "test"), cifar100_pickles),
    Published(("fine_label_names.txt",), ("fine_label_names.txt", "train.bin", "test.bin"), cifar100_binary),
    Published(("*-images?idx3-ubyte*",), ("*-images?idx3-ubyte*", "*-labels?idx1-ubyte*"), mnist_idx),
)
