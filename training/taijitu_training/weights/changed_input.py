"""Change fields of how pictures are prepared, where weights differ in that from published ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from taijitu_runtime.card import InputSpec
from taijitu_runtime.errors import UnknownNameError, UsageError


def changed_input(spec: InputSpec, changes: Mapping[str, Any]) -> InputSpec:
    """Change fields of `spec`, which stays square.

    The side before the crop follows the size, unless it is given too.
    """
    known = [field.name for field in dataclasses.fields(InputSpec)]
    for field in changes:
        if field not in known:
            raise UnknownNameError("field of the input", field, known)
    height, width = changes.get("height", spec.height), changes.get("width", spec.width)
    resize_size = round(spec.resize_size * min(height, width) / min(spec.height, spec.width))
    if changes.get("resize") == "stretch":
        resize_size = min(height, width)
    if height != width:
        raise UsageError(f"got an input of {height}x{width} pixels, expected a square; change both")
    return dataclasses.replace(spec, **{"resize_size": resize_size, **changes})
