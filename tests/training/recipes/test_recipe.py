"""Recipes as data: the papers' numbers, changes to them, and impossible values."""

from __future__ import annotations

from dataclasses import asdict, fields

import numpy as np
import pytest
import torch

from taijitu_runtime.command_line import pairs
from taijitu_runtime.errors import TaijituError, UnknownNameError, UsageError
from taijitu_training.recipes.named import RECIPES, get_recipe
from taijitu_training.recipes.recipe import Recipe
from taijitu_training.recipes.table import recipe_table


def test_recipes_have_the_numbers_of_the_papers() -> None:
    def part(name: str, *fields: str) -> list[object]:
        return [asdict(RECIPES[name])[field] for field in fields]

    yynet = ("epochs", "batch_size", "optimizer", "lr", "schedule", "weight_decay", "clip_norm", "amsgrad")
    assert part("yynet_cifar10", *yynet) == [40, 64, "adamw", 1e-2, "one_cycle", 1.56, 1.0, True]
    assert part("yynet_imagenet", *yynet) == [300, 32, "adamw", 18e-4, "one_cycle", 1.56, 1.0, False]
    vgnet = ("optimizer", "momentum", "batch_size", "weight_decay", "lr", "warmup_epochs", "schedule", "epochs")
    assert part("vgnet_imagenet", *vgnet) == ["sgd", 0.9, 512, 1e-4, 0.2, 5, "cosine", 300]
    assert part("vgnet_imagenet", "label_smoothing", "decay_all") == [0.1, False]
    assert part("nish_cifar10", "optimizer", "epochs") == ["adam", 50]
    assert part("nish_mnist", "optimizer", "batch_size") == ["sgd", 128]
    assert set(RECIPES) >= {"vgnet_cifar"}


def test_ours_is_the_authors_recipe_but_for_a_longer_run_an_average_and_a_teacher() -> None:
    authors, ours = asdict(RECIPES["yynet_cifar10"]), asdict(RECIPES["taijitu_cifar10"])
    changed = {field: value for field, value in ours.items() if value != authors[field]}
    del changed["name"]
    assert changed == {"epochs": 80, "ema": True, "ema_decay": 0.999, "teacher_weight": 0.9}


def test_changes_are_parsed_as_their_fields_types() -> None:
    recipe = get_recipe("yynet_cifar10", {"lr": "5e-3", "epochs": "3", "ema": "true", "mean": "0.1,0.2,0.3"})
    assert (recipe.lr, recipe.epochs, recipe.ema, recipe.mean) == (5e-3, 3, True, (0.1, 0.2, 0.3))
    assert recipe.batch_size == 64
    for mean in ([0.25, 0.5, 0.75], np.array([0.25, 0.5, 0.75]), torch.tensor([0.25, 0.5, 0.75])):
        assert get_recipe("yynet_cifar10", {"mean": mean, "epochs": np.int64(3)}).mean == (0.25, 0.5, 0.75)


@pytest.mark.parametrize(
    ("name", "change", "kind", "text"),
    [
        ("yynet_cifar", "", UnknownNameError, "unknown recipe 'yynet_cifar'; did you mean yynet_cifar10"),
        ("yynet_cifar10", "epoch=3", UnknownNameError, "unknown recipe field 'epoch'; did you mean epochs"),
        ("yynet_cifar10", "epochs", TaijituError, "got --set epochs, expected FIELD=VALUE"),
        ("yynet_cifar10", "epochs=many", TaijituError, "got epochs=many, expected epochs=40 or another int"),
        ("yynet_cifar10", "mean=1,2", TaijituError, "3 numbers with commas"),
        ("yynet_cifar10", "epochs=0", TaijituError, "got epochs=0"),
        ("yynet_cifar10", "flip=1.5", TaijituError, "got flip=1.5"),
        ("yynet_cifar10", "optimizer=adamv", UnknownNameError, "unknown optimizer 'adamv'; did you mean adam"),
        (
            "yynet_cifar10",
            "warmup_epochs=2",
            TaijituError,
            "got warmup_epochs=2.0 .* schedule=one_cycle.* --set warmup_epochs=0",
        ),
        ("nish_mnist", "amsgrad=true", TaijituError, "got amsgrad=True .* optimizer=sgd"),
        ("fine_tune", "ema_decay=0.9998", TaijituError, "ema_decay=0.9998 .* ema=False"),
        ("fine_tune", "ema_start=0", TaijituError, "ema_start=0.0 .* --set ema=true"),
        ("yynet_cifar10", "crop_area=0.3", TaijituError, "crop_area=0.3 .* crop=padded"),
        ("fine_tune", "first_decay=peak", TaijituError, "first_decay=peak .* weight_decay_times_lr"),
        ("nish_cifar10", "momentum=0.9", TaijituError, "got momentum=0.9 .* optimizer=adam"),
        ("vgnet_imagenet", "epochs=1", TaijituError, "got epochs=1 with warmup_epochs=5"),
        ("fine_tune", "epochs=1", TaijituError, "got epochs=1 with warmup_epochs=1 and freeze_epochs=1"),
        ("yynet_cifar10", "nonsense=1", UnknownNameError, "unknown recipe field 'nonsense'; known: .*--show"),
        ("vgnet_imagenet", "pad=4", TaijituError, "got pad=4 .* crop=resized"),
    ],
)
def test_wrong_recipes_say_what_was_expected(name: str, change: str, kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=text.replace("(", r"\(").replace("?", r"\?")):
        get_recipe(name, pairs("--set", [change] if change else [], "FIELD=VALUE"))


def test_rare_labels_are_not_counted_twice() -> None:
    with pytest.raises(UsageError, match=r"sampler=balanced .*class_weights=balanced"):
        get_recipe("fine_tune", {"sampler": "balanced", "class_weights": "balanced"})


@pytest.mark.parametrize("name", RECIPES)
def test_every_field_of_every_recipe_is_shown_with_its_meaning(name: str) -> None:
    rows = [line.split("  ") for line in recipe_table(RECIPES[name]).splitlines()[1:]]
    assert [row[0] for row in rows] == [field.name for field in fields(Recipe)][1:]
    assert all(row[-1] for row in rows)


def test_sources_are_the_papers_and_changes_are_named() -> None:
    rows = {line.split()[0]: line for line in recipe_table(get_recipe("vgnet_imagenet", {"epochs": 7})).splitlines()}
    assert rows["epochs"].split()[1:4] == ["7", "needed", "--set"]
    assert rows["lr"].split()[1:4] == ["0.2", "needed", "VGNet"]
    assert rows["hue"].split()[1:4] == ["0", "0", "default"]
