"""Errors of libraries in one line."""

from __future__ import annotations

import pytest

from taijitu_runtime.errors import first_line


@pytest.mark.parametrize("text", ["", "\n  at line 1"])
def test_an_error_without_a_first_line_is_called_by_its_class(text: str) -> None:
    assert first_line(ValueError(text)) == "ValueError"


def test_lines_after_the_first_are_left_out() -> None:
    assert first_line(RuntimeError("no such device\n  at line 1")) == "no such device"
