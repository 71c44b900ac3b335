"""Describe the fields of a recipe and the sources of their numbers."""

from __future__ import annotations

import dataclasses

from taijitu_training.recipes.named import RECIPES, SOURCES
from taijitu_training.recipes.recipe import SETTINGS, Recipe


def recipe_table(recipe: Recipe) -> str:
    """Return a line for each field of `recipe`: value, as --set takes it, default, source and meaning."""
    published, sources = RECIPES[recipe.name], SOURCES[recipe.name]
    rows = [("field", "value", "default", "source", "meaning")]
    for field in dataclasses.fields(Recipe)[1:]:  # the first one is the recipe's name
        value = getattr(recipe, field.name)
        is_published = value == getattr(published, field.name)
        source = (sources.get(field.name, "default") or "this recipe") if is_published else "--set"
        default = "needed" if field.default is dataclasses.MISSING else _text(field.default)
        rows.append((field.name, _text(value), default, source, str(SETTINGS[field.name])))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return "\n".join("  ".join([*map(str.ljust, row, widths), row[4]]) for row in rows)


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
