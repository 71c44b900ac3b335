"""Pictures for training: reading them, the evaluation transform, and augmentation on whole batches.

The evaluation transform here is the reference that taijitu_runtime.preprocess is tested against.
"""

from __future__ import annotations

import hashlib
import io
import lzma
import os
import tarfile
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms.v2 import functional as TF

from taijitu_training.errors import DataError
from taijitu_training.recipe import Recipe

PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm"})
EVALUATION_SPLITS = ("test", "val")


@dataclass(frozen=True)
class Pictures:
    """One split in memory: `images` uint8 (N, H, W, 3) RGB after the evaluation transform, `targets` int64 (N,)."""

    images: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.targets)

    def subset(self, index: Tensor) -> Pictures:
        """The pictures at `index`, int64 (M,)."""
        return Pictures(self.images[index], self.targets[index])


@dataclass(frozen=True)
class Dataset:
    """Training and evaluation pictures with the same labels; `evaluation_name` says which split the latter are."""

    name: str
    sha256: str  # of the archive; empty for a folder
    labels: tuple[str, ...]
    train: Pictures
    evaluation: Pictures
    evaluation_name: str


def to_rgb(image: Image.Image) -> Image.Image:
    """Any Pillow image as 8-bit RGB, upright: EXIF applied, 16 bits scaled (not cut), alpha laid on black.

    DataError for float and 32-bit pixels, whose range nobody states.
    """
    image = ImageOps.exif_transpose(image)
    if image.mode == "F":
        raise DataError("got float pixels, expected 8 or 16 bits")
    if image.mode.startswith("I"):
        values = np.asarray(image, dtype=np.float64)
        if values.min() < 0 or values.max() > 65535:
            raise DataError("got 32-bit pixels, expected 8 or 16 bits")
        image = Image.fromarray(np.rint(values / 257.0).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or (image.mode == "P" and "transparency" in image.info):
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, (0, 0, 0, 255)), rgba)
    return image.convert("RGB")


def evaluation_transform(image: Image.Image, size: tuple[int, int], resize_size: int) -> NDArray[np.uint8]:
    """Shorter side to `resize_size` pixels (bilinear, antialiased), centre crop to `size`: uint8 (H, W, 3) RGB."""
    resized = TF.resize(to_rgb(image), [resize_size], antialias=True)
    return np.asarray(TF.center_crop(resized, list(size)), dtype=np.uint8)


def input_contract(size: tuple[int, int], resize_size: int, recipe: Recipe) -> dict[str, Any]:
    """How a picture becomes the network's input: what checkpoints carry and every later artefact repeats."""
    return {
        "height": size[0],
        "width": size[1],
        "colour": "RGB",
        "resize": "shorter_side",
        "resize_size": resize_size,
        "crop": "centre",
        "interpolation": "bilinear_antialias",
        "mean": list(recipe.mean),
        "std": list(recipe.std),
    }


def load_dataset(path: Path, size: tuple[int, int], validation: float = 0.0, seed: int = 0) -> Dataset:
    """Read `path`, a folder or tar of train/<label>/* and test/<label>/* (or val/), into memory at `size` (H, W).

    `validation` > 0 holds that share of each class's training pictures out and evaluates on them instead of on the
    test pictures, which are then not used at all. DataError names what is missing, corrupt or does not match.
    """
    wanted = ("train",) if validation else ("train", *EVALUATION_SPLITS)
    files = _read_tar(path, wanted) if path.is_file() else _read_folder(path, wanted)
    decoded = _decode(files, size)
    labels = tuple(sorted({label for split, label, *_ in decoded if split == "train"}))
    if unprintable := [label for label in labels if not label.isprintable()]:
        raise DataError(f"{path}: label {unprintable[0]!r} is not printable text; rename its folder")
    if len(labels) < 2:
        raise DataError(f"{path}: got {len(labels)} labels with pictures under train/, expected train/<label>/*.jpg")
    train = _collect(decoded, "train", labels)
    sha256 = _sha256(path) if path.is_file() else ""
    if validation:
        train, held_out = _hold_out(train, validation, seed)
        return Dataset(path.name, sha256, labels, train, held_out, f"validation ({validation:g} of train)")
    name = next((s for s in EVALUATION_SPLITS if any(split == s for split, *_ in decoded)), None)
    if name is None:
        raise DataError(f"{path}: got no pictures to evaluate on, expected test/<label>/* or val/; or --validation 0.1")
    if unknown := sorted({label for split, label, *_ in decoded if split == name} - set(labels)):
        raise DataError(f"{path}: {name}/ has labels that train/ lacks: {', '.join(unknown[:5])}; name folders alike")
    return Dataset(path.name, sha256, labels, train, _collect(decoded, name, labels), name)


_File = tuple[str, str, str, bytes]  # split, label, name in the data set, content
_Decoded = tuple[str, str, NDArray[np.uint8]]


def _parse(name: str, wanted: tuple[str, ...]) -> tuple[str, str] | None:
    """(split, label) of a path that ends in split/label/picture.ext, else None."""
    parts = PurePosixPath(name).parts
    if len(parts) < 3 or PurePosixPath(name).suffix.lower() not in PICTURE_SUFFIXES or parts[-3] not in wanted:
        return None
    return parts[-3], parts[-2]


