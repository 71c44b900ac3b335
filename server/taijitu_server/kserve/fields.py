"""Fields of a request's JSON, checked: HttpError 400 says what each was and what it should be."""

from __future__ import annotations

from typing import Any

from taijitu_server.errors import HttpError, bad_request


def checked_list(given: object, name: str) -> list[Any]:
    """Return a list; HttpError 400, with its name, for anything else."""
    if not isinstance(given, list):
        raise _wrong_kind(given, name, "a JSON list")
    return given


def checked_object(given: object, name: str) -> dict[str, Any]:
    """Return an object; HttpError 400, with its name, for anything else."""
    if not isinstance(given, dict):
        raise _wrong_kind(given, name, "a JSON object")
    return given


def checked_flag(holder: dict[str, Any], name: str, default: bool = False) -> bool:
    """Return a field that is true or false, or `default` for absent or null; HttpError 400 for anything else."""
    given = holder.get(name)
    if given is None:
        return default
    if not isinstance(given, bool):
        raise _wrong_kind(given, name, "true or false")
    return given


def value_text(given: object) -> str:
    """Return a value from JSON for an error; only the kind of a list or an object, which may be nested too deeply."""
    if isinstance(given, (list, dict)):
        return "a list" if isinstance(given, list) else "an object"
    return repr(given[:40] if isinstance(given, str) else given)


def _wrong_kind(given: object, name: str, expected: str) -> HttpError:
    return bad_request(f"{name}: got {value_text(given)}, expected {expected}")
