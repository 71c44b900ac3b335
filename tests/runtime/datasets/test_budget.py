"""The share of the host's memory that each of its processes may fill with pictures."""

from __future__ import annotations

import pytest

from taijitu_runtime.datasets.budget import host_budget, local_processes
from taijitu_runtime.errors import UsageError


def test_processes_of_one_host_share_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = host_budget()
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    assert 0 < host_budget() < alone / 4


@pytest.mark.parametrize("value", ["", " ", "0", "1"])
def test_an_empty_number_of_processes_counts_as_not_set(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", value)
    assert local_processes() == 1


@pytest.mark.parametrize("value", ["two", "-1", "1.5", "\N{SUPERSCRIPT TWO}", "1000000000"])
def test_a_number_of_processes_that_is_none_is_refused_with_its_variable(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", value)
    with pytest.raises(UsageError, match="LOCAL_WORLD_SIZE"):
        local_processes()
