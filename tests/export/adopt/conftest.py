"""What the tests of `adopt` share."""

from __future__ import annotations

import pytest

from taijitu_export import passport


@pytest.fixture
def quick_passport(monkeypatch: pytest.MonkeyPatch) -> None:
    """Choose the pictures of the passport among 64, not 512."""
    monkeypatch.setattr(passport, "MOST_SEEDS", passport.LEAST_SEEDS)
