"""The cache folder: no other user can write to it, with any umask."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from taijitu_runtime.cache import UnsafeFileError, UnsafeFolderError, private_folder, read_own


def test_every_new_folder_is_private(tmp_path: Path) -> None:
    usual = os.umask(0o002)  # Ubuntu's
    try:
        for _ in range(2):
            private_folder(tmp_path / ".cache" / "taijitu" / "tensorrt")
    finally:
        os.umask(usual)
    made = [tmp_path / ".cache", tmp_path / ".cache" / "taijitu", tmp_path / ".cache" / "taijitu" / "tensorrt"]
    assert [folder.stat().st_mode & 0o777 for folder in made] == [0o700] * 3


def test_a_folder_that_others_could_write_to_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache").chmod(0o770)
    with pytest.raises(UnsafeFolderError, match=r"other users can write to .*cache$"):
        private_folder(tmp_path / "cache" / "taijitu")


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "file", 0o600)
    with pytest.raises(UnsafeFileError, match="may be another user's"):
        read_own(tmp_path / "file")
