"""Training on CIFAR as its authors publish it: its pixels in memory, and its labels in every split."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from taijitu_runtime.errors import DataError
from taijitu_training.data import DataRequest, Pictures, load_dataset
from taijitu_training.recipes.named import RECIPES
from tests.helpers.published import (
    CIFAR10,
    TARGETS,
    TEST,
    TRAIN,
    colour,
    write_cifar10_binary,
    write_cifar100_binary,
    write_mnist,
)

RECIPE = RECIPES["yynet_cifar10"]


def test_pixels_of_the_size_that_is_trained_on_are_used_as_they_are(tmp_path: Path) -> None:
    write_cifar10_binary(tmp_path / "data")
    dataset = load_dataset(DataRequest(tmp_path / "data", (32, 32), RECIPE))
    assert (dataset.form, dataset.labels) == ("CIFAR-10 binary, in memory", tuple(CIFAR10))
    for source, pixels in ((dataset.train, TRAIN), (dataset.evaluation, TEST)):
        assert isinstance(source, Pictures)
        assert source.targets.tolist() == [target % 10 for target in TARGETS]
        np.testing.assert_array_equal(source.images.numpy(), colour(pixels))


def test_pixels_of_another_size_go_through_the_evaluation_transform(tmp_path: Path) -> None:
    write_cifar10_binary(tmp_path / "data")
    dataset = load_dataset(DataRequest(tmp_path / "data", (64, 64), RECIPE))
    assert isinstance(dataset.train, Pictures)
    expected = Image.fromarray(colour(TRAIN)[7]).resize((64, 64), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(dataset.train.images[7].numpy(), np.asarray(expected))


def test_grey_pixels_are_trained_on_as_three_equal_channels(tmp_path: Path) -> None:
    write_mnist(tmp_path / "mnist")
    dataset = load_dataset(DataRequest(tmp_path / "mnist", (28, 28), RECIPE))
    assert dataset.labels == tuple("0123456789")
    for source, pixels in ((dataset.train, TRAIN), (dataset.evaluation, TEST)):
        assert isinstance(source, Pictures)
        np.testing.assert_array_equal(
            source.images.numpy(), np.repeat(pixels[:, :784].reshape(-1, 28, 28, 1), 3, axis=3)
        )


def test_labels_that_one_split_lacks_are_named(tmp_path: Path) -> None:
    write_cifar100_binary(tmp_path / "bin")
    whole = (tmp_path / "bin" / "test.bin").read_bytes()
    (tmp_path / "bin" / "test.bin").write_bytes(whole[: 3074 * 90])
    with pytest.raises(DataError, match=r"test.*: fine90, fine91, fine92, fine93, fine94"):
        load_dataset(DataRequest(tmp_path / "bin", (32, 32), RECIPE))
