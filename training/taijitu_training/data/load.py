"""Load a data set from a path: its form, its consistency, and whether it is in memory or streamed."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from taijitu_runtime.console import shown
from taijitu_runtime.datasets import (
    UNREADABLE,
    Found,
    HeldOut,
    Reading,
    Role,
    Split,
    TrainedOn,
    dataset_sha256,
    fingerprints,
    label_counts,
    read_dataset,
)
from taijitu_runtime.errors import DataError, name_hint
from taijitu_training.data.augmentation.augment import padded_bytes
from taijitu_training.data.checks import check_judged, check_names, check_readable, check_trained
from taijitu_training.data.dataset import DataRequest, Dataset, Source, Stream
from taijitu_training.data.in_memory import Unreadable, checked, decode
from taijitu_training.data.pictures import Pictures
from taijitu_training.data.samples import Decoder, Samples
from taijitu_training.data.shard_folder import dataset_of_shards, shards_by_split
from taijitu_training.torchrun import is_first

UNSPLIT_SHARE = 0.2
"""The held-out share of a data set without splits, unless the user sets another."""


def load_dataset(request: DataRequest) -> Dataset:
    """Load what is asked for; `Dataset.form` names the form of the data set.

    - A folder or tar of train/<label>/*, val/<label>/* and test/<label>/*, or of <label>/* alone with `validation`.
      A list of path,label[,split].
    - cifar-10-batches-py and -bin, cifar-100-python and -binary, MNIST's idx files: the folder, the folder above it,
      or the archive as it was downloaded.
    - A folder of WebDataset shards train-*.tar and val-*.tar (or test-*.tar).

    The network learns from train, is judged after every epoch on val, and measured once, at the end, on test. Without
    val it is judged on test, and nothing is chosen by that.

    Pictures are decoded into memory if the recipe crops padded ones and all of them, with the padded copies, take at
    most half of the free memory, except shards. The others are decoded while the network trains. DataError names what
    is missing, corrupt or does not match, before training starts; for streamed pictures, see `checked`; training
    pictures in a shard are not checked.
    """
    pool, unreadable = request.pool(), Unreadable(request.skip_unreadable)
    if shards := shards_by_split(request.path):
        return dataset_of_shards(request, shards, pool, unreadable)
    found = _found(request)
    prints = {role: fingerprints(split.contents, hidden=not is_first()) for role, split in found.splits.items()}
    divided, trained_on, prints_of_judged = _hold_out(found, prints, request)
    seen_before = _seen_before(divided, prints_of_judged, request)
    if request.other is not None:
        divided = _without_last(divided)
    check_judged(divided)
    splits = _readable(divided, pool.decoder, request, unreadable)
    sources: dict[Role, Source] = {
        role: split if isinstance(split, Pictures) else Stream(split, pool) for role, split in splits.items()
    }
    judging: Role = "val" if "val" in sources else "test"
    counts = label_counts(splits["train"].targets.numpy(), divided.labels)
    return Dataset(
        name=shown(request.path.absolute().name),
        sha256=dataset_sha256(found, prints),
        labels=divided.labels,
        train=sources["train"],
        evaluation=sources[judging],
        evaluation_name=divided.splits[judging].name,
        size=request.size,
        form=f"{found.form}, {'in memory' if isinstance(sources['train'], Pictures) else 'decoded while training'}",
        test=sources.get("test") if judging == "val" else None,
        trained_on=trained_on,
        label_counts=counts,
        others=len(sources["train"]) - sum(counts.values()),
        left_out=found.left_out,
        unreadable=tuple(unreadable.listed),
        repeated=_repeated(found, prints),
        test_in_val=_shared(prints.get("val", []), prints.get("test", [])),
        contradicted=_contradicted(found.splits["train"], prints["train"]),
        seen_before=seen_before,
        before=request.before,
        is_balanced="balanced" in (request.recipe.sampler, request.recipe.class_weights),
        remarks=found.remarks,
    )


def _found(request: DataRequest) -> Found:
    """Read the splits that will be used, train alone where there are none; `request.other` is the last label."""
    needed: tuple[Role, ...] = ("train", "test", "") if request.validation else ("train", "val", "test", "")
    found = read_dataset(request.path, Reading(request.label_level, needed=needed))
    if request.other is not None:
        if request.other not in found.labels:
            raise DataError(
                f"{found.source}: got --other {request.other}, expected a label of the data, of pictures that show "
                f"none of the others; {name_hint(request.other, found.labels)}"
            )
        found = found.with_last(request.other)
    check_names(found, request.other)
    found = replace(found, splits={role or "train": split for role, split in found.splits.items()})
    check_trained(found)
    return found


def _hold_out(
    found: Found, prints: Mapping[Role, list[str]], request: DataRequest
) -> tuple[Found, TrainedOn, dict[Role, list[str]]]:
    """Hold val out of train as requested; return a sample of the pictures that are left to train on, too.

    The third are the fingerprints of the splits to judge by. `prints`: those of all splits of `found`.
    """
    of_train = prints["train"]
    judged: dict[Role, list[str]] = {role: its for role, its in prints.items() if role != "train"}
    share, seed = request.validation, request.recipe.seed
    if share is None and "val" not in found.splits and (request.choose or "test" not in found.splits):
        share = UNSPLIT_SHARE
    if not share:
        return found, TrainedOn.of(of_train, other=request.other), judged
    whole = found.splits["train"]
    held_out = HeldOut.draw(of_train, whole.known_targets, found.labels, share, seed)
    held = held_out.mask(of_train, whole.known_targets, found.labels)
    val = replace(whole.where(held), name=f"validation ({share:g} of train)")
    splits: dict[Role, Split] = {**found.splits, "train": whole.where(~held), "val": val}
    trained_on = TrainedOn.of([*itertools.compress(of_train, ~held)], held_out, request.other)
    return replace(found, splits=splits), trained_on, {**judged, "val": [*itertools.compress(of_train, held)]}


def _seen_before(divided: Found, prints: Mapping[Role, list[str]], request: DataRequest) -> dict[str, float]:
    """Return which share of the pictures of `request.before` is in each split to judge by, by its name, where some are.

    `prints`: the fingerprints of those splits. Pictures of `request.other`, the last label, judge nothing.
    """
    if request.before is None:
        return {}
    known = len(divided.labels) - (request.other is not None)
    found: dict[str, float] = {}
    for role, its in prints.items():
        split = divided.splits[role]
        judging = itertools.compress(its, split.known_targets < known)
        if share := request.before.found_of_all([*judging]):
            found[split.name] = share
    return found


def _without_last(found: Found) -> Found:
    """Remove the last label, and its pictures from all splits but train, where their target stays behind the others."""
    labels = found.labels[:-1]
    splits = {
        role: split if role == "train" else split.where(split.known_targets < len(labels))
        for role, split in found.splits.items()
    }
    return replace(found, labels=labels, splits=splits)


def _readable(
    found: Found, decoder: Decoder, request: DataRequest, unreadable: Unreadable
) -> dict[Role, Pictures | Samples]:
    """Decode the splits that fit in memory, and check the files of the others, which will be streamed."""
    rooms = {role: padded_bytes(len(split), decoder.size, 0) for role, split in found.splits.items()}
    judged, budget, recipe = sum(rooms.values()) - rooms["train"], request.room, request.recipe
    padded = padded_bytes(len(found.splits["train"]), decoder.size, recipe.pad)
    in_memory = recipe.crop == "padded" and judged + padded <= budget
    splits = {}
    for role, split in found.splits.items():
        take = decode if in_memory or (role != "train" and judged <= budget) else checked
        splits[role] = take(Samples.of(split), decoder, unreadable)
    unreadable.check()
    check_readable(found.source, found.labels, {role: split.targets.numpy() for role, split in splits.items()})
    return splits


def _repeated(found: Found, prints: dict[Role, list[str]]) -> dict[str, int]:
    """Return the number of pictures that train has too, by the name of the split that they are in."""
    others = {found.splits[role].name: its for role, its in prints.items() if role != "train"}
    return {name: count for name, its in others.items() if (count := _shared(prints["train"], its))}


def _shared(some: list[str], others: list[str]) -> int:
    """Return the number of `others` that `some` has too; both are fingerprints."""
    return sum(map((set(some) - {UNREADABLE}).__contains__, others))


def _contradicted(train: Split, prints: list[str]) -> int:
    """Return the number of different pictures to train on that have more than one label."""
    pairs = set(zip(prints, train.known_targets.tolist(), strict=True))
    counts = Counter(fingerprint for fingerprint, _ in pairs if fingerprint != UNREADABLE)
    return sum(count > 1 for count in counts.values())
