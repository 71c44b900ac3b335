"""CIFAR and MNIST in the files that their authors publish, written here byte by byte, whole and damaged."""

from __future__ import annotations

import gzip
import os
import pickle
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from taijitu_training.data import DataRequest, Dataset, Pictures, load_dataset
from taijitu_training.errors import DataError
from taijitu_training.recipes.named import RECIPES

RECIPE = RECIPES["yynet_cifar10"]
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


def check(dataset: Dataset, form: str, labels: list[str], train: NDArray[np.uint8], test: NDArray[np.uint8]) -> None:
    assert (dataset.form, dataset.labels) == (f"{form}, in memory", tuple(labels))
    for source, pixels in ((dataset.train, train), (dataset.evaluation, test)):
        assert isinstance(source, Pictures)
        assert source.targets.tolist() == [target % len(labels) for target in TARGETS]
        np.testing.assert_array_equal(source.images.numpy(), pixels)


DUMPS = {
    "Python 2": lambda content: b"\x80\x02" + python2(content) + b".",
    **{f"protocol {i}": lambda content, i=i: pickle.dumps(content, protocol=i) for i in (2, 4, 5)},
}


@pytest.mark.parametrize("writer", DUMPS)
def test_cifar_pickles_of_every_writer_are_read(tmp_path: Path, writer: str) -> None:
    write_cifar10_pickles(tmp_path / "cifar-10-batches-py", DUMPS[writer])
    write_cifar100_pickles(tmp_path / "cifar-100-python", DUMPS[writer])
    ten = load_dataset(DataRequest(tmp_path / "cifar-10-batches-py", (32, 32), RECIPE))
    check(ten, "CIFAR-10 pickles", CIFAR10, colour(TRAIN), colour(TEST))
    hundred = load_dataset(DataRequest(tmp_path / "cifar-100-python", (32, 32), RECIPE))
    check(hundred, "CIFAR-100 pickles", FINE, colour(TRAIN), colour(TEST))


def test_cifar_binaries_are_read(tmp_path: Path) -> None:
    write_cifar10_binary(tmp_path / "cifar-10-batches-bin")
    write_cifar100_binary(tmp_path / "cifar-100-binary")
    ten = load_dataset(DataRequest(tmp_path / "cifar-10-batches-bin", (32, 32), RECIPE))
    check(ten, "CIFAR-10 binary", CIFAR10, colour(TRAIN), colour(TEST))
    hundred = load_dataset(DataRequest(tmp_path / "cifar-100-binary", (32, 32), RECIPE))
    check(hundred, "CIFAR-100 binary", FINE, colour(TRAIN), colour(TEST))


@pytest.mark.parametrize(("mark", "packed"), [("-", False), ("-", True), (".", False), (".", True)])
def test_mnist_idx_files_are_read_in_every_spelling(tmp_path: Path, mark: str, packed: bool) -> None:
    write_mnist(tmp_path / "mnist", mark, packed)
    dataset = load_dataset(DataRequest(tmp_path / "mnist", (28, 28), RECIPE))
    grey = [np.repeat(pixels[:, :784].reshape(-1, 28, 28, 1), 3, axis=3) for pixels in (TRAIN, TEST)]
    check(dataset, "MNIST idx files", list("0123456789"), *grey)


def test_downloaded_archives_and_parent_folders_are_read(tmp_path: Path) -> None:
    for name, write in (
        ("cifar-10-batches-py", lambda folder: write_cifar10_pickles(folder, DUMPS["protocol 2"])),
        ("cifar-100-python", lambda folder: write_cifar100_pickles(folder, DUMPS["protocol 2"])),
        ("cifar-10-batches-bin", write_cifar10_binary),
        ("cifar-100-binary", write_cifar100_binary),
    ):
        write(tmp_path / name / name)
        expected = load_dataset(DataRequest(tmp_path / name / name, (32, 32), RECIPE))
        with tarfile.open(tmp_path / f"{name}.tar.gz", "w:gz") as archive:
            archive.add(tmp_path / name / name, arcname=name)
        for path in (tmp_path / name, tmp_path / f"{name}.tar.gz"):
            got = load_dataset(DataRequest(path, (32, 32), RECIPE))
            assert (got.form, got.labels) == (expected.form, expected.labels)
            assert torch.equal(got.train.images, expected.train.images)
    write_mnist(tmp_path / "torchvision" / "MNIST" / "raw")
    assert load_dataset(DataRequest(tmp_path / "torchvision", (28, 28), RECIPE)).form == "MNIST idx files, in memory"
    write_cifar10_binary(tmp_path / "torchvision" / "cifar-10-batches-bin")
    with pytest.raises(DataError, match=r"\S+cifar-10-batches-bin, \S+raw"):
        load_dataset(DataRequest(tmp_path / "torchvision", (32, 32), RECIPE))


