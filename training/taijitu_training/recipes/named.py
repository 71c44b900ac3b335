"""The recipes of the papers, each number with its source.

"YYNet II" and "YYNet IV.A": Table II and section IV.A of the YYNet papers; "code": the authors' public CIFAR-10 and
ImageNet scripts; "VGNet": section 5.1; "Nish": sections 4.1 and 4.2. "not stated": the source does not say it, and the
number is this project's choice. "measured": docs/results/recipe.md.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from taijitu_runtime.errors import UnknownNameError
from taijitu_training.recipes.recipe import Recipe

CIFAR_MEAN, CIFAR_STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)  # code, for ImageNet too
MNIST_MEAN, MNIST_STD = (0.1307,) * 3, (0.3081,) * 3  # of the 60,000 training digits


@dataclasses.dataclass(frozen=True)
class Sourced:
    """A recipe, and the source of each number that it sets; "" for a choice of the recipe itself."""

    recipe: Recipe
    sources: Mapping[str, str]


def _sourced(name: str, **fields: tuple[Any, str]) -> Sourced:
    recipe = Recipe(name=name, **{field: value for field, (value, _) in fields.items()})
    return Sourced(recipe, {field: source for field, (_, source) in fields.items()})


def _changed(base: Sourced, name: str, **fields: tuple[Any, str]) -> Sourced:
    """Return `base` under another name, with other values in some fields."""
    recipe = dataclasses.replace(base.recipe, name=name, **{field: value for field, (value, _) in fields.items()})
    return Sourced(recipe, {**base.sources, **{field: source for field, (_, source) in fields.items()}})


_YYNET_CIFAR10 = _sourced(
    "yynet_cifar10",
    epochs=(40, "YYNet II"),
    batch_size=(64, "YYNet II; Table I was made with 512"),
    optimizer=("adamw", "YYNet II"),
    lr=(1e-2, "YYNet II"),
    schedule=("one_cycle", "YYNet II"),
    amsgrad=(True, "code"),
    weight_decay=(1.56, "YYNet IV.A"),
    weight_decay_times_lr=(True, "YYNet IV.A"),
    first_decay=(
        "peak",
        'code: 1.56e-2 in the first epoch; the text, read literally, is "current": 1.56 * lr / 25',
    ),
    last_batch=("train", "code: 782 steps an epoch"),
    clip_norm=(1.0, "YYNet IV.A"),
    mixed_precision=(True, "YYNet IV.A"),
    ema=(False, "only the preprint has it: --set ema=true"),
    ema_start=(0.25, "preprint"),
    ema_decay=(0.1, "preprint; averages about one step: a usual value is 0.999"),
    pad=(4, "code"),
    flip=(0.5, "code"),
    brightness=(0.01, "code"),
    mean=(CIFAR_MEAN, ""),
    std=(CIFAR_STD, ""),
)

_ALL = (
    _YYNET_CIFAR10,
    _changed(
        _YYNET_CIFAR10,
        "taijitu_cifar10",  # for YYNet Small 16 with VGNetG-1.0MP as its teacher
        epochs=(80, "measured"),
        ema=(True, "measured"),
        ema_decay=(0.999, "measured"),
        teacher_weight=(0.9, "measured"),
    ),
    _sourced(
        "yynet_imagenet",
        epochs=(300, "YYNet II, second column"),
        batch_size=(32, "YYNet II, second column"),
        optimizer=("adamw", "YYNet II, second column"),
        lr=(18e-4, "YYNet II, second column"),
        schedule=("one_cycle", "YYNet II, second column"),
        weight_decay=(1.56, "YYNet IV.A"),
        weight_decay_times_lr=(True, "YYNet IV.A"),
        clip_norm=(1.0, "YYNet IV.A"),
        mixed_precision=(True, "YYNet IV.A"),
        ema=(False, "only the preprint has it: --set ema=true"),
        ema_start=(0.25, "preprint"),
        ema_decay=(0.1, "preprint; averages about one step: a usual value is 0.999"),
        pad=(4, "code: resized to 224, padded and cropped back"),
        flip=(0.5, "code"),
        brightness=(0.01, "code"),
        mean=(CIFAR_MEAN, ""),
        std=(CIFAR_STD, ""),
    ),
    _sourced(
        "vgnet_imagenet",
        epochs=(300, "VGNet"),
        batch_size=(512, "VGNet"),
        optimizer=("sgd", "VGNet"),
        lr=(0.2, "VGNet"),
        schedule=("cosine", "VGNet"),
        warmup_epochs=(5.0, "VGNet"),
        momentum=(0.9, "VGNet"),
        weight_decay=(1e-4, "VGNet"),
        decay_all=(False, 'VGNet: "the biases and alpha and beta in BN layers are left unregularized"'),
        label_smoothing=(0.1, "VGNet"),
        crop=("resized", "not stated; with these settings, what the field does"),
        crop_area=(0.08, "not stated, likewise"),
        flip=(0.5, "not stated, likewise"),
        evaluation_crop=(0.875, "not stated: 224 of 256 pixels, likewise"),
    ),
    _sourced(
        "vgnet_cifar",
        epochs=(200, "not stated in the available part of the paper, like all that is not marked VGNet below"),
        batch_size=(128, ""),
        optimizer=("sgd", "VGNet"),
        lr=(0.1, ""),
        schedule=("cosine", "VGNet"),
        warmup_epochs=(5.0, "VGNet"),
        momentum=(0.9, "VGNet"),
        weight_decay=(5e-4, ""),
        decay_all=(False, "VGNet"),
        label_smoothing=(0.1, "VGNet"),
        pad=(4, ""),
        flip=(0.5, ""),
        mean=(CIFAR_MEAN, ""),
        std=(CIFAR_STD, ""),
    ),
    _sourced(
        "nish_cifar10",
        epochs=(50, "Nish Table 1, which has 100 and 150 too: --set epochs=100"),
        batch_size=(128, "not stated"),
        optimizer=("adam", "Nish 4.2"),
        lr=(1e-3, "not stated: Adam's own"),
        schedule=("cosine", "not stated"),
        pad=(4, "not stated"),
        flip=(0.5, "not stated"),
        mean=(CIFAR_MEAN, ""),
        std=(CIFAR_STD, ""),
    ),
    _sourced(
        "nish_imagenet100",  # Nish Table 2: MobileNetV2, TinyNet-B and C, EfficientNet-B0-AP on ImageNet-100
        epochs=(100, "not stated"),
        batch_size=(32, "Nish 4.2"),
        optimizer=("adam", "not stated for this table; Nish 4.2 has it for Table 1"),
        lr=(1e-3, "not stated: Adam's own"),
        schedule=("cosine", "not stated"),
        flip=(0.5, "Nish 4.2"),
        vertical_flip=(0.5, "Nish 4.2"),
    ),
    _sourced(
        "nish_mnist",  # with the network mlp, which holds batch norm and dropout 0.25
        epochs=(15, "not stated"),
        batch_size=(128, "Nish 4.1"),
        optimizer=("sgd", "Nish 4.1"),
        lr=(0.01, "not stated"),
        schedule=("constant", "not stated"),
        momentum=(0.9, "not stated"),
        mixed_precision=(False, "not stated"),
        mean=(MNIST_MEAN, ""),
        std=(MNIST_STD, ""),
    ),
    _sourced(
        "fine_tune",  # for --init and --pretrained; see docs/training.md
        epochs=(10, ""),
        batch_size=(32, ""),
        optimizer=("adamw", ""),
        lr=(1e-2, "measured: docs/training.md"),
        body_lr=(0.1, ""),
        freeze_epochs=(1, ""),
        schedule=("cosine", ""),
        warmup_epochs=(1.0, ""),
        weight_decay=(0.01, ""),
        decay_all=(False, ""),
        clip_norm=(1.0, ""),
        flip=(0.5, ""),
    ),
)

SOURCES = {one.recipe.name: one.sources for one in _ALL}
RECIPES = {one.recipe.name: one.recipe for one in _ALL}


def usual_recipe(*, from_weights: bool) -> str:
    """Return the name of the recipe for a run that names none; `from_weights`: it starts from given weights."""
    return "fine_tune" if from_weights else "yynet_cifar10"


def needs_teacher(name: str) -> bool:
    """Return whether the recipe of that name sets how much to learn from a teacher, and so cannot do without one."""
    return name in SOURCES and "teacher_weight" in SOURCES[name]


def get_recipe(name: str, changes: Mapping[str, object] = MappingProxyType({})) -> Recipe:
    """Return the recipe called `name` with `changes` such as {"lr": 5e-3} applied (see `Recipe.change`).

    UnknownNameError for a recipe that does not exist.
    """
    if name not in RECIPES:
        raise UnknownNameError("recipe", name, RECIPES)
    return RECIPES[name].change(changes)
