"""Paths that must not be entered or read, or with too long names: one line, and the rest of the run continues."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from taijitu_runtime.backends.base import check_file
from taijitu_runtime.classify import cli
from taijitu_runtime.classify.inputs import find_pictures
from taijitu_runtime.datasets import scan_folder
from taijitu_runtime.errors import ArtefactError, DataError, UsageError
from taijitu_runtime.live.sources import source_from_text
from taijitu_runtime.output_path import check_output_path
from taijitu_runtime.pictures.limits import Limits
from tests.helpers.machine_tree import as_nobody


@pytest.fixture
def folder() -> Iterator[Path]:
    """Make a folder that anyone may enter, with a file `secret` that must not be read, and a folder `locked`.

    Not in tmp_path, whose parents are root's alone if root runs the tests.
    """
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "secret").write_bytes(b"content")
        (folder / "locked").mkdir()
        (folder / "locked" / "inside.jpg").write_bytes(b"content")
        (folder / "secret").chmod(0)
        (folder / "locked").chmod(0)
        folder.chmod(0o755)
        yield folder
        (folder / "locked").chmod(0o700)


def test_a_model_that_may_not_be_read_is_an_error_of_the_model(folder: Path) -> None:
    for name in ("secret", "locked/inside.jpg"):
        with as_nobody(), pytest.raises(ArtefactError, match=r"got a file that cannot be read \(Permission denied\)"):
            check_file(folder / name)
    with pytest.raises(ArtefactError, match="File name too long"):
        check_file(folder / ("x" * 300))


def test_a_picture_in_a_locked_folder_is_left_to_the_decoder(folder: Path) -> None:
    picture = folder / "locked" / "inside.jpg"
    with as_nobody():
        assert [one.path for one in find_pictures([picture], Limits())[0]] == [picture]
        assert source_from_text(str(picture)).kind == "pictures"


def test_a_link_into_a_locked_folder_is_named_and_not_the_folder_that_has_it(folder: Path) -> None:
    (folder / "open").mkdir()
    (folder / "open" / "link.jpg").symlink_to(folder / "locked" / "inside.jpg")
    with as_nobody(), pytest.raises(DataError, match=r"open/link\.jpg: .*Permission denied"):
        scan_folder(folder / "open")


def test_a_result_in_a_read_only_folder_is_refused_before_any_work(folder: Path) -> None:
    (folder / "locked").chmod(0o555)
    (folder / "open").mkdir()
    (folder / "open").chmod(0o777)
    (folder / "open" / "link.onnx").symlink_to(folder / "locked" / "new.onnx")
    with as_nobody():
        for name in ("locked/new.onnx", "locked/inside.jpg", "open/link.onnx"):
            with pytest.raises(UsageError, match="read-only"):
                check_output_path(folder / name)
        check_output_path(folder / "open" / "new.onnx")
    (folder / "open" / "lost.onnx").symlink_to(folder / "nowhere" / "new.onnx")
    with pytest.raises(UsageError, match="nowhere"):
        check_output_path(folder / "open" / "lost.onnx")


def test_a_name_that_is_too_long_does_not_end_the_run(
    tiny_onnx: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "x" * 300 + ".jpg"
    assert cli.main([str(tiny_onnx), name, str(pictures / "red.png"), "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert [entry["file"] for entry in document["skipped"]] == [name]
    assert [result["file"] for result in document["results"]] == [str(pictures / "red.png")]
