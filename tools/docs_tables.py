"""Tables of the documentation that are generated from the code; cog writes them into the pages: make docs-tables."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence

from taijitu_export.comparison.cli import build_parser as verify_parser
from taijitu_export.to_onnx.cli import build_parser as onnx_parser
from taijitu_runtime.classify.cli import build_parser as classify_parser
from taijitu_server.deploy.deepstream import build_parser as deepstream_parser
from taijitu_server.settings import Settings
from taijitu_training.cli import build_parser as train_parser
from taijitu_training.recipes.recipe import SETTINGS, Recipe
from taijitu_training.weights.cli import build_parser as checkpoint_parser


def server_settings() -> str:
    """Return the server's settings: flag, default, description."""
    rows = []
    for name, field in Settings.model_fields.items():
        default = "" if field.default in (None, "", {}) else _value(field.default)
        flag = f"--{name.replace('_', '-')}"
        flags = f"`{flag}`, `--no-{flag[2:]}`" if isinstance(field.default, bool) else f"`{flag}`"
        rows.append((flags, default, field.description or ""))
    return _table(("flag", "default", "what it sets"), rows)


def train_flags() -> str:
    """Return the flags of `taijitu train` as its help describes them."""
    return _flag_table(train_parser())


def checkpoint_flags() -> str:
    """Return the flags of `taijitu checkpoint` as its help describes them."""
    return _flag_table(checkpoint_parser())


def onnx_flags() -> str:
    """Return the flags of `taijitu onnx` as its help describes them."""
    return _flag_table(onnx_parser())


def verify_flags() -> str:
    """Return the flags of `taijitu verify` as its help describes them."""
    return _flag_table(verify_parser())


def classify_flags() -> str:
    """Return the flags of `taijitu classify` as its help describes them."""
    return _flag_table(classify_parser())


def deepstream_flags() -> str:
    """Return the flags of `taijitu deepstream` as its help describes them."""
    return _flag_table(deepstream_parser())


def recipe_fields() -> str:
    """Return the fields of a recipe: name, default, meaning."""
    rows = []
    for field in dataclasses.fields(Recipe)[1:]:  # the first one is the recipe's name
        default = "needed" if field.default is dataclasses.MISSING else _value(field.default)
        rows.append((f"`{field.name}`", default, str(SETTINGS[field.name])))
    return _table(("field", "default", "what it sets"), rows)


def _flag_table(parser: argparse.ArgumentParser) -> str:
    actions = [action for action in parser._actions if action.dest != "help"]
    return _table(("flag", "what it sets"), [(_flags(action), _help(action)) for action in actions])


def _flags(action: argparse.Action) -> str:
    if not action.option_strings:
        return f"`{action.dest.upper()}`"
    metavar = " ".join(action.metavar) if isinstance(action.metavar, tuple) else action.metavar or ""
    if not metavar and action.choices:
        metavar = f"{{{','.join(map(str, action.choices))}}}"
    return ", ".join(f"`{f'{flag} {metavar}'.strip()}`" for flag in action.option_strings)


def _help(action: argparse.Action) -> str:
    text = (action.help or "") % {"default": action.default, "prog": "taijitu train"}
    may_be_absent = action.nargs in ("?", "*")  # which releases of Python call required differently
    return text + ("; required" if action.required and not may_be_absent else "")


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    if isinstance(value, float):
        return f"{value:g}"
    return f"{value:,}" if isinstance(value, int) and value >= 10_000 else str(value)


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = (head, ("---",) * len(head), *(tuple(map(_escaped, row)) for row in rows))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _escaped(cell: str) -> str:
    """Keep Markdown from reading <label> as a tag, and an asterisk as emphasis."""
    return cell.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")
