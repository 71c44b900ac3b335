"""Augmentation: of whole batches on the device, and the random crop during decoding."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from taijitu_runtime.datasets import Encoded
from taijitu_runtime.errors import DataError
from taijitu_runtime.pictures.decoding.decode import decode
from taijitu_training.data import MemoryBatches, Pictures, Share, normalise
from taijitu_training.data.augmentation.augment import augment, draw, pad_reflecting, padded_bytes
from taijitu_training.data.augmentation.colour import change_contrast, change_saturation, turn_hue
from taijitu_training.data.augmentation.crop import random_box, random_resized_crop
from taijitu_training.data.augmentation.trivial_augment import KINDS, trivial_augment
from taijitu_training.data.augmentation.warp import turned, warp
from taijitu_training.recipes.named import RECIPES
from tests.helpers.memory import reset_peak, status

RECIPE = RECIPES["yynet_cifar10"]
PLAIN = replace(RECIPE, brightness=0.0)


def test_augmented_pictures_are_crops_of_the_padded_one_mirrored_or_not() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (3, 6, 7, 3), dtype=torch.uint8, generator=generator)
    recipe = replace(PLAIN, pad=2)
    reference = torch.from_numpy(np.pad(images.numpy(), ((0, 0), (2, 2), (2, 2), (0, 0)), mode="reflect"))
    windows = reference.unfold(1, 6, 1).unfold(2, 7, 1).permute(0, 1, 2, 4, 5, 3).reshape(3, 25, 6, 7, 3)
    possible = torch.cat([windows, windows.flip(3)], dim=1)  # every corner, mirrored and not
    padded = pad_reflecting(images, 2)
    seen = set()
    for _ in range(250):
        batch = augment(padded, torch.tensor([2, 0]), draw(2, recipe, generator), recipe)
        for source, got in zip((2, 0), batch):
            difference = (normalise(possible[source], recipe) - got).abs().amax((1, 2, 3))
            (match,) = (difference < 1e-5).nonzero().flatten().tolist()
            seen.add(match)
    assert len(seen) == 50


def test_half_of_the_images_are_upside_down_where_the_recipe_says_so() -> None:
    recipe = replace(PLAIN, pad=0, flip=0.0, vertical_flip=0.5)
    image = torch.zeros(1, 4, 4, 3, dtype=torch.uint8)
    image[:, 0] = 255
    drawn = draw(1000, recipe, torch.Generator().manual_seed(0))
    batch = augment(image, torch.zeros(1000, dtype=torch.int64), drawn, recipe)
    top, bottom = batch[:, 0, 0], batch[:, 0, 3]
    upside_down = (bottom > top).all(1)
    assert 450 < int(upside_down.sum()) < 550
    torch.testing.assert_close(
        batch[upside_down].flip(2), batch[~upside_down][:1].expand(int(upside_down.sum()), -1, -1, -1)
    )


def test_brightness_stays_in_its_range_and_differs_between_pictures() -> None:
    recipe = replace(RECIPE, brightness=0.2, pad=0, flip=0.0, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    grey = torch.full((200, 4, 4, 3), 100, dtype=torch.uint8)
    batch = augment(grey, torch.arange(200), draw(200, recipe, torch.Generator().manual_seed(0)), recipe)
    factors = batch[:, 0, 0, 0] * 255 / 100
    assert batch.std((1, 2, 3)).max() < 1e-6  # one factor a picture
    assert 0.8 <= factors.min() < 0.82
    assert 1.18 < factors.max() <= 1.2


def photographs(count: int) -> torch.Tensor:
    """Draw uint8 (count, 3, 24, 32), smooth and coloured."""
    small = torch.rand(count, 3, 4, 5, generator=torch.Generator().manual_seed(1))
    large = torch.nn.functional.interpolate(small, (24, 32), mode="bicubic").clamp(0, 1)
    return (255 * large).to(torch.uint8)


@pytest.mark.parametrize("name", list(KINDS))
def test_trivial_augment_is_torchvisions_kind_by_kind(name: str) -> None:
    images, theirs = photographs(6), v2.TrivialAugmentWide()
    levels, signs = [0, 7, 13, 20, 29, 30], [1, -1, 1, -1, 1, -1]
    which = torch.full((6,), (list(KINDS).index(name) + 0.5) / len(KINDS))
    drawn = torch.stack((which, (torch.tensor(levels) + 0.5) / 31, (torch.tensor(signs) + 1) / 2))
    got = trivial_augment(images, drawn)
    magnitudes, signed = theirs._AUGMENTATION_SPACE[name]
    strengths = magnitudes(31, 24, 32)
    for picture, level, sign, ours in zip(images, levels, signs, got, strict=True):
        strength = 0.0 if strengths is None else float(strengths[level]) * (sign if signed else 1)
        fill: dict[type, None] = {torch.Tensor: None}
        expected = theirs._apply_image_or_video_transform(picture, name, strength, theirs.interpolation, fill)
        different = (ours.int() - expected.int()).abs() > 1  # a level of rounding, and pixels between two neighbours
        assert different.float().mean() < 0.02, (level, sign)


def test_colours_change_as_torchvisions_jitter_changes_them() -> None:
    images = photographs(5)
    for ours, theirs, factors in (
        (change_contrast, v2.functional.adjust_contrast, [0.5, 0.8, 1.0, 1.3, 1.9]),
        (change_saturation, v2.functional.adjust_saturation, [0.5, 0.8, 1.0, 1.3, 1.9]),
        (turn_hue, v2.functional.adjust_hue, [-0.5, -0.2, 0.0, 0.1, 0.4]),
    ):
        expected = torch.stack([theirs(image / 255, factor) for image, factor in zip(images, factors, strict=True)])
        torch.testing.assert_close(ours(images.float(), torch.tensor(factors)) / 255, expected, rtol=0, atol=2e-3)


def test_pictures_are_turned_each_by_its_own_angle() -> None:
    images = photographs(3).float()
    got = warp(images, turned(torch.tensor([0.0, 30.0, -10.0])))
    torch.testing.assert_close(got[0], images[0])
    for angle, ours, image in ((30.0, got[1], images[1]), (-10.0, got[2], images[2])):
        expected = v2.functional.rotate(image, angle, v2.InterpolationMode.BILINEAR)
        torch.testing.assert_close(ours[:, 8:16, 10:22], expected[:, 8:16, 10:22], rtol=0, atol=1.0)


def test_erased_rectangles_have_the_sizes_of_timm() -> None:
    recipe = replace(PLAIN, pad=0, flip=0.0, erase=0.5)
    white = torch.full((1, 64, 64, 3), 255, dtype=torch.uint8)
    drawn = draw(400, recipe, torch.Generator().manual_seed(0))
    shares = (augment(white, torch.zeros(400, dtype=torch.int64), drawn, recipe)[:, 0] == 0).float().mean((1, 2))
    assert 160 < int((shares > 0).sum()) < 240
    assert shares.max() < 0.36
    assert shares[shares > 0].min() > 0.01


def test_one_more_augmentation_does_not_change_the_random_numbers_of_the_others() -> None:
    generator = torch.Generator()
    few = draw(8, RECIPE, generator.manual_seed(0))
    many = draw(8, replace(RECIPE, hue=0.1, rotation=10.0, erase=0.3), generator.manual_seed(0))
    for name in ("corner", "mirrored", "brightness", "upside_down"):
        assert torch.equal(getattr(few, name), getattr(many, name))


def test_normalise_is_mean_zero_std_one_in_channels_last() -> None:
    pixels = torch.tensor([[[[255, 0, 128]]]], dtype=torch.uint8)
    got = normalise(pixels, RECIPE)
    expected = [(1 - 0.4914) / 0.2023, (0 - 0.4822) / 0.1994, (128 / 255 - 0.4465) / 0.2010]
    assert got.flatten().tolist() == pytest.approx(expected, rel=1e-6)
    assert normalise(torch.zeros(2, 8, 8, 3, dtype=torch.uint8), RECIPE).is_contiguous(
        memory_format=torch.channels_last
    )


def test_the_padding_must_be_smaller_than_the_pictures() -> None:
    with pytest.raises(DataError, match=r"pad=4,.*4x9"):
        pad_reflecting(torch.zeros(1, 4, 9, 3, dtype=torch.uint8), 4)


def test_padding_takes_no_more_memory_than_the_padded_pictures() -> None:
    images = torch.full((4000, 64, 64, 3), 7, dtype=torch.uint8)
    pad_reflecting(images[:8], 4)  # what torch allocates once
    before = reset_peak()
    padded = pad_reflecting(images, 4)
    assert status("VmHWM") - before < 1.2 * padded.nbytes
    assert padded.nbytes + images.nbytes == padded_bytes(4000, (64, 64), 4)
    assert padded_bytes(4000, (64, 64), 0) == images.nbytes  # no copy


def test_resized_pictures_are_refused_for_random_crops() -> None:
    pictures = Pictures(torch.zeros(8, 8, 8, 3, dtype=torch.uint8), torch.zeros(8, dtype=torch.int64))
    recipe = replace(RECIPE, crop="resized", pad=0, batch_size=4)
    with pytest.raises(DataError, match="crop=resized"):
        MemoryBatches(pictures, recipe, torch.device("cpu"), Share())


def scene(height: int, width: int) -> np.ndarray:
    """Draw a smooth picture that no rotation or mirroring maps to itself."""
    rows, columns = np.mgrid[0:height, 0:width]
    return np.stack([rows * 255 // height, columns * 255 // width, (rows + 2 * columns) % 256], axis=-1).astype(
        np.uint8
    )


@pytest.mark.parametrize("shape", [(60, 90), (200, 30), (30, 200), (5, 4), (1, 1)])
def test_random_crops_are_torchvisions(shape: tuple[int, int]) -> None:
    image = Image.fromarray(scene(*shape))
    theirs = v2.RandomResizedCrop((24, 32), scale=(0.2, 1.0), antialias=True)
    boxes = set()
    for seed in range(40):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            expected = np.asarray(theirs(image))
        got = random_resized_crop(np.asarray(image), (24, 32), 0.2, torch.Generator().manual_seed(seed))
        np.testing.assert_array_equal(got, expected)
        boxes.add(random_box(shape[1], shape[0], 0.2, torch.Generator().manual_seed(seed)))
    assert (len(boxes) > 35) == (shape == (60, 90))  # in the others hardly one fits


@pytest.mark.parametrize("orientation", [1, 6])
def test_large_jpegs_are_decoded_small_and_give_nearly_the_same_pixels(orientation: int) -> None:
    upright = Image.fromarray(scene(1200, 900)[..., [0, 1, 1]])
    stored = upright.transpose(Image.Transpose.ROTATE_90) if orientation == 6 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    stored.save(file, "JPEG", quality=95, subsampling=0, exif=exif)
    for seed in range(10):
        expected = random_resized_crop(np.asarray(upright), (32, 24), 0.3, torch.Generator().manual_seed(seed))
        content = Encoded("scene.jpg", file.getvalue())
        got = random_resized_crop(content, (32, 24), 0.3, torch.Generator().manual_seed(seed))
        assert np.abs(got.astype(int) - expected).mean() < 2
    shrunk = decode(file.getvalue(), shrink_for=lambda width, height: min(width // 24, height // 32))
    assert np.shape(shrunk.pixels) == (150, 113, 3)  # an eighth
