"""Describe the fields of a recipe and the sources of their numbers, from the comments next to them in the code."""

from __future__ import annotations

import dataclasses
import inspect
import re

from taijitu_training.recipes import named
from taijitu_training.recipes import recipe as fields_module
from taijitu_training.recipes.recipe import RANGES, Recipe

_FIELD = re.compile(r"^    (\w+): [^#\n]*# (.*)$", re.MULTILINE)
_NUMBER = re.compile(r"^        (\w+)=[^#\n]*?,(?:  # (.*))?$", re.MULTILINE)


def meanings() -> dict[str, str]:
    """Return what each field sets and in which unit, with its possible values: names, or an interval."""
    said = {
        name: re.sub(r"one of ([A-Z_]{4,})", lambda found: " or ".join(getattr(fields_module, found[1])), comment)
        for name, comment in _FIELD.findall(inspect.getsource(Recipe))
    }
    return {name: f"{text}; {RANGES[name]}" if name in RANGES else text for name, text in said.items()}


def sources(name: str) -> dict[str, str]:
    """Return the sources of the numbers of the recipe called `name`, for the fields that it sets."""
    code = inspect.getsource(named).split(f'name="{name}",', 1)[1].split("\n    ),", 1)[0]
    return {field: source or "this recipe" for field, source in _NUMBER.findall(code)}


def recipe_table(recipe: Recipe) -> str:
    """Return a line for each field of `recipe`: value, as --set takes it, default, source and meaning."""
    published, theirs, meaning = named.RECIPES[recipe.name], sources(recipe.name), meanings()
    rows = [("field", "value", "default", "source", "meaning")]
    for field in dataclasses.fields(Recipe)[1:]:  # the first one is the recipe's name
        value = getattr(recipe, field.name)
        source = theirs.get(field.name, "default") if value == getattr(published, field.name) else "--set"
        default = "needed" if field.default is dataclasses.MISSING else _text(field.default)
        rows.append((field.name, _text(value), default, source, meaning[field.name]))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return "\n".join("  ".join([*map(str.ljust, row, widths), row[4]]) for row in rows)


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
