"""Register architectures by name: `@register_model` in the model's file, `create_model` and `list_models` elsewhere."""

from __future__ import annotations

import contextlib
import dataclasses
import fnmatch
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from torch import nn

from taijitu_runtime.errors import TaijituError, UnknownNameError, UsageError


@dataclasses.dataclass(frozen=True)
class ModelOptions:
    """The options of every architecture; each family adds its own fields. The defaults are its paper's."""

    num_classes: int = 1000
    act: str = "relu"

    def __post_init__(self) -> None:
        if self.num_classes < 1:
            raise UsageError(f"got num_classes={self.num_classes}, expected at least 1")


class Network(nn.Module):
    """The base of every architecture: float32 (N, 3, H, W), normalised RGB, to logits (N, K)."""

    input_size: tuple[int, int]  # H, W in pixels that it was designed for
    unused_parameters: bool = False  # whether some get no gradient


Options = TypeVar("Options", bound=ModelOptions)


PAPER: Mapping[str, Mapping[str, Any]] = {"paper": {}}


@dataclasses.dataclass(frozen=True)
class Entry:
    """A function that builds a network from its options, and their defaults."""

    build: Callable[[Any], Network]
    defaults: ModelOptions
    presets: Mapping[str, Mapping[str, Any]]


_ENTRIES: dict[str, Entry] = {}
_SOURCES: dict[str, Callable[[str], Entry]] = {}


def register_model(
    defaults: Options, presets: Mapping[str, Mapping[str, Any]] = PAPER
) -> Callable[[Callable[[Options], Network]], Callable[[Options], Network]]:
    """Make a function from options to network known to `create_model` under the function's name.

    `defaults` are the options of the network by default; `presets` name sets of changes to them.
    """

    def register(build: Callable[[Options], Network]) -> Callable[[Options], Network]:
        name = build.__name__
        if name in _ENTRIES:
            raise ValueError(f"two models are called {name}")
        _ENTRIES[name] = Entry(build, defaults, presets)
        return build

    return register


def register_source(find: Callable[[str], Entry]) -> Callable[[str], Entry]:
    """Make another library's networks known to `create_model` as "SOURCE/NAME", SOURCE being the function's name.

    The function gets NAME and raises UnknownNameError for one that does not exist.
    """
    _SOURCES[find.__name__] = find
    return find


def list_models(pattern: str = "*") -> list[str]:
    """Return the names of all own models that match a shell pattern ("vgnetg*"), sorted.

    None of a source ("timm/...").
    """
    return fnmatch.filter(sorted(_ENTRIES), pattern)


def model_options(name: str, num_classes: int | None = None, preset: str = "paper", **changes: Any) -> dict[str, Any]:
    """Return every option that `create_model` would build with, in plain types, as a checkpoint keeps them.

    UnknownNameError for a model, a preset or an option that does not exist.
    """
    return dataclasses.asdict(_resolve(name, _find(name), num_classes, preset, changes))


def create_model(name: str, num_classes: int | None = None, preset: str = "paper", **changes: Any) -> Network:
    """Build a randomly initialised network.

    `name` is one of `list_models`, or "timm/NAME" or "torchvision/NAME" for a network of those libraries (see
    external.py). `num_classes` is the number of logits K (default: that of the model's paper), `preset` a named set of
    options, `changes` single options in its place (`act="nish"`, `fusion="a*i"`, ...). UnknownNameError for a model,
    preset, option or an option's value that does not exist.
    """
    entry = _find(name)
    return entry.build(_resolve(name, entry, num_classes, preset, changes))


def _find(name: str) -> Entry:
    source, slash, rest = name.partition("/")
    if slash and source in _SOURCES:
        return _SOURCES[source](rest)
    if name not in _ENTRIES:
        raise UnknownNameError("model", name, [*_ENTRIES, *_in_sources(name)])
    return _ENTRIES[name]


def _in_sources(name: str) -> list[str]:
    """Return the source's name for a network that was asked for without its source: "resnet18" is "timm/resnet18"."""
    found = []
    for source, find in _SOURCES.items():
        with contextlib.suppress(TaijituError):
            find(name)
            found.append(f"{source}/{name}")
    return found or [f"{source}/NAME" for source in _SOURCES]


def _resolve(name: str, entry: Entry, num_classes: int | None, preset: str, changes: Mapping[str, Any]) -> ModelOptions:
    if preset not in entry.presets:
        raise UnknownNameError(f"preset of {name}", preset, entry.presets)
    known = [field.name for field in dataclasses.fields(entry.defaults)]
    for option in changes:
        if option not in known:
            raise UnknownNameError(f"option of {name}", option, known)
    classes = {} if num_classes is None else {"num_classes": num_classes}
    return dataclasses.replace(entry.defaults, **{**entry.presets[preset], **changes, **classes})
