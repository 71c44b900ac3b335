"""The cache folder: where it is, and which of its files are kept."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from taijitu_runtime.cache import cache_folder, folder_of_model, keep_newest


@pytest.mark.parametrize("relative", ["", ".", "cache", "../cache"])
def test_only_an_absolute_path_is_taken_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, relative: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    at_home = tmp_path / ".cache" / "taijitu"
    assert cache_folder({}) == at_home
    assert cache_folder({"XDG_CACHE_HOME": relative}) == at_home  # as the XDG specification has it
    assert cache_folder({"XDG_CACHE_HOME": "/var/cache"}) == Path("/var/cache/taijitu")


def aged(place: Path, age: int) -> None:
    os.utime(place, ns=(10**18 - age, 10**18 - age))


def test_the_files_and_folders_that_were_changed_last_are_kept(tmp_path: Path) -> None:
    for age in range(6):
        place = tmp_path / str(age)
        if age % 2:
            place.mkdir()
            (place / "content").touch()
        else:
            place.touch()
        aged(place, age)
    keep_newest(tmp_path.iterdir(), 3)
    assert {place.name for place in tmp_path.iterdir()} == {"0", "1", "2"}
    assert (tmp_path / "1" / "content").exists()
    keep_newest(tmp_path.iterdir(), 3)
    assert len(list(tmp_path.iterdir())) == 3


def test_the_models_that_were_used_last_keep_their_folders(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    (tmp_path / "a file").touch()
    aged(tmp_path / "a file", 10**9)
    folders = [folder_of_model(tmp_path, bytes([number])) for number in range(32)]
    for age, folder in enumerate(reversed(folders)):
        aged(folder, age)
    assert folder_of_model(tmp_path, bytes([0])) == folders[0]  # the oldest one, used again
    further = folder_of_model(tmp_path, b"further")
    assert {place for place in tmp_path.iterdir() if place.is_dir()} == {*folders, further} - {folders[1]}
    assert (tmp_path / "a file").exists()
