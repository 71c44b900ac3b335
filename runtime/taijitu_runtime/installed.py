"""The distributions that are installed here, by the names that the index gives them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib.metadata import Distribution, distributions


def normal_name(name: str) -> str:
    """A distribution's name as the index writes it: opencv_python as opencv-python."""
    return re.sub(r"[-_.]+", "-", name).lower()


def installed_versions(found: Iterable[Distribution] | None = None) -> dict[str, str]:
    """Names and versions of `found`; None looks for all that this Python sees."""
    places = distributions() if found is None else found
    return {normal_name(one.metadata["Name"]): one.version for one in places if one.metadata["Name"]}