def test_pixels_of_another_size_go_through_the_evaluation_transform(tmp_path: Path) -> None:
    write_cifar10_binary(tmp_path / "data")
    dataset = load_dataset(DataRequest(tmp_path / "data", (64, 64), RECIPE))
    assert isinstance(dataset.train, Pictures)
    expected = Image.fromarray(colour(TRAIN)[7]).resize((64, 64), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(dataset.train.images[7].numpy(), np.asarray(expected))


class Malicious:
    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (self.command,)


@pytest.mark.parametrize("name", ["batches.meta", "data_batch_3"])
@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_a_pickle_that_would_run_something_is_refused_and_runs_nothing(
    tmp_path: Path, name: str, protocol: int
) -> None:
    folder, proof = tmp_path / "cifar-10-batches-py", tmp_path / "it ran"
    write_cifar10_pickles(folder, DUMPS["protocol 2"])
    bad = {"label_names": CIFAR10, "labels": [0], "data": Malicious(f"touch '{proof}'")}
    (folder / name).write_bytes(pickle.dumps(bad, protocol=protocol))
    with pytest.raises(DataError, match=rf"{name}.*posix\.sys"):
        load_dataset(DataRequest(folder, (32, 32), RECIPE))
    assert not proof.exists()


def spoilt_pickles() -> dict[str, tuple[bytes, str]]:
    """Yield faulty contents of data_batch_2, and the error."""

    def dumped(**content: object) -> bytes:
        return pickle.dumps(content)

    zipped = b"PK\x03\x04" + bytes(100)
    return {
        "cut off": (pickle.dumps({"data": TRAIN, "labels": TARGETS})[:5000], "pickle"),
        "a .pt file": (zipped, "pickle"),
        "a list": (pickle.dumps([1, 2]), "list"),
        "floats": (dumped(data=TRAIN[:2] / 255, labels=[0, 1]), "f8,.*uint8"),
        "no pixels": (dumped(labels=[0, 1]), r"NoneType,.*uint8 \(N, 3072\)"),
        "grey": (dumped(data=TRAIN[:2, :1024], labels=[0, 1]), r"\(2, 1024\)"),
        "too few labels": (dumped(data=TRAIN[:2], labels=[0]), "1 labels.*2 pictures"),
        "no labels": (dumped(data=TRAIN[:2], fine_labels=[0, 1]), "labels.*2 pictures"),
        "label 10": (dumped(data=TRAIN[:2], labels=[0, 10]), "10,.*0 to 9"),
    }


@pytest.mark.parametrize("name", spoilt_pickles())
def test_spoilt_cifar_pickles_are_named(tmp_path: Path, name: str) -> None:
    content, message = spoilt_pickles()[name]
    write_cifar10_pickles(tmp_path / "data", DUMPS["protocol 4"])
    (tmp_path / "data" / "data_batch_2").write_bytes(content)
    with pytest.raises(DataError, match=rf"data: data_batch_2: .*{message}"):
        load_dataset(DataRequest(tmp_path / "data", (32, 32), RECIPE))


def test_incomplete_cifar_is_named(tmp_path: Path) -> None:
    write_cifar10_pickles(tmp_path / "py", DUMPS["protocol 4"])
    (tmp_path / "py" / "test_batch").unlink()
    with pytest.raises(DataError, match="py: test_batch"):
        load_dataset(DataRequest(tmp_path / "py", (32, 32), RECIPE))
    (tmp_path / "py" / "batches.meta").write_bytes(pickle.dumps({"names": CIFAR10}))
    with pytest.raises(DataError, match=r"batches\.meta.*label_names"):
        load_dataset(DataRequest(tmp_path / "py", (32, 32), RECIPE))
    write_cifar100_binary(tmp_path / "bin")
    whole = (tmp_path / "bin" / "test.bin").read_bytes()
    (tmp_path / "bin" / "test.bin").write_bytes(whole[:-1000])
    with pytest.raises(DataError, match=r"test\.bin.*306400 bytes.*3074"):
        load_dataset(DataRequest(tmp_path / "bin", (32, 32), RECIPE))
    (tmp_path / "bin" / "test.bin").write_bytes(whole[: 3074 * 90])
    with pytest.raises(DataError, match=r"test.*: fine90, fine91, fine92, fine93, fine94"):
        load_dataset(DataRequest(tmp_path / "bin", (32, 32), RECIPE))
    (tmp_path / "bin" / "fine_label_names.txt").write_text("one\ntwo\n")
    with pytest.raises(DataError, match=r"train\.bin.*2,.*0 to 1"):
        load_dataset(DataRequest(tmp_path / "bin", (32, 32), RECIPE))


def spoilt_mnist() -> dict[str, tuple[str, bytes, str]]:
    images = struct.pack(">IIII", 2051, 100, 28, 28)
    return {
        "labels as images": (
            "train-images-idx3-ubyte",
            struct.pack(">II", 2049, 100),
            "00000801.*0000",
        ),
        "empty": ("train-images-idx3-ubyte", b"", "00000803"),
        "cut off": ("train-images-idx3-ubyte", images + bytes(999), "999 .*100 x 28 x 28"),
        "label 10": ("t10k-labels-idx1-ubyte", struct.pack(">II", 2049, 100) + b"\n" * 100, "10,.*0"),
        "fewer labels": (
            "t10k-labels-idx1-ubyte",
            struct.pack(">II", 2049, 9) + bytes(9),
            "100 .*9 ",
        ),
    }


@pytest.mark.parametrize("name", spoilt_mnist())
def test_spoilt_mnist_files_are_named(tmp_path: Path, name: str) -> None:
    file, content, message = spoilt_mnist()[name]
    write_mnist(tmp_path / "mnist")
    (tmp_path / "mnist" / file).write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        load_dataset(DataRequest(tmp_path / "mnist", (28, 28), RECIPE))
    assert f"{tmp_path / 'mnist'}: {file.removesuffix('-idx1-ubyte').removesuffix('-labels')}" in str(caught.value)


def test_incomplete_mnist_is_named(tmp_path: Path) -> None:
    write_mnist(tmp_path / "mnist", packed=True)
    path = tmp_path / "mnist" / "train-labels-idx1-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataError, match=r"train-labels-idx1-ubyte\.gz.*gzip"):
        load_dataset(DataRequest(tmp_path / "mnist", (28, 28), RECIPE))
    path.unlink()
    with pytest.raises(DataError, match="train-labels-idx1-ubyte"):
        load_dataset(DataRequest(tmp_path / "mnist", (28, 28), RECIPE))
