"""Folders and tars of pictures: train/<label>/*, test/<label>/*."""

from __future__ import annotations

import hashlib
import io
import lzma
import os
import tarfile
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from taijitu_training.data.pictures import Dataset, Pictures, evaluation_transform
from taijitu_training.errors import DataError

PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm"})
EVALUATION_SPLITS = ("test", "val")


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
