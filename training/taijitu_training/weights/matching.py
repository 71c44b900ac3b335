"""Match the tensors of a file to those of a network: by their names, with any prefix, or by their order."""

from __future__ import annotations

import fnmatch
import re
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from taijitu_training.errors import CheckpointError
from taijitu_training.models.external import ExternalNetwork

COUNTERS = ("*num_batches_tracked", "*n_averaged", "*total_ops", "*total_params")
"""Tensors that are not used to compute, of batch norm, weight averaging and thop."""

Tensors = Mapping[str, Tensor]
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Match:
    """Each tensor of a network that the file has, by the network's name for it.

    `how`: how they were matched, in words. `outside`: the file's names without the prefix. `unknown`: those with it
    that the network does not have. `missing`: the network's names that the file does not have. `misfits`: the shapes in
    the file and in the network, if they differ.
    """

    tensors: dict[str, Tensor]
    how: str
    outside: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    misfits: dict[str, tuple[Shape, Shape]] = field(default_factory=dict)


def match_by_name(weights: Tensors, network: nn.Module, prefix: str | None = None) -> Match:
    """Match tensors by their names after `prefix`, or after the prefix with which most of them are the network's.

    `torch.compile`'s `_orig_mod.` does not count as a part of a name. A tensor that the network uses several times
    may be in the file once. CheckpointError if two prefixes match equally well, such tensors differ, or two of the file
    become one tensor of the network.
    """
    wanted, outer = _inner_names(network), _outer_prefix(network)
    cleaned = _without_compile(weights)
    before = _found_prefix(cleaned, wanted.keys()) if prefix is None else prefix
    found = {name[len(before) :]: value for name, value in cleaned.items() if name.startswith(before)}
    _fill_shared(found, wanted)
    counters = {name: torch.zeros_like(own) for name, own in wanted.items() if _is_counter(name)}
    fitting = {
        name: _converted(name, found[name], own)
        for name, own in wanted.items()
        if name in found and found[name].shape == own.shape
    }
    stripped = f' behind "{before}"' if before else ""
    compiled = ", without torch.compile's _orig_mod" if cleaned.keys() != weights.keys() else ""
    return Match(
        _outer(network, {**counters, **fitting}),
        f"{len(fitting)} tensors by name{stripped}{compiled}",
        outside=tuple(name for name in cleaned if not name.startswith(before) and not _is_counter(name)),
        unknown=tuple(name for name in found if name not in wanted and not _is_counter(name)),
        missing=tuple(outer + name for name in wanted if name not in found and name not in counters),
        misfits={
            outer + name: (tuple(found[name].shape), tuple(own.shape))
            for name, own in wanted.items()
            if name in found and name not in fitting and name not in counters
        },
    )


def match_by_order(weights: Tensors, network: nn.Module) -> Match:
    """Match tensors by their order: as many in the file as in the network, each of the same shape and kind.

    The kind is the last part of the name: weight, bias, running_mean. CheckpointError if one differs.
    """
    theirs = [(name, value) for name, value in weights.items() if not _is_counter(name)]
    wanted = _inner_names(network)
    ours = [(name, value) for name, value in wanted.items() if not _is_counter(name)]
    for index, ((their_name, their), (our_name, our)) in enumerate(zip(theirs, ours)):
        if their.shape != our.shape or _kind(their_name) != _kind(our_name):
            raise CheckpointError(
                f"got {their_name} {tuple(their.shape)} as tensor {index + 1} of the file, where the network has "
                f"{our_name} {tuple(our.shape)}; their order is not the same, give weights with the network's names"
            )
    if len(theirs) != len(ours):
        raise CheckpointError(
            f"got {len(theirs)} tensors for a network of {len(ours)}, expected as many; check --model"
        )
    counters = {name: torch.zeros_like(own) for name, own in wanted.items() if _is_counter(name)}
    renamed = [f"{their} is {our}" for (their, _), (our, _) in zip(theirs, ours) if their != our]
    taken = {our: _converted(name, value, own) for (name, value), (our, own) in zip(theirs, ours)}
    how = f"{len(ours)} tensors by order, shape and kind, {len(renamed)} under another name"
    if renamed:
        how += f" ({renamed[0]})"
    return Match(_outer(network, {**counters, **taken}), how)


