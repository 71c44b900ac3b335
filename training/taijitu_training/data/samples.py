"""Undecoded pictures in any order, and the decoder that makes network input of them."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
import torch.utils.data
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from taijitu_training.data.crop import random_resized_crop
from taijitu_training.data.pictures import evaluation_resize, evaluation_transform
from taijitu_training.data.share import Cut, Share, generator_of
from taijitu_training.recipe import Recipe


class Encoded(NamedTuple):
    """The bytes of a picture file, and what errors call it."""

    name: str
    data: bytes


Content: TypeAlias = "str | Encoded | NDArray[np.uint8]"  # a file's path, its bytes, or pixels (H, W) or (H, W, 3)


class Job(NamedTuple):
    """A picture to decode: at random as `drawn` seeds it, or by the evaluation transform where that is empty."""

    content: Content
    target: int
    drawn: tuple[int, ...] = ()


@dataclass(frozen=True)
class Samples:
    """Undecoded pictures and their targets, int64 (N,): what a folder, an archive or an array of pixels holds."""

    contents: Sequence[Content] | NDArray[np.uint8]
    targets: Tensor

    def __len__(self) -> int:
        return len(self.targets)

    def subset(self, index: Tensor) -> Samples:
        """The pictures at `index`, int64 (M,)."""
        if isinstance(self.contents, np.ndarray):
            return Samples(self.contents[index.numpy()], self.targets[index])
        return Samples([self.contents[i] for i in index.tolist()], self.targets[index])

    def in_an_epoch(self, share: Share) -> int:
        """All of them."""
        return len(self)

    def shuffled(self, seed: int, epoch: int, first_step: int, cut: Cut) -> Iterator[tuple[Content, int]]:
        """This process's pictures of `epoch` from `first_step` on, batch by batch."""
        order = torch.randperm(len(self), generator=generator_of(seed, epoch))
        for step in range(first_step, cut.steps):
            batch = order[cut.where(step)]
            for part in cut.parts(step):
                yield from self._at(batch[part])

    def in_order(self, share: Share) -> Iterator[tuple[Content, int]]:
        """This process's pictures, each of all of them in exactly one process."""
        return self._at(torch.arange(share.rank, len(self), share.processes))

    def _at(self, index: Tensor) -> Iterator[tuple[Content, int]]:
        for i, target in zip(index.tolist(), self.targets[index].tolist(), strict=True):
            yield self.contents[i], target


@dataclass(frozen=True)
class Decoder(torch.utils.data.Dataset[tuple["NDArray[np.uint8] | str", int]]):
    """Makes pictures of `size` (H, W): by the evaluation transform, or for training by a random crop where asked."""

    size: tuple[int, int]
    resize_size: int  # pixels of the shorter side before the evaluation transform's crop
    crop_area: float | None  # smallest share of the area that a random crop takes; None: no random crop

    @classmethod
    def of(cls, size: tuple[int, int], recipe: Recipe) -> Decoder:
        """The decoder that `recipe` wants."""
        return cls(size, evaluation_resize(size, recipe), recipe.crop_area if recipe.crop == "resized" else None)

    def keeps(self, shape: tuple[int, ...]) -> bool:
        """Whether the evaluation transform hands pixels of `shape` back as they are."""
        return shape == (*self.size, 3) and self.resize_size == min(self.size)

    def __getitem__(self, job: Job) -> tuple[NDArray[np.uint8] | str, int]:
        """uint8 (H, W, 3) RGB and the target; in place of the pixels what is wrong with the file, if it is broken."""
        try:
            with open_picture(job.content) as image:
                if self.crop_area is not None and job.drawn:
                    generator = generator_of(*job.drawn)
                    return random_resized_crop(image, self.size, self.crop_area, generator), job.target
                return evaluation_transform(image, self.size, self.resize_size), job.target
        except Exception as error:  # Pillow raises many kinds for a broken file
            return fault(job.content, error), job.target


def open_picture(content: Content) -> Image.Image:
    """`content` as a Pillow image of which only the header is read yet."""
    if isinstance(content, np.ndarray):
        return Image.fromarray(content)
    return Image.open(content if isinstance(content, str) else io.BytesIO(content.data))


def fault(content: Content, error: Exception) -> str:
    """The file's name and, in brackets, why it cannot be decoded."""
    name = content if isinstance(content, str) else content.name if isinstance(content, Encoded) else "an array"
    if isinstance(error, UnidentifiedImageError):
        return f"{name} (no picture)"
    if isinstance(error, OSError) and error.strerror:
        return f"{name} ({error.strerror})"
    return f"{name} ({' '.join(str(error).split()) or type(error).__name__})"
