"""Reading, holding out and augmenting pictures."""

from __future__ import annotations

import shutil
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from taijitu_training.data import Augmenter, Pictures, load_dataset, normalise
from taijitu_training.errors import DataError
from taijitu_training.recipe import RECIPES

RECIPE = RECIPES["yynet_cifar10"]
PLAIN = replace(RECIPE, brightness=0.0)


def test_folder_and_tars_of_it_give_the_same_pictures(tiny_data: Path, tmp_path: Path) -> None:
    folder = load_dataset(tiny_data, (32, 32))
    assert folder.labels == ("blue", "red")
    assert folder.train.images.shape == (48, 32, 32, 3)
    assert folder.train.targets.tolist() == [0] * 24 + [1] * 24
    assert folder.evaluation_name == "test"
    assert len(folder.evaluation) == 12
    # the blue pictures are blue: channel order and labels belong together
    assert folder.train.images[:24].float().mean((0, 1, 2)).argmax() == 2
    for name, mode in (("plain.tar", "w"), ("small.tar.xz", "w:xz"), ("small.tar.gz", "w:gz")):
        with tarfile.open(tmp_path / name, mode) as archive:
            archive.add(tiny_data, arcname="anything")
        packed = load_dataset(tmp_path / name, (32, 32))
        assert packed.labels == folder.labels
        assert sorted(image.numpy().tobytes() for image in packed.train.images) == sorted(
            image.numpy().tobytes() for image in folder.train.images
        )


def test_validation_pictures_are_held_out_of_every_class_and_the_test_pictures_stay_unread(
    tiny_data: Path, tmp_path: Path
) -> None:
    data = shutil.copytree(tiny_data, tmp_path / "data")
    (data / "test" / "red" / "00.png").write_bytes(b"unreadable")
    held = load_dataset(data, (32, 32), validation=0.25, seed=3)
    assert held.evaluation.targets.tolist() == [0] * 6 + [1] * 6
    everything = {image.numpy().tobytes() for image in torch.cat([held.train.images, held.evaluation.images])}
    assert len(everything) == 48
    again = load_dataset(data, (32, 32), validation=0.25, seed=3)
    assert torch.equal(held.evaluation.images, again.evaluation.images)
    other = load_dataset(data, (32, 32), validation=0.25, seed=4)
    assert not torch.equal(held.evaluation.images, other.evaluation.images)


def test_unreadable_pictures_are_named(tiny_data: Path, tmp_path: Path) -> None:
    data = shutil.copytree(tiny_data, tmp_path / "data")
    broken = data / "train" / "red" / "07.png"
    broken.write_bytes(broken.read_bytes()[:200])
    with pytest.raises(DataError, match=r"unreadable pictures: .*red/07.png .*repair or remove"):
        load_dataset(data, (32, 32))


def test_missing_parts_are_named(tiny_data: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        load_dataset(tmp_path / "nowhere", (32, 32))
    (tmp_path / "text.tar").write_text("no tar")
    with pytest.raises(DataError, match="not a readable tar"):
        load_dataset(tmp_path / "text.tar", (32, 32))
    with tarfile.open(tmp_path / "damaged.tar.xz", "w:xz") as archive:
        archive.add(tiny_data, arcname="data")
    content = bytearray((tmp_path / "damaged.tar.xz").read_bytes())
    content[len(content) // 2 : len(content) // 2 + 20] = bytes(20)
    (tmp_path / "damaged.tar.xz").write_bytes(content)
    with pytest.raises(DataError, match=r"not a readable tar|unreadable pictures"):
        load_dataset(tmp_path / "damaged.tar.xz", (32, 32))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="got 0 labels with pictures under train/"):
        load_dataset(tmp_path / "empty", (32, 32))
    data = shutil.copytree(tiny_data, tmp_path / "data")
    (data / "test" / "red").rename(data / "test" / "green")
    with pytest.raises(DataError, match="test/ has labels that train/ lacks: green"):
        load_dataset(data, (32, 32))
    shutil.rmtree(data / "test")
    with pytest.raises(DataError, match=r"no pictures to evaluate on.*--validation"):
        load_dataset(data, (32, 32))


def test_augmented_pictures_are_crops_of_the_padded_one_mirrored_or_not() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (3, 6, 7, 3), dtype=torch.uint8, generator=generator)
    recipe = replace(PLAIN, pad=2)
    augmenter = Augmenter(Pictures(images, torch.tensor([5, 6, 7])), recipe)
    padded = np.pad(images.numpy(), ((0, 0), (2, 2), (2, 2), (0, 0)), mode="reflect")
    seen = set()
    for _ in range(250):
        batch, targets = augmenter.batch(torch.tensor([2, 0]), generator)
        assert targets.tolist() == [7, 5]
        for source, got in zip((2, 0), batch):
            matches = [
                (top, left, mirrored)
                for top in range(5)
                for left in range(5)
                for mirrored in (False, True)
                if torch.allclose(
                    normalise(torch.from_numpy(crop(padded[source], top, left, mirrored))[None], recipe)[0], got
                )
            ]
            assert len(matches) == 1
            seen.add(matches[0])
    assert len(seen) == 50  # every corner, mirrored and not


def crop(picture: np.ndarray, top: int, left: int, mirrored: bool) -> np.ndarray:
    window = picture[top : top + 6, left : left + 7]
    return np.ascontiguousarray(window[:, ::-1] if mirrored else window)


def test_brightness_stays_in_its_range_and_differs_between_pictures() -> None:
    recipe = replace(RECIPE, brightness=0.2, pad=0, flip=0.0, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    grey = Pictures(torch.full((200, 4, 4, 3), 100, dtype=torch.uint8), torch.zeros(200, dtype=torch.long))
    batch, _ = Augmenter(grey, recipe).batch(torch.arange(200), torch.Generator().manual_seed(0))
    factors = batch[:, 0, 0, 0] * 255 / 100
    assert batch.std((1, 2, 3)).max() < 1e-6  # one factor a picture
    assert 0.8 <= factors.min() < 0.82
    assert 1.18 < factors.max() <= 1.2


def test_normalise_is_mean_zero_std_one_in_channels_last() -> None:
    pixels = torch.tensor([[[[255, 0, 128]]]], dtype=torch.uint8)
    got = normalise(pixels, RECIPE)
    expected = [(1 - 0.4914) / 0.2023, (0 - 0.4822) / 0.1994, (128 / 255 - 0.4465) / 0.2010]
    assert got.flatten().tolist() == pytest.approx(expected, rel=1e-6)
    assert normalise(torch.zeros(2, 8, 8, 3, dtype=torch.uint8), RECIPE).is_contiguous(
        memory_format=torch.channels_last
    )


def test_the_same_generator_gives_the_same_batch() -> None:
    images = torch.randint(0, 256, (8, 8, 8, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    augmenter = Augmenter(Pictures(images, torch.arange(8)), RECIPE)
    first = augmenter.batch(torch.arange(8), torch.Generator().manual_seed(7))[0]
    same = augmenter.batch(torch.arange(8), torch.Generator().manual_seed(7))[0]
    other = augmenter.batch(torch.arange(8), torch.Generator().manual_seed(8))[0]
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
