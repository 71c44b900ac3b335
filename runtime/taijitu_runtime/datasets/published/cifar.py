"""CIFAR-10 and CIFAR-100 as their authors publish them: the "python" pickles and the "binary" files.

https://www.cs.toronto.edu/~kriz/cifar.html
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from taijitu_runtime.datasets.found import Files, Found, Split
from taijitu_runtime.datasets.names import Role
from taijitu_runtime.datasets.published.plain_pickle import load_plain_pickle
from taijitu_runtime.errors import DataError

PIXELS = 3 * 32 * 32  # the red plane, then green, then blue
CIFAR10_TRAIN = tuple(f"data_batch_{i}" for i in range(1, 6))


def cifar10_pickles(files: Files) -> Found:
    """Read cifar-10-batches-py: data_batch_1 to _5, test_batch, batches.meta."""
    return _pickles("CIFAR-10 pickles", files, CIFAR10_TRAIN, "test_batch", "batches.meta", "label_names", "labels")


def cifar100_pickles(files: Files) -> Found:
    """Read cifar-100-python: train, test, meta; the 100 fine labels."""
    return _pickles("CIFAR-100 pickles", files, ("train",), "test", "meta", "fine_label_names", "fine_labels")


def cifar10_binary(files: Files) -> Found:
    """Read cifar-10-batches-bin: per picture a byte of label and 3072 of pixels."""
    train = tuple(f"{name}.bin" for name in CIFAR10_TRAIN)
    return _binary("CIFAR-10 binary", files, train, "test_batch.bin", "batches.meta.txt", label_bytes=1)


def cifar100_binary(files: Files) -> Found:
    """Read cifar-100-binary: a byte of coarse label, one of fine label, 3072 of pixels; the 100 fine labels."""
    return _binary("CIFAR-100 binary", files, ("train.bin",), "test.bin", "fine_label_names.txt", label_bytes=2)


def _pickles(
    form: str, files: Files, train: tuple[str, ...], test: str, meta: str, names_key: str, labels_key: str
) -> Found:
    names = load_plain_pickle(files.read(meta), f"{files.where}: {meta}").get(names_key)
    if not isinstance(names, list) or not names:
        raise DataError(f"{files.where}: {meta} has no {names_key}, expected the labels' names; fetch it again")
    labels = tuple(name.decode("latin1") if isinstance(name, bytes) else str(name) for name in names)

    def part(name: str) -> Split:
        where = f"{files.where}: {name}"
        loaded = load_plain_pickle(files.read(name), where)
        return _samples(loaded.get("data"), loaded.get(labels_key), len(labels), where)

    splits: dict[Role, Split] = {"train": _joined([part(name) for name in train]), "test": part(test)}
    return Found(files.where, form, labels, splits)


def _binary(form: str, files: Files, train: tuple[str, ...], test: str, names: str, label_bytes: int) -> Found:
    labels = tuple(files.read(names).decode("latin1").split())

    def part(name: str) -> Split:
        content = files.read(name)
        if not content or len(content) % (label_bytes + PIXELS):
            raise DataError(
                f"{files.where}: {name}: got {len(content)} bytes, expected a multiple of {label_bytes + PIXELS}, "
                "the bytes of one picture; fetch it again"
            )
        rows = np.frombuffer(content, np.uint8).reshape(-1, label_bytes + PIXELS)
        targets = rows[:, label_bytes - 1].tolist()
        return _samples(rows[:, label_bytes:], targets, len(labels), f"{files.where}: {name}")

    splits: dict[Role, Split] = {"train": _joined([part(name) for name in train]), "test": part(test)}
    return Found(files.where, form, labels, splits)


def _samples(data: Any, targets: Any, classes: int, where: str) -> Split:
    if not isinstance(data, np.ndarray) or data.ndim != 2 or data.shape[1] != PIXELS:
        got = f"shape {data.shape}" if isinstance(data, np.ndarray) else f"a {type(data).__name__}"
        raise DataError(f"{where}: got pixels of {got}, expected uint8 (N, {PIXELS}); fetch it again")
    if not isinstance(targets, list) or len(targets) != len(data):
        got = f"a list of {len(targets)} labels" if isinstance(targets, list) else "no list of labels"
        raise DataError(f"{where}: got {got} for {len(data)} pictures, expected one each; fetch it again")
    if wrong := [target for target in targets if not isinstance(target, int) or not 0 <= target < classes]:
        raise DataError(f"{where}: got label {wrong[0]!r}, expected 0 to {classes - 1}; fetch it again")
    pixels: NDArray[np.uint8] = data.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return Split("test", np.ascontiguousarray(pixels), np.array(targets, np.int64))


def _joined(parts: list[Split]) -> Split:
    contents = np.concatenate([np.asarray(part.contents) for part in parts])
    return Split("train", contents, np.concatenate([part.known_targets for part in parts]))
