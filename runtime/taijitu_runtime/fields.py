"""Check fields of a card in its plain form: JSON, missing and unknown fields, and their errors."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import unicodedata
from collections.abc import Mapping
from typing import Any, TypeVar

from taijitu_runtime.errors import ArtefactError

MAX_JSON_DEPTH = 32
SHA256 = r"[0-9a-f]{64}"

Part = TypeVar("Part")

OPTIONAL: Mapping[str, Any] = {"taijitu.optional": True}
"""Metadata of a dataclass field that a card may lack, and that is not written where it has its default.

So a card from before the field existed reads as before, and one that does not need it looks as before."""


def fail(field: str, got: object, expected: str) -> ArtefactError:
    """Return the error to raise for a field that is not as expected."""
    text = repr(got)
    short = text if len(text) <= 80 else f"{text[:77]}..."
    return ArtefactError(f"model card, {field}: got {short}, expected {expected}; correct it or make the file again")


def json_from_text(key: str, text: str) -> Any:
    """Parse the JSON text under `key` of a file's metadata; ArtefactError where it is not JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise fail(f"metadata {key}", text, "JSON") from error


def read_fields(part: type[Part], prefix: str, got: object) -> dict[str, Any]:
    """Return `got` as fields of the dataclass `part`; ArtefactError for a missing or unknown one, or another type.

    OPTIONAL fields may be missing, and are then missing in the result too.
    """
    fields = dataclasses.fields(part)  # type: ignore[arg-type]  # every caller passes a dataclass
    names = [field.name for field in fields]
    if not isinstance(got, dict):
        raise fail(prefix.rstrip("."), got, f"a dict with {', '.join(names)}")
    for field in fields:
        if field.name not in got and field.metadata != OPTIONAL:
            raise fail(prefix + field.name, None, "this field")
    for name in got:
        if name not in names:
            raise fail(f"{prefix}{name}", got[name], f"no such field (known: {', '.join(names)})")
    return dict(got)


def plain(field: str, value: object, depth: int = 0) -> object:
    """Copy `value` as plain JSON types, tuples as lists; ArtefactError, naming the place, for any other type."""
    if depth > MAX_JSON_DEPTH:
        raise fail(field, "...", f"at most {MAX_JSON_DEPTH} levels of nesting")
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str) or not is_unicode(key):
                raise fail(field, key, "text that is Unicode as every key")
        return {key: plain(f"{field}.{key}".removeprefix("whole."), item, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(f"{field}[{index}]", item, depth + 1) for index, item in enumerate(value)]
    if isinstance(value, str):
        if not is_unicode(value):
            raise fail(field, value, "text that is Unicode, without lone surrogates")
        return str(value)
    if type(value) is int and not -(2**63) <= value < 2**64:
        raise fail(field, value, "a whole number of 64 bits")
    if value is None or type(value) in (int, bool):
        return value
    if type(value) is float and math.isfinite(value):
        return value
    raise fail(field, value, "plain JSON (text, finite number, true, false, null, list, dict)")


def written_fields(part: Any) -> dict[str, Any]:
    """Return the dataclass `part` as a dict, without OPTIONAL fields that have their default."""
    whole = dataclasses.asdict(part)
    for field in dataclasses.fields(part):
        value = getattr(part, field.name)
        if field.metadata == OPTIONAL and value == field.default:
            del whole[field.name]
        elif dataclasses.is_dataclass(value):
            whole[field.name] = written_fields(value)
    return whole


def tuple_from_list(value: object) -> object:
    """Return a list as a tuple; anything else unchanged, for the checks that follow to name."""
    return tuple(value) if isinstance(value, list) else value


def check_mapping(field: str, got: object) -> None:
    """Raise ArtefactError unless `got` is a dict of plain JSON."""
    if not isinstance(got, dict):
        raise fail(field, got, "a dict")
    plain(field, got)


def check_choice(field: str, got: object, known: tuple[str, ...]) -> None:
    """Raise ArtefactError unless `got` is one of the known names."""
    if got not in known:
        raise fail(field, got, " or ".join(f'"{name}"' for name in known))


def check_finite(field: str, got: Any, low: float, high: float, expected: str) -> None:
    """Raise ArtefactError, naming what is `expected`, unless `got` is a finite number from `low` to `high`."""
    if type(got) not in (int, float) or not math.isfinite(got) or not low <= got <= high:
        bounds = "" if math.isinf(high) else f" from {low:g} to {high:g}"
        raise fail(field, got, f"{expected}{bounds}")


def check_version(got: object, newest: int) -> None:
    """Raise ArtefactError unless `got` is a format version from 1 to `newest`, the one that this package writes."""
    if type(got) is not int or got < 1:
        raise fail("format_version", got, f"an integer from 1 to {newest}")
    if got > newest:
        raise ArtefactError(
            f"model card, format_version: got {got}, expected at most {newest}: the file was made by a newer "
            "taijitu; do: pip install --upgrade taijitu"
        )


def check_text(field: str, got: object, expected: str, pattern: str = r".+") -> None:
    """Raise ArtefactError, naming what is `expected`, unless `got` is one line of text that matches the whole pattern.

    One line: no control characters, which could reach a terminal, nor lone surrogates, with which no
    answer could be written.
    """
    if not isinstance(got, str) or not re.fullmatch(pattern, got) or not is_one_line(got):
        raise fail(field, got, expected)


def check_sha256(field: str, got: object) -> None:
    """Raise ArtefactError unless `got` is a sha256 in lower-case hexadecimal."""
    check_text(field, got, "64 lower-case hex digits", SHA256)


def is_one_line(text: str) -> bool:
    """Return whether text has no control characters, line or paragraph separators, or lone surrogates."""
    return not any(unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") for letter in text)


def is_unicode(text: str) -> bool:
    """Return whether text has no lone surrogates, which Python has for bytes of a path that are not UTF-8."""
    return text.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in text)
