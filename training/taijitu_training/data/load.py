"""From a path to a data set: its form, whether it fits together, and whether it lies in memory or is streamed."""

from __future__ import annotations

from pathlib import Path

import torch

from taijitu_training.data.augment import padded_bytes
from taijitu_training.data.budget import host_budget
from taijitu_training.data.dataset import Dataset, Source, Stream
from taijitu_training.data.decode import check_headers, decode
from taijitu_training.data.folder import FORMS, read_folder, read_tar, sha256_of
from taijitu_training.data.found import Found
from taijitu_training.data.samples import Decoder, Samples
from taijitu_training.data.shard_folder import read_shards, shards_by_split
from taijitu_training.data.share import Share
from taijitu_training.data.webdataset_shards import Shards
from taijitu_training.data.workers import Workers, default_workers
from taijitu_training.errors import DataError
from taijitu_training.recipe import Recipe


def load_dataset(
    path: Path, size: tuple[int, int], recipe: Recipe, validation: float = 0.0, workers: int | None = None
) -> Dataset:
    """The data set at `path` for networks of input `size` (H, W); `Dataset.form` says as what it was read.

    - A folder or tar of train/<label>/* and test/<label>/* (or val/), or of <label>/* alone with `validation`.
    - cifar-10-batches-py and -bin, cifar-100-python and -binary, MNIST's idx files: the folder, the folder above it,
      or the archive as it was downloaded.
    - A folder of WebDataset shards train-*.tar and val-*.tar (or test-*.tar).

    `validation` > 0 holds that share of each label's training pictures out, drawn by the recipe's seed, and evaluates
    on them instead of on the test pictures, which are then not used at all.

    Pictures lie decoded in memory where the recipe crops padded ones and all of them, with the padded copies, take at
    most half of the free memory, shards apart. The others are decoded while the network trains, in `workers` processes
    (None: as many as there are cores, up to 16; 0: in this one). DataError names what is missing, corrupt or does not
    match, before training starts; of a picture that is streamed, only the header is looked at (see `check_headers`), of
    one to train on in a shard not even that.
    """
    pool = Workers(Decoder.of(size, recipe), default_workers() if workers is None else workers)
    if splits := shards_by_split(path):
        return _of_shards(path, splits, validation, pool)
    is_file = path.is_file()
    found = (read_tar if is_file else read_folder)(path, evaluation=not validation)
    _check_names(path, found.labels)
    _check_pictures(path, found, evaluation=not validation)
    train, evaluation, name = found.train, found.evaluation, found.evaluation_name
    if validation:
        train, evaluation = _hold_out(train, found.labels, validation, recipe.seed)
        name = f"validation ({validation:g} of train)"
    assert evaluation is not None  # _check_pictures
    evaluation_room = _pixels(len(evaluation), size)
    train_room = padded_bytes(len(train), size, recipe.pad)
    budget = host_budget()
    in_memory = recipe.crop == "padded" and train_room + evaluation_room <= budget
    train_source = _source(train, pool, in_memory)
    evaluation_source = _source(evaluation, pool, in_memory or evaluation_room <= budget)
    form = f"{found.form}, {'in memory' if in_memory else 'decoded while training'}"
    sha256 = sha256_of(path) if is_file else ""
    return Dataset(path.absolute().name, sha256, found.labels, train_source, evaluation_source, name, size, form)


def _of_shards(path: Path, splits: dict[str, list[Path]], validation: float, pool: Workers) -> Dataset:
    if validation:
        raise DataError(
            f"{path}: got --validation for WebDataset shards, expected none; rename some of train-*.tar to val-*.tar"
        )
    found = read_shards(path, splits)
    _check_names(path, found.labels)
    evaluation: Source = Stream(found.evaluation, pool)
    if _pixels(len(found.evaluation), pool.decoder.size) <= host_budget():
        evaluation = decode(_samples(found.evaluation), pool.decoder)
    train = Stream(found.train, pool)
    name, form = found.evaluation_name, f"{found.form}, decoded while training"
    return Dataset(path.absolute().name, "", found.labels, train, evaluation, name, pool.decoder.size, form)


def _source(samples: Samples, pool: Workers, in_memory: bool) -> Source:
    if in_memory:
        return decode(samples, pool.decoder)
    check_headers(samples)
    return Stream(samples, pool)


def _samples(shards: Shards) -> Samples:
    contents, targets = zip(*shards.in_order(Share()), strict=True)
    return Samples(contents, torch.tensor(targets))


def _pixels(count: int, size: tuple[int, int]) -> int:
    """Bytes of `count` decoded pictures."""
    return count * size[0] * size[1] * 3


def _check_names(path: Path, labels: tuple[str, ...]) -> None:
    if unprintable := [label for label in labels if not label.isprintable()]:
        raise DataError(f"{path}: label {unprintable[0]!r} is not printable text; rename its folder")
    if len(labels) < 2:
        raise DataError(f"{path}: got {len(labels)} labels with pictures to train on, expected {FORMS}")


def _check_pictures(path: Path, found: Found, evaluation: bool) -> None:
    """DataError for a label without pictures, in what will be used."""
    if missing := _without_pictures(found.train, found.labels):
        raise DataError(f"{path}: no pictures to train on of: {missing}; add some, or remove the label's folder")
    if not evaluation:
        return
    if found.evaluation is None:
        raise DataError(
            f"{path}: got no pictures to evaluate on ({found.form}), expected test/<label>/* or val/ beside train/; "
            "or hold some out with --validation 0.2"
        )
    if missing := _without_pictures(found.evaluation, found.labels):
        raise DataError(
            f"{path}: {found.evaluation_name} lacks pictures of: {missing}; without them its accuracy would mislead: "
            "add some, or hold some out with --validation 0.1"
        )


def _without_pictures(samples: Samples, labels: tuple[str, ...]) -> str:
    counts = torch.bincount(samples.targets, minlength=len(labels)).tolist()
    return ", ".join([label for label, count in zip(labels, counts, strict=True) if count == 0][:5])


def _hold_out(samples: Samples, labels: tuple[str, ...], share: float, seed: int) -> tuple[Samples, Samples]:
    """(the rest, the held out): the same share of every label, drawn with `seed`."""
    generator = torch.Generator().manual_seed(seed)
    held = torch.zeros(len(samples), dtype=torch.bool)
    for target, label in enumerate(labels):
        members = (samples.targets == target).nonzero().flatten()
        order = members[torch.randperm(len(members), generator=generator)]
        count = max(1, round(share * len(members)))
        if count == len(members):
            raise DataError(f"got {count} pictures of {label}, too few to hold {share:g} of them out; add more")
        held[order[:count]] = True
    return samples.subset((~held).nonzero().flatten()), samples.subset(held.nonzero().flatten())
