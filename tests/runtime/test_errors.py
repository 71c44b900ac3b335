"""Errors of libraries in one line."""

from __future__ import annotations

import pickle

import pytest

from taijitu_runtime.errors import (
    DamagedPictureError,
    MissingDependencyError,
    ProviderError,
    TaijituError,
    UnknownNameError,
    first_line,
)


@pytest.mark.parametrize("text", ["", "\n  at line 1"])
def test_an_error_without_a_first_line_is_called_by_its_class(text: str) -> None:
    assert first_line(ValueError(text)) == "ValueError"


def test_lines_after_the_first_are_left_out() -> None:
    assert first_line(RuntimeError("no such device\n  at line 1")) == "no such device"


@pytest.mark.parametrize(
    "error",
    [
        MissingDependencyError("torch", "taijitu[train]"),
        ProviderError("cuda", "no such library", "pip install it"),
        UnknownNameError("model", "yynt", ["yynet"]),
        DamagedPictureError("got half of it", "cat.jpg"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_of_another_process_arrives_whole(error: TaijituError) -> None:
    error.details = ("layer  error", "stem   0.5")
    arrived = pickle.loads(pickle.dumps(error))
    assert type(arrived) is type(error)
    assert (str(arrived), vars(arrived), arrived.details) == (str(error), vars(error), error.details)
