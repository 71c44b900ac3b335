"""CIFAR and MNIST in the files that their authors publish, written byte by byte."""

from __future__ import annotations

import gzip
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

CIFAR10 = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
FINE = [f"fine{i:02d}" for i in range(100)]
GENERATOR = np.random.default_rng(0)
TRAIN = GENERATOR.integers(0, 256, (100, 3072), dtype=np.uint8)
TEST = GENERATOR.integers(0, 256, (100, 3072), dtype=np.uint8)
TARGETS = list(range(100))  # CIFAR-10's are these modulo 10


def python2(value: Any) -> bytes:
    """Encode a value in the opcodes of Python 2's cPickle, protocol 2, as the authors wrote CIFAR."""
    if isinstance(value, bytes):
        return b"U" + bytes([len(value)]) + value if len(value) < 256 else b"T" + struct.pack("<i", len(value)) + value
    if isinstance(value, int):
        return b"K" + bytes([value]) if value < 256 else b"M" + struct.pack("<H", value)
    if isinstance(value, list):
        return b"](" + b"".join(map(python2, value)) + b"e"
    if isinstance(value, dict):
        return b"}(" + b"".join(python2(key) + python2(entry) for key, entry in value.items()) + b"u"
    rows, columns = value.shape
    minus = b"J" + b"\xff" * 4
    dtype = (
        b"cnumpy\ndtype\n" + python2(b"u1") + b"K\x00K\x01\x87R(K\x03" + python2(b"|") + b"NNN" + 2 * minus + b"K\x00tb"
    )
    empty = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + python2(b"b") + b"\x87R"
    state = b"(K\x01" + python2(rows) + python2(columns) + b"\x86" + dtype + b"\x89" + python2(value.tobytes()) + b"t"
    return empty + state + b"b"


def write_cifar10_pickles(folder: Path, dumps: Callable[[dict[Any, Any]], bytes]) -> None:
    folder.mkdir(parents=True)
    (folder / "batches.meta").write_bytes(dumps({b"label_names": [name.encode() for name in CIFAR10]}))
    for i, part in enumerate(np.split(TRAIN, 5)):
        labels = [target % 10 for target in TARGETS[20 * i : 20 * i + 20]]
        content = {b"batch_label": b"training batch", b"labels": labels, b"data": part}
        (folder / f"data_batch_{i + 1}").write_bytes(dumps(content))
    (folder / "test_batch").write_bytes(dumps({b"labels": [target % 10 for target in TARGETS], b"data": TEST}))


def write_cifar100_pickles(folder: Path, dumps: Callable[[dict[Any, Any]], bytes]) -> None:
    folder.mkdir(parents=True)
    (folder / "meta").write_bytes(dumps({b"fine_label_names": [n.encode() for n in FINE], b"coarse_label_names": []}))
    for name, pixels in (("train", TRAIN), ("test", TEST)):
        content = {b"fine_labels": TARGETS, b"coarse_labels": [t // 5 for t in TARGETS], b"data": pixels}
        (folder / name).write_bytes(dumps(content))


def write_cifar10_binary(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "batches.meta.txt").write_text("\n".join(CIFAR10) + "\n\n")
    labels = np.array([target % 10 for target in TARGETS], np.uint8)
    for i in range(5):
        rows = np.column_stack([labels, TRAIN])[20 * i : 20 * i + 20]
        (folder / f"data_batch_{i + 1}.bin").write_bytes(rows.tobytes())
    (folder / "test_batch.bin").write_bytes(np.column_stack([labels, TEST]).tobytes())


def write_cifar100_binary(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "fine_label_names.txt").write_text("\n".join(FINE) + "\n")
    (folder / "coarse_label_names.txt").write_text("\n".join(FINE[:20]) + "\n")
    labels = np.array([[target // 5, target] for target in TARGETS], np.uint8)
    (folder / "train.bin").write_bytes(np.column_stack([labels, TRAIN]).tobytes())
    (folder / "test.bin").write_bytes(np.column_stack([labels, TEST]).tobytes())


def write_mnist(folder: Path, mark: str = "-", packed: bool = False) -> None:
    folder.mkdir(parents=True)
    for prefix, pixels in (("train", TRAIN), ("t10k", TEST)):
        images = struct.pack(">IIII", 2051, 100, 28, 28) + pixels[:, :784].tobytes()
        labels = struct.pack(">II", 2049, 100) + bytes(target % 10 for target in TARGETS)
        for name, content in ((f"images{mark}idx3", images), (f"labels{mark}idx1", labels)):
            path = folder / f"{prefix}-{name}-ubyte{'.gz' if packed else ''}"
            path.write_bytes(gzip.compress(content) if packed else content)


def colour(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)


DUMPS = {
    "Python 2": lambda content: b"\x80\x02" + python2(content) + b".",
    **{f"protocol {i}": lambda content, i=i: pickle.dumps(content, protocol=i) for i in (2, 4, 5)},
}
