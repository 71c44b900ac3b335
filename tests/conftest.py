"""Fixtures that several packages' tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository's root, where the documented scripts lie."""
    return ROOT


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Real pictures that are not part of the repository: TAIJITU_DATA, or ../shared/data."""
    folder = Path(os.environ.get("TAIJITU_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no pictures in {folder}; set TAIJITU_DATA to a folder with photos/ and cifar10-jpeg.tar.xz")
    return folder
