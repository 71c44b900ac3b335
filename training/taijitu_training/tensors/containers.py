"""Find the weights in a file of PyTorch: the containers of EMA, timm and Lightning, modules saved whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from taijitu_training.errors import CheckpointError

AVERAGES = ("state_dict_ema", "ema_state_dict", "model_ema", "ema")
WEIGHTS = ("state_dict", "model_state_dict", "model", "net", "network", "module", "params", "weights")
MAX_MODULES = 10_000
"""The largest number of modules in one saved whole; a few hundred bytes may be 2^24, as they may be in each other."""


class InertObject:
    """A stand-in for an object in a file: keeps its state, and does nothing."""

    state: Any = None

    def __init__(self, *arguments: Any) -> None:
        """Take any arguments."""

    def __setstate__(self, state: Any) -> None:
        self.state = state


def weights_in(path: Path, content: Any, key: str | None) -> tuple[dict[str, Tensor], str]:
    """Return the tensors of `content`, the content of a file, and which part of it they are, in words.

    `key`: the entry of a container, if another one is meant than the first of `AVERAGES` and `WEIGHTS`.
    CheckpointError if there are none, or several and none of these names.
    """
    words = ["Lightning checkpoint"] if _is_lightning(content) else []
    wanted = key
    opened: dict[int, Any] = {}  # by identity; it holds them, so that no two have the same
    while True:
        if id(content) in opened:
            raise CheckpointError(f"{path}: got a PyTorch file that contains itself, expected weights; check it")
        opened[id(content)] = content
        if (module := _module_state(content)) is not None:
            content = dict(_module_tensors(path, module))
            words.append("a module saved whole, of which only the weights were read")
        sets = _sets_in(content)
        if wanted is not None:
            if wanted not in sets:
                raise CheckpointError(f"{path}: got --key {wanted}, expected one of {', '.join(sets) or 'none'}")
            chosen, wanted = wanted, None
        elif not sets or (_is_state(content) and not set(sets) & {*AVERAGES, *WEIGHTS}):
            break
        else:
            chosen = _choose(path, sets)
        others = [name for name in sets if name != chosen]
        words.append(f"{chosen}{f' (it has {_and(others)} too: --key)' if others else ''}")
        content = content[chosen]
    tensors = (
        {name: value for name, value in content.items() if isinstance(value, Tensor)} if _is_state(content) else {}
    )
    if not tensors:
        raise CheckpointError(f"{path}: got a PyTorch file without weights, expected some; check it")
    return tensors, ", ".join(words)


def _choose(path: Path, sets: list[str]) -> str:
    known = [name for name in (*AVERAGES, *WEIGHTS) if name in sets]
    if not known and len(sets) > 1:
        raise CheckpointError(f"{path}: got several sets of weights, expected one; say which by --key: {_and(sets)}")
    return (known or sets)[0]


def _sets_in(content: Any) -> list[str]:
    """Return the keys of a container whose values hold weights."""
    if not isinstance(content, Mapping):
        return []
    return [
        key
        for key, value in content.items()
        if isinstance(key, str) and (_is_state(value) or _module_state(value) is not None or _holds_known(value))
    ]


def _holds_known(value: Any) -> bool:
    return isinstance(value, Mapping) and any(_is_state(value.get(name)) for name in (*AVERAGES, *WEIGHTS))


def _is_state(value: Any) -> bool:
    """Return whether `value` is a state dict: tensors by name, possibly among other values."""
    return isinstance(value, Mapping) and any(
        isinstance(name, str) and isinstance(item, Tensor) for name, item in value.items()
    )


def _is_lightning(content: Any) -> bool:
    return isinstance(content, Mapping) and not content.keys().isdisjoint(
        ("pytorch-lightning_version", "hyper_parameters")
    )


def _module_state(value: Any) -> dict[str, Any] | None:
    """Return the content of a pickled nn.Module, if `value` stands for one."""
    state = getattr(value, "state", None) if isinstance(value, InertObject) else None
    return state if isinstance(state, dict) and "_modules" in state else None


def _module_tensors(path: Path, module: dict[str, Any]) -> Iterator[tuple[str, Tensor]]:
    """Yield names and tensors in the order of `state_dict`. CheckpointError for more modules than networks have."""
    waiting, count = [("", module)], 0
    while waiting:
        prefix, state = waiting.pop()
        count += 1
        if count > MAX_MODULES:
            raise CheckpointError(
                f"{path}: got more than {MAX_MODULES} modules within each other, expected a network; where it was "
                "made, save model.state_dict()"
            )
        for kind in ("_parameters", "_buffers"):
            for name, value in _entries(state, kind):
                if isinstance(value, Tensor) and name not in (state.get("_non_persistent_buffers_set") or ()):
                    yield prefix + name, value.detach()
        children = [(f"{prefix}{name}.", _module_state(child)) for name, child in _entries(state, "_modules")]
        waiting += [(name, inner) for name, inner in reversed(children) if inner is not None]


def _entries(state: dict[str, Any], kind: str) -> list[tuple[str, Any]]:
    """Return what a module has by name: text, except in a crafted file."""
    given = state.get(kind)
    return [each for each in given.items() if isinstance(each[0], str)] if isinstance(given, Mapping) else []


def _and(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