def _without_compile(weights: Tensors) -> dict[str, Tensor]:
    """Return the tensors by their names without torch.compile's part. CheckpointError if two names become one."""
    given: dict[str, str] = {}
    for name in weights:
        if (other := given.setdefault(name.replace("_orig_mod.", ""), name)) != name:
            raise CheckpointError(
                f"got {other} and {name}, which are one tensor without torch.compile's _orig_mod, expected it once; "
                "remove one of them"
            )
    return {short: weights[name] for short, name in given.items()}


def _found_prefix(names: Collection[str], wanted: Collection[str]) -> str:
    """Return `_best_prefix`. CheckpointError if a tensor behind it is in the file without it too.

    Behind the prefix of a moving average it is: the weights that were averaged are in the file then.
    """
    prefix = _best_prefix(names, wanted)
    if prefix and not _is_average(prefix):
        plain = (name for name in wanted if name in names and not name.startswith(prefix))
        if twice := next((name for name in plain if prefix + name in names), None):
            raise CheckpointError(
                f"got {twice} and {prefix}{twice}, expected one of them; remove the other, or take the set behind the "
                f"prefix: --prefix {prefix}"
            )
    return prefix


def _is_average(prefix: str) -> bool:
    """Return whether a word of the prefix is ema, as in model_ema and netEMA, and not only a part of it (semantic)."""
    return re.search("(?<![a-zA-Z])ema(?![a-z])|EMA|Ema(?![a-z])", prefix) is not None


def _best_prefix(names: Collection[str], wanted: Collection[str]) -> str:
    """Return the prefix of the names in the file that are the network's, for as many as possible.

    "" if there is none.
    """
    counts: Counter[str] = Counter()
    for name in names:
        parts = name.split(".")
        for i in range(len(parts)):
            if ".".join(parts[i:]) in wanted:
                counts["".join(f"{part}." for part in parts[:i])] += 1
    if not counts:
        return ""
    most = max(counts.values())
    best = [prefix for prefix, count in counts.items() if count == most]
    if len(best) > 1 and 2 * most < len(wanted):  # blocks of another network, and not several of this one
        return ""
    averages = [prefix for prefix in best if _is_average(prefix)]
    if len(best) > 1 and len(averages) != 1:
        names = " or ".join(prefix or "''" for prefix in best)
        raise CheckpointError(f"got {len(best)} sets of weights, expected one; say which: --prefix {names}")
    return (averages if len(best) > 1 else best)[0]


def _fill_shared(found: dict[str, Tensor], wanted: Tensors) -> None:
    """Give a tensor that the network has under several names, and the file under one, all of them."""
    groups: dict[tuple[int, torch.Size], list[str]] = {}
    for name, value in wanted.items():
        if value.numel():
            groups.setdefault((value.data_ptr(), value.shape), []).append(name)
    for group in groups.values():
        there = [name for name in group if name in found]
        # In float64, as torch compares no 8-bit floating-point numbers.
        if differing := [name for name in there[1:] if not torch.equal(found[name].double(), found[there[0]].double())]:
            raise CheckpointError(f"got other numbers in {differing[0]} than in {there[0]}, expected the same tensor")
        found.update({name: found[there[0]] for name in group if there})


def _converted(name: str, value: Tensor, own: Tensor) -> Tensor:
    """Return a tensor of the file in the network's type.

    CheckpointError for whole numbers in place of weights, and for others than whole ones in place of these.
    """
    if own.is_floating_point() and not value.is_floating_point():
        raise CheckpointError(
            f"got {name} of {str(value.dtype).removeprefix('torch.')}, expected floating-point numbers: the weights "
            "are quantised, or packed; give those before that"
        )
    converted = value.to(own.dtype)
    if not own.is_floating_point() and not torch.equal(converted.to(value.dtype), value):
        raise CheckpointError(
            f"got {name} of {str(value.dtype).removeprefix('torch.')}, with numbers that are none of "
            f"{str(own.dtype).removeprefix('torch.')}, which the network has there; give it as it was saved"
        )
    return converted


def _inner_names(network: nn.Module) -> dict[str, Tensor]:
    """Return the network's tensors by their library's names: without "network." of an ExternalNetwork."""
    return {name.removeprefix(_outer_prefix(network)): value for name, value in network.state_dict().items()}


def _outer(network: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {_outer_prefix(network) + name: value for name, value in tensors.items()}


def _outer_prefix(network: nn.Module) -> str:
    return "network." if isinstance(network, ExternalNetwork) else ""


def _is_counter(name: str) -> bool:
    return any(fnmatch.fnmatch(name, pattern) for pattern in COUNTERS)


def _kind(name: str) -> str:
    return name.rpartition(".")[2]
