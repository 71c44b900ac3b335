"""The pictures of passports: a version gives the same ones on every machine, with every NumPy."""

from __future__ import annotations

import hashlib

import pytest

from taijitu_runtime.card import InputSpec
from taijitu_runtime.pictures.generated import is_exact, proof_picture
from taijitu_runtime.proof.decoder import ALLOWED_LEVELS, decoder_error


def spec(height: int, width: int, **changes: object) -> InputSpec:
    fields = {"resize": "stretch", "resize_size": min(height, width), **changes}
    return InputSpec(height=height, width=width, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), **fields)


@pytest.mark.parametrize(
    ("seed", "shape", "digest"),
    [
        (0, (57, 69, 3), "bf259e56e4b852026610d4d98bf583a5ef9309f70f41fe2296ec7133fad788cd"),
        (3, (32, 32, 3), "67acbc56f11f21b0f3156d36d6fce00fa48e18519d28d5f800729a424dc3a568"),
        (511, (32, 32, 3), "ed54558c5d5b8143d86cd0a4ff579270f19aa49e86152a9a39564a725b7ca1e2"),
        (2**32 - 2, (25, 31, 3), "65472cdba206d4dc2569d3f93b4d68fc3435be68fb3b7eb4cff4663ca3260bda"),
    ],
)
def test_a_seed_gives_the_same_picture_everywhere(seed: int, shape: tuple[int, ...], digest: str) -> None:
    picture = proof_picture(seed, spec(32, 32))
    assert (picture.shape, hashlib.sha256(picture.tobytes()).hexdigest()) == (shape, digest)


def test_every_fourth_picture_needs_no_resize() -> None:
    square = spec(24, 28, resize="shorter_side", resize_size=40)
    sizes = {seed: proof_picture(seed, square).shape[:2] for seed in range(16)}
    assert all((sizes[seed] == (40, 40)) == is_exact(seed) for seed in sizes)
    assert all(side % 2 for seed, size in sizes.items() if not is_exact(seed) for side in size)
    assert proof_picture(3, spec(24, 28)).shape == (24, 28, 3)


def test_the_local_decoder_gives_the_colours_of_the_jpeg() -> None:
    assert decoder_error() <= ALLOWED_LEVELS
