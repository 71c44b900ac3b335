"""CIFAR and MNIST in the files that their authors publish, whole and damaged."""

from __future__ import annotations

import os
import pickle
import struct
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from taijitu_runtime.datasets import Found, read_dataset
from taijitu_runtime.errors import DataError
from tests.helpers.published import (
    CIFAR10,
    DUMPS,
    FINE,
    TARGETS,
    TEST,
    TRAIN,
    colour,
    write_cifar10_binary,
    write_cifar10_pickles,
    write_cifar100_binary,
    write_cifar100_pickles,
    write_mnist,
)


def check(found: Found, form: str, labels: list[str], train: NDArray[np.uint8], test: NDArray[np.uint8]) -> None:
    assert (found.form, found.labels, list(found.splits)) == (form, tuple(labels), ["train", "test"])
    for split, pixels in zip(found.splits.values(), (train, test), strict=True):
        assert split.known_targets.tolist() == [target % len(labels) for target in TARGETS]
        np.testing.assert_array_equal(split.contents, pixels)


@pytest.mark.parametrize("writer", DUMPS)
def test_cifar_pickles_of_every_writer_are_read(tmp_path: Path, writer: str) -> None:
    write_cifar10_pickles(tmp_path / "cifar-10-batches-py", DUMPS[writer])
    write_cifar100_pickles(tmp_path / "cifar-100-python", DUMPS[writer])
    ten = read_dataset(tmp_path / "cifar-10-batches-py")
    check(ten, "CIFAR-10 pickles", CIFAR10, colour(TRAIN), colour(TEST))
    hundred = read_dataset(tmp_path / "cifar-100-python")
    check(hundred, "CIFAR-100 pickles", FINE, colour(TRAIN), colour(TEST))


def test_cifar_binaries_are_read(tmp_path: Path) -> None:
    write_cifar10_binary(tmp_path / "cifar-10-batches-bin")
    write_cifar100_binary(tmp_path / "cifar-100-binary")
    ten = read_dataset(tmp_path / "cifar-10-batches-bin")
    check(ten, "CIFAR-10 binary", CIFAR10, colour(TRAIN), colour(TEST))
    hundred = read_dataset(tmp_path / "cifar-100-binary")
    check(hundred, "CIFAR-100 binary", FINE, colour(TRAIN), colour(TEST))


@pytest.mark.parametrize(("mark", "packed"), [("-", False), ("-", True), (".", False), (".", True)])
def test_mnist_idx_files_are_read_in_every_spelling(tmp_path: Path, mark: str, packed: bool) -> None:
    write_mnist(tmp_path / "mnist", mark, packed)
    dataset = read_dataset(tmp_path / "mnist")
    grey = [pixels[:, :784].reshape(-1, 28, 28) for pixels in (TRAIN, TEST)]
    check(dataset, "MNIST idx files", list("0123456789"), *grey)


def test_downloaded_archives_and_parent_folders_are_read(tmp_path: Path) -> None:
    for name, write in (
        ("cifar-10-batches-py", lambda folder: write_cifar10_pickles(folder, DUMPS["protocol 2"])),
        ("cifar-100-python", lambda folder: write_cifar100_pickles(folder, DUMPS["protocol 2"])),
        ("cifar-10-batches-bin", write_cifar10_binary),
        ("cifar-100-binary", write_cifar100_binary),
    ):
        write(tmp_path / name / name)
        expected = read_dataset(tmp_path / name / name)
        with tarfile.open(tmp_path / f"{name}.tar.gz", "w:gz") as archive:
            archive.add(tmp_path / name / name, arcname=name)
        for path in (tmp_path / name, tmp_path / f"{name}.tar.gz"):
            got = read_dataset(path)
            assert (got.form, got.labels) == (expected.form, expected.labels)
            assert np.array_equal(got.splits["train"].contents, expected.splits["train"].contents)
    write_mnist(tmp_path / "torchvision" / "MNIST" / "raw")
    assert read_dataset(tmp_path / "torchvision").form == "MNIST idx files"
    write_cifar10_binary(tmp_path / "torchvision" / "cifar-10-batches-bin")
    with pytest.raises(DataError, match=r"\S+cifar-10-batches-bin, \S+raw"):
        read_dataset(tmp_path / "torchvision")


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
        read_dataset(folder)
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
        read_dataset(tmp_path / "data")


def test_incomplete_cifar_is_named(tmp_path: Path) -> None:
    write_cifar10_pickles(tmp_path / "py", DUMPS["protocol 4"])
    (tmp_path / "py" / "test_batch").unlink()
    with pytest.raises(DataError, match="py: test_batch"):
        read_dataset(tmp_path / "py")
    (tmp_path / "py" / "batches.meta").write_bytes(pickle.dumps({"names": CIFAR10}))
    with pytest.raises(DataError, match=r"batches\.meta.*label_names"):
        read_dataset(tmp_path / "py")
    write_cifar100_binary(tmp_path / "bin")
    whole = (tmp_path / "bin" / "test.bin").read_bytes()
    (tmp_path / "bin" / "test.bin").write_bytes(whole[:-1000])
    with pytest.raises(DataError, match=r"test\.bin.*306400 bytes.*3074"):
        read_dataset(tmp_path / "bin")
    (tmp_path / "bin" / "test.bin").write_bytes(whole)
    (tmp_path / "bin" / "fine_label_names.txt").write_text("one\ntwo\n")
    with pytest.raises(DataError, match=r"train\.bin.*2,.*0 to 1"):
        read_dataset(tmp_path / "bin")


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
        read_dataset(tmp_path / "mnist")
    assert f"{tmp_path / 'mnist'}: {file.removesuffix('-idx1-ubyte').removesuffix('-labels')}" in str(caught.value)


def test_incomplete_mnist_is_named(tmp_path: Path) -> None:
    write_mnist(tmp_path / "mnist", packed=True)
    path = tmp_path / "mnist" / "train-labels-idx1-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataError, match=r"train-labels-idx1-ubyte\.gz.*gzip"):
        read_dataset(tmp_path / "mnist")
    path.unlink()
    with pytest.raises(DataError, match="train-labels-idx1-ubyte"):
        read_dataset(tmp_path / "mnist")