def _read_tar(path: Path, wanted: tuple[str, ...]) -> Iterator[_File]:
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                if member.isfile() and (place := _parse(member.name, wanted)):
                    content = archive.extractfile(member)
                    assert content is not None  # only links and folders have none
                    yield *place, member.name, content.read()
    except (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, OSError) as error:
        raise DataError(
            f"{path}: not a readable tar ({error}); expected a folder or a .tar, .tar.gz, .tar.xz"
        ) from None


def _read_folder(path: Path, wanted: tuple[str, ...]) -> Iterator[_File]:
    if not path.is_dir():
        raise DataError(f"{path}: no such file or folder; expected a folder or tar of train/<label>/*.jpg and test/")
    # os.walk and not rglob: label folders are often links.
    found = sorted(Path(folder, name) for folder, _, names in os.walk(path, followlinks=True) for name in names)
    for file in found:
        if place := _parse(file.relative_to(path).as_posix(), wanted):
            try:
                yield *place, str(file), file.read_bytes()
            except OSError as error:
                raise DataError(f"{file}: cannot be read ({error.strerror}); check its permissions") from None


def _decode(files: Iterator[_File], size: tuple[int, int]) -> list[_Decoded]:
    """Every picture through the evaluation transform, in threads; DataError names the unreadable ones."""

    def decode(file: _File) -> _Decoded | str:
        split, label, name, content = file
        try:
            with Image.open(io.BytesIO(content)) as image:
                return split, label, evaluation_transform(image, size, min(size))
        except Exception as error:  # Pillow raises many kinds for a broken file
            reason = "no picture" if isinstance(error, UnidentifiedImageError) else str(error)
            return f"{name} ({reason})"

    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        decoded = list(pool.map(decode, files))
    finally:
        pool.shutdown(cancel_futures=True)
    if broken := [entry for entry in decoded if isinstance(entry, str)]:
        more = f" and {len(broken) - 3} more" if len(broken) > 3 else ""
        raise DataError(f"unreadable pictures: {'; '.join(broken[:3])}{more}; repair or remove them")
    return [entry for entry in decoded if not isinstance(entry, str)]


def _collect(decoded: list[_Decoded], split: str, labels: tuple[str, ...]) -> Pictures:
    index = {label: i for i, label in enumerate(labels)}
    chosen = [(index[label], pixels) for s, label, pixels in decoded if s == split]
    images = torch.from_numpy(np.stack([pixels for _, pixels in chosen]))
    return Pictures(images, torch.tensor([target for target, _ in chosen]))


def _hold_out(pictures: Pictures, share: float, seed: int) -> tuple[Pictures, Pictures]:
    """(the rest, the held out): the same share of every class, drawn with `seed`."""
    generator = torch.Generator().manual_seed(seed)
    held = torch.zeros(len(pictures), dtype=torch.bool)
    for target in pictures.targets.unique():
        members = (pictures.targets == target).nonzero().flatten()
        order = members[torch.randperm(len(members), generator=generator)]
        count = max(1, round(share * len(members)))
        if count == len(members):
            raise DataError(f"got {count} training pictures of a label, too few to hold {share:g} of them out")
        held[order[:count]] = True
    return pictures.subset((~held).nonzero().flatten()), pictures.subset(held.nonzero().flatten())


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def normalise(images: Tensor, recipe: Recipe) -> Tensor:
    """uint8 (N, H, W, 3) -> float32 (N, 3, H, W) with mean 0 and std 1 per channel, in channels_last memory."""
    mean = torch.tensor(recipe.mean, device=images.device) * 255.0
    std = torch.tensor(recipe.std, device=images.device) * 255.0
    return ((images.float() - mean) / std).permute(0, 3, 1, 2)


class Augmenter:
    """Random crop of reflect-padded pictures, mirroring and brightness, a whole batch in a few tensor operations.

    Holds the padded training pictures (uint8, on their device) so that crop and mirror are one gather.
    """

    def __init__(self, pictures: Pictures, recipe: Recipe) -> None:
        self.height, self.width = pictures.images.shape[1:3]
        self.recipe = recipe
        p = recipe.pad
        if p >= min(self.height, self.width):
            raise DataError(f"got pad={p}, expected less than the pictures' {self.height}x{self.width} pixels")
        chunks = pictures.images.permute(0, 3, 1, 2).split(4096)
        padded = [F.pad(chunk.float(), (p, p, p, p), mode="reflect").to(torch.uint8) for chunk in chunks]
        self.padded = torch.cat(padded).permute(0, 2, 3, 1).contiguous()
        self.targets = pictures.targets

    def batch(self, index: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """The pictures at `index`, int64 (B,): normalised float32 (B, 3, H, W) channels_last, and targets (B,)."""
        n, device = len(index), self.padded.device

        def draw(shape: tuple[int, ...]) -> Tensor:
            return torch.rand(shape, generator=generator).to(device)

        corner = (draw((2, n)) * (2 * self.recipe.pad + 1)).long()
        rows = corner[0][:, None] + torch.arange(self.height, device=device)
        columns = torch.arange(self.width, device=device).expand(n, -1)
        columns = torch.where(draw((n, 1)) < self.recipe.flip, self.width - 1 - columns, columns) + corner[1][:, None]
        images = self.padded[index[:, None, None], rows[:, :, None], columns[:, None, :]].float()
        factor = 1.0 + self.recipe.brightness * (2.0 * draw((n, 1, 1, 1)) - 1.0)
        return normalise((images * factor).clamp_(0.0, 255.0), self.recipe), self.targets[index]
