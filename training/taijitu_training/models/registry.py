"""Names for architectures: `@register_model` in the model's file, `create_model` and `list_models` for everybody."""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from torch import nn

from taijitu_training.errors import TaijituError, UnknownNameError


@dataclasses.dataclass(frozen=True)
class ModelOptions:
    """What every architecture can be told; each family adds its own fields. The defaults are its paper's."""

    num_classes: int = 1000
    act: str = "relu"

    def __post_init__(self) -> None:
        if self.num_classes < 1:
            raise TaijituError(f"got num_classes={self.num_classes}, expected at least 1")


class Network(nn.Module):
    """What every architecture is: float32 (N, 3, H, W), normalised RGB, to logits (N, K)."""

    input_size: tuple[int, int]  # H, W in pixels that it was designed for


Options = TypeVar("Options", bound=ModelOptions)


@dataclasses.dataclass(frozen=True)
class _Entry:
    build: Callable[[Any], Network]
    defaults: ModelOptions
    presets: Mapping[str, Mapping[str, Any]]


_ENTRIES: dict[str, _Entry] = {}
PAPER: Mapping[str, Mapping[str, Any]] = {"paper": {}}


def register_model(
    defaults: Options, presets: Mapping[str, Mapping[str, Any]] = PAPER
) -> Callable[[Callable[[Options], Network]], Callable[[Options], Network]]:
    """Make a function from options to network known to `create_model` under the function's name.

    `defaults` are the options it is built with unless told otherwise; `presets` name sets of changes to them.
    """

    def register(build: Callable[[Options], Network]) -> Callable[[Options], Network]:
        name = build.__name__
        if name in _ENTRIES:
            raise ValueError(f"two models are called {name}")
        _ENTRIES[name] = _Entry(build, defaults, presets)
        return build

    return register


def list_models(pattern: str = "*") -> list[str]:
    """The names of all registered models that match a shell pattern ("vgnetg*"), sorted."""
    return fnmatch.filter(sorted(_ENTRIES), pattern)


def model_options(name: str, num_classes: int | None = None, preset: str = "paper", **changes: Any) -> dict[str, Any]:
    """Every option that `create_model` called so would build with: plain types, as a checkpoint keeps them.

    UnknownNameError for a model, a preset or an option that does not exist.
    """
    return dataclasses.asdict(_resolve(name, num_classes, preset, changes))


def create_model(name: str, num_classes: int | None = None, preset: str = "paper", **changes: Any) -> Network:
    """Build a randomly initialised network.

    `num_classes` is the number of logits K (default: that of the model's paper), `preset` a named set of options,
    `changes` single options in its place (`act="nish"`, `fusion="a*i"`, ...). UnknownNameError for a model, preset,
    option or an option's value that does not exist.
    """
    options = _resolve(name, num_classes, preset, changes)
    return _ENTRIES[name].build(options)


def _resolve(name: str, num_classes: int | None, preset: str, changes: Mapping[str, Any]) -> ModelOptions:
    if name not in _ENTRIES:
        raise UnknownNameError("model", name, _ENTRIES)
    entry = _ENTRIES[name]
    if preset not in entry.presets:
        raise UnknownNameError(f"preset of {name}", preset, entry.presets)
    known = [field.name for field in dataclasses.fields(entry.defaults)]
    for option in changes:
        if option not in known:
            raise UnknownNameError(f"option of {name}", option, known)
    classes = {} if num_classes is None else {"num_classes": num_classes}
    return dataclasses.replace(entry.defaults, **{**entry.presets[preset], **changes, **classes})
