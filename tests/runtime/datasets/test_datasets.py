"""A folder, a tar or a list becomes pictures with labels and splits, and other files are reported."""

from __future__ import annotations

import io
import os
import pickle
import socket
import sys
import tarfile
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from PIL import Image

from taijitu_runtime.datasets import Found, Reading, bytes_of, evaluation_pictures, fingerprints, name_of, read_dataset
from taijitu_runtime.datasets.published.plain_pickle import load_plain_pickle
from taijitu_runtime.errors import DataError, UnknownFormatError
from taijitu_runtime.pictures.preprocess import decode_picture
from tests.helpers.image_file import image_file


def jpeg() -> bytes:
    return image_file(Image.new("RGB", (8, 8), (200, 10, 10)), "JPEG")


JPEG = jpeg()


def lay_out(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(JPEG)
    return root


def labelled(found: Found) -> dict[str, dict[str, str]]:
    """Return the label by file, by the split's role."""
    by_role = {}
    for role, split in found.splits.items():
        assert split.targets is not None
        names = [os.path.relpath(name_of(content), found.source) for content in split.contents]
        by_role[role] = dict(zip(names, (found.labels[target] for target in split.targets), strict=True))
    return by_role


def test_folders_that_hold_one_folder_are_stepped_through(tmp_path: Path) -> None:
    lay_out(tmp_path, "archive/mydata/cat/a.jpg", "archive/mydata/dog/b.jpg")
    found = read_dataset(tmp_path)
    assert found.labels == ("cat", "dog")
    assert labelled(found) == {"": {"archive/mydata/cat/a.jpg": "cat", "archive/mydata/dog/b.jpg": "dog"}}


def test_splits_below_such_folders_and_inside_them_are_found(tmp_path: Path) -> None:
    lay_out(tmp_path, *(f"archive/{split}/images/{label}/1.jpg" for split in ("train", "valid") for label in "ab"))
    found = read_dataset(tmp_path)
    assert (found.labels, sorted(found.splits)) == (("a", "b"), ["train", "val"])


def test_pictures_may_be_at_any_depth_under_their_label(tmp_path: Path) -> None:
    lay_out(tmp_path, "truck/cam0/1.jpg", "truck/cam1/2.jpg", "bird/cam0/3.jpg", "bird/cam1/deep/4.jpg", "bird/5.jpg")
    found = read_dataset(tmp_path)
    assert found.labels == ("bird", "truck")
    assert labelled(found)[""]["bird/cam1/deep/4.jpg"] == "bird"


def test_two_readings_are_refused_with_both_and_the_flag_that_decides(tmp_path: Path) -> None:
    lay_out(tmp_path, *(f"{path}/1.jpg" for path in ("animals/cat", "animals/dog", "vehicles/car", "vehicles/lorry")))
    with pytest.raises(DataError) as caught:
        read_dataset(tmp_path)
    for fact in ("animals, vehicles", "car, cat, dog, lorry", "--label-level first", "--label-level last"):
        assert fact in str(caught.value)
    assert read_dataset(tmp_path, Reading(level="first")).labels == ("animals", "vehicles")
    assert read_dataset(tmp_path, Reading(level="last")).labels == ("car", "cat", "dog", "lorry")
    judged = evaluation_pictures(tmp_path, ("cat", "dog", "lorry", "car"))  # the model's labels decide
    assert judged.targets is not None
    assert judged.targets.tolist() == [3, 0, 1, 2]


@pytest.mark.parametrize("names", [("val", "valid"), ("train", "training")])
def test_two_folders_for_one_split_are_refused(tmp_path: Path, names: tuple[str, str]) -> None:
    lay_out(tmp_path, *(f"{name}/{label}/1.jpg" for name in {"train", *names} for label in "ab"))
    with pytest.raises(DataError, match=", ".join(names)):
        read_dataset(tmp_path)


def test_a_model_s_labels_may_lack_pictures_in_either_split(tmp_path: Path) -> None:
    lay_out(tmp_path, "train/a/1.jpg", "test/b/1.jpg", "test/c/1.jpg")
    with pytest.raises(DataError, match=r"train/.*: 'b', 'c'"):
        read_dataset(tmp_path)
    judged = evaluation_pictures(tmp_path, ("a", "b", "c"))
    assert judged.targets is not None
    assert judged.targets.tolist() == [1, 2]


def test_files_next_to_the_splits_are_counted(tmp_path: Path) -> None:
    lay_out(tmp_path, "train/a/1.jpg", "train/b/1.jpg", "test/a/1.jpg", "test/b/1.jpg", "preview.jpg", "extra/x.jpg")
    found = read_dataset(tmp_path)
    (kind,) = found.left_out.kinds
    assert (kind.split(" (")[0], found.left_out.kinds[kind]) == ("pictures outside of the splits", 2)


def test_the_first_bytes_decide_and_the_rest_is_counted_by_kind(tmp_path: Path) -> None:
    lay_out(tmp_path, "cat/a.jfif", "cat/b", "cat/c.dat", "dog/a.JPG")
    for name, first in (
        ("1.heic", b"\0\0\0\x18ftypheic"),
        ("2.HEIC", b"\0\0\0\x18ftypmif1"),
        ("2.dng", b"II*\0\x08\0\0\0\x02\0\xfe\0\x04\0\x01\0\0\0\x01\0\0\0"),
        ("3.avif", b"\0\0\0\x18ftypavif"),
        ("4.mp4", b"\0\0\0\x18ftypisom"),
        ("5.raw", b"nothing known"),
    ):
        (tmp_path / "dog" / name).write_bytes(first + bytes(60))
    for name in ("Thumbs.db", ".DS_Store", "notes.txt"):
        (tmp_path / "dog" / name).write_bytes(b"BM 12")
    found = read_dataset(tmp_path)
    assert sorted(labelled(found)[""]) == ["cat/a.jfif", "cat/b", "cat/c.dat", "dog/a.JPG"]
    assert found.left_out.kinds == {"HEIC": 2, "camera raw": 1, "AVIF": 1, "MP4": 1, ".raw": 1}


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("HEIC", b"\0\0\0\x18ftyphevx"),
        ("camera raw", b"\0\0\0\x18ftypcrx "),
        ("MP4", b"\0\0\0\x18ftypisom"),
        ("SVG", b"<?xml version='1.0'?>\n<!-- %b -->\n<!DOCTYPE svg PUBLIC 'x'>\n<svg/>" % (b"x" * 99)),
        ("BigTIFF", b"II\x2b\0\x08\0\0\0"),
        ("HTML", b"<!DOCTYPE html><html><body>404</body></html>"),
        ("PBM", b"P4\n8 1\n\xff"),
        ("ZIP", b"PK\3\4"),
        (".odd", b"P1 is the first patient"),
    ],
)
def test_a_data_set_and_the_error_of_one_picture_know_the_same_formats(
    tmp_path: Path, kind: str, content: bytes
) -> None:
    lay_out(tmp_path, "cat/a.jpg", "dog/b.jpg")
    (tmp_path / "dog" / "c.odd").write_bytes(content + bytes(60))
    assert read_dataset(tmp_path).left_out.kinds == {kind: 1}
    with pytest.raises(UnknownFormatError, match="unknown format" if kind == ".odd" else kind.split()[0]):
        decode_picture(content + bytes(60))


def test_pipes_and_sockets_are_named_and_never_opened(tmp_path: Path) -> None:
    lay_out(tmp_path, "cat/a.jpg", "dog/b.jpg")
    os.mkfifo(tmp_path / "cat" / "pipe.jpg")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "dog" / "s"))
        found = read_dataset(tmp_path)
    assert found.left_out.kinds == {"FIFO": 1, "socket": 1}
    assert any("cat/pipe.jpg" in name for name in found.left_out.named)
    with pytest.raises(DataError, match=r"pipe\.jpg"):
        read_dataset(tmp_path / "cat" / "pipe.jpg")


def test_a_link_to_a_parent_folder_is_not_followed_endlessly(tmp_path: Path) -> None:
    lay_out(tmp_path, "cat/a.jpg", "dog/b.jpg")
    (tmp_path / "cat" / "again").symlink_to(tmp_path)
    (tmp_path / "dog" / "dog").symlink_to("dog")  # to itself
    found = read_dataset(tmp_path)
    assert len(found.splits[""]) == 2
    assert [name.partition(" (")[0] for name in found.left_out.named] == [str(tmp_path / "dog" / "dog")]


def test_a_tar_of_links_does_not_fill_the_terminal(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "links.tar", "w") as archive:
        for i in range(300):
            link = tarfile.TarInfo(f"cat/{i}.jpg")
            link.type, link.linkname = tarfile.SYMTYPE, "elsewhere.jpg"
            archive.addfile(link)
    left_out = read_dataset(tmp_path / "links.tar").left_out
    assert (left_out.kinds, len(left_out.named)) == ({"link": 300}, 300)
    assert str(left_out).count("cat/") == 100
    assert str(left_out).endswith("and 200 more")


@pytest.fixture
def tar(tmp_path: Path) -> Path:
    """Make a tar of four pictures of 1,024 bytes with their headers."""
    folder = lay_out(tmp_path / "in", *(f"{label}/{i}.jpg" for label in ("cat", "dog") for i in range(2)))
    with tarfile.open(tmp_path / "data.tar", "w", format=tarfile.USTAR_FORMAT) as archive:
        for file in sorted(folder.rglob("*.jpg")):
            archive.add(file, arcname=file.relative_to(folder))
    return tmp_path / "data.tar"


def member_bytes() -> int:
    return 512 + -(-len(JPEG) // 512) * 512


def test_a_tar_is_read_as_its_folder_is(tar: Path) -> None:
    found = read_dataset(tar)
    assert (found.form, found.labels, len(found.splits[""])) == ("tar without splits", ("cat", "dog"), 4)


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_picture_with_two_names_is_in_a_tar_of_its_folder_twice(tmp_path: Path, mode: str) -> None:
    folder = lay_out(tmp_path / "in", "train/cat/a.jpg", "train/dog/b.jpg", "test/cat/a.jpg", "test/dog/b.jpg")
    (folder / "train" / "dog" / "c.jpg").hardlink_to(folder / "train" / "dog" / "b.jpg")
    (folder / "train" / "cat" / "a.txt").hardlink_to(folder / "train" / "cat" / "a.jpg")
    with tarfile.open(tmp_path / "data.tar", mode) as archive:  # type: ignore[call-overload]
        archive.add(folder, arcname=".")
        assert [member.name for member in archive.getmembers() if member.islnk()]
    mine, theirs = (read_dataset(path).splits["train"] for path in (tmp_path / "data.tar", folder))
    assert mine.known_targets.tolist() == theirs.known_targets.tolist() == [0, 1, 1]
    assert fingerprints(mine.contents) == fingerprints(theirs.contents)
    assert name_of(mine.contents[2]) == "./train/dog/c.jpg"


@pytest.mark.parametrize("where", ["header", "between", "within", "mark", "behind"])
def test_a_damaged_or_truncated_tar_is_never_a_smaller_data_set(tar: Path, where: str) -> None:
    content = bytearray(tar.read_bytes())
    if where == "header":
        content[2 * member_bytes() + 10] ^= 1
    elif where == "behind":
        content += tar.read_bytes()  # joined with cat
    else:
        factor = {"between": 2, "within": 1.6, "mark": 4}[where]
        del content[int(factor * member_bytes()) :]
    tar.write_bytes(content)
    with pytest.raises(DataError, match=r"data\.tar.*damaged"):
        read_dataset(tar)


@pytest.mark.parametrize("suffix", ["gz", "xz", "bz2"])
def test_a_packed_tar_is_read_to_its_checksum(tar: Path, suffix: str) -> None:
    packed = tar.with_name(f"data.tar.{suffix}")
    with tarfile.open(packed, f"w:{suffix}") as archive:  # type: ignore[call-overload]
        archive.add(tar.parent / "in", arcname=".")
    assert len(read_dataset(packed).splits[""]) == 4
    whole = packed.read_bytes()
    for cut in (whole[:-3], whole[: len(whole) // 2]):
        packed.write_bytes(cut)
        with pytest.raises(DataError, match="damaged"):
            read_dataset(packed)


def test_a_packing_that_only_newer_pythons_read_is_not_called_damage(tmp_path: Path) -> None:
    (tmp_path / "data.tar.zst").write_bytes(bytes.fromhex("28b52ffd") + bytes(40))
    newer = sys.version_info >= (3, 14)
    with pytest.raises(DataError, match="damaged" if newer else "zstd -d"):
        read_dataset(tmp_path / "data.tar.zst")


@pytest.mark.parametrize("text", [
    "a/1.jpg,cat,train\na/2.jpg,dog,train\nb/3.jpg,cat,valid\n",
    "split;filename;class\ntraining;a/1.jpg;cat\ntrain;a/2.jpg;dog\nval;b/3.jpg;cat\n",
    "a/1.jpg cat train\na/2.jpg dog train\nb/3.jpg cat validation\n",
    "class,labels,filepaths,data set\n0,cat,a/1.jpg,train\n1,dog,a/2.jpg,train\n0,cat,b/3.jpg,valid\n",
    "path,label,split,is_test\na/1.jpg,cat,train,0\na/2.jpg,dog,train,0\nb/3.jpg,cat,val,0\n",
], ids=["plain", "with a head", "with spaces", "with numbers next to the labels", "with the splits twice"])  # fmt: skip
def test_lists_are_read(tmp_path: Path, text: str) -> None:
    lay_out(tmp_path, "a/1.jpg", "a/2.jpg", "b/3.jpg")
    (tmp_path / "list.csv").write_text(text)
    found = read_dataset(tmp_path / "list.csv")
    assert found.labels == ("cat", "dog")
    assert {role: len(split) for role, split in found.splits.items()} == {"train": 2, "val": 1}


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("1.jpg,cat\ngone.jpg,dog\n", "line 2"),
        ("1.jpg,cat\n1.jpg,dog\n", "line 2"),
        ("1.jpg,cat,tain\n", "line 1"),
        ("1.jpg,\n", "line 1"),
        ("1.jpg,cat,train\n2.jpg,cat\n", "1 lines"),
        ("1.jpg,cat,train\n./1.jpg,cat,test\n", "line 2"),
        ('1.jpg,cat\n2.jpg,"dog\n1.jpg,cat\n', "line 2"),  # would be a label of two lines
        ("path,diagnosis\n1.jpg,cat\n", "diagnosis"),
        ("path,label,Phase\n1.jpg,cat,train\n2.jpg,cat,test\n", "Phase"),  # would be trained on
        ("path,label,is_valid\n1.jpg,cat,False\n2.jpg,cat,True\n", "is_valid"),  # fastai's
        ("1.jpg,cat,train\n2.jpg,dog,train,lorry\n", "line 2"),  # a second label?
        ("1.jpg,K\u00e4se\n2.jpg,dog\n", "UTF-8"),
    ],
)
def test_the_line_that_is_wrong_is_named(tmp_path: Path, text: str, fact: str) -> None:
    lay_out(tmp_path, "1.jpg", "2.jpg")
    (tmp_path / "list.csv").write_text(text, "cp1252")  # as Excel does
    with pytest.raises(DataError, match=fact):
        read_dataset(tmp_path / "list.csv")


def test_pictures_that_a_list_repeats_are_remarked_on(tmp_path: Path) -> None:
    lay_out(tmp_path, "1.jpg", "2.jpg")
    once = "1.jpg,cat,train\n2.jpg,dog,test\n"
    for text, remarks in ((once, 0), (once + "./2.jpg,dog,test\n", 1)):
        (tmp_path / "list.csv").write_text(text)
        found = read_dataset(tmp_path / "list.csv")
        assert (len(found.splits["test"]), len(found.remarks)) == (1 + remarks, remarks)


def test_digits_named_by_their_files_have_labels_for_verify_too(tmp_path: Path) -> None:
    lay_out(tmp_path, *(f"mnist/{i:06d}-num{i % 3}.png" for i in range(9)))
    judged = evaluation_pictures(tmp_path, ("0", "1", "2"))
    assert judged.targets is not None
    assert np.bincount(judged.targets).tolist() == [3, 3, 3]


def digits(*places: str) -> list[str]:
    """Return the paths of six digits, 0 to 2, in each of the places."""
    return [f"{place}/{6 * p + i:06d}-num{i % 3}.png" for p, place in enumerate(places) for i in range(6)]


def test_digits_named_by_their_files_may_be_in_splits(tmp_path: Path) -> None:
    lay_out(tmp_path, *digits("Train", "test_images"))
    found = read_dataset(tmp_path)
    assert found.labels == ("0", "1", "2")
    assert {role: len(split) for role, split in found.splits.items()} == {"train": 6, "test": 6}
    assert all(label == Path(name).stem[-1] for split in labelled(found).values() for name, label in split.items())
    judged = evaluation_pictures(tmp_path, ("2", "1", "0"))
    assert judged.targets is not None
    assert np.bincount(judged.targets).tolist() == [2, 2, 2]
    lay_out(tmp_path, "test_images/other.png")
    with pytest.raises(DataError, match=r"test_images/.*loose"):
        read_dataset(tmp_path)


def test_folders_of_digits_named_by_their_files_are_not_overruled_silently(tmp_path: Path) -> None:
    lay_out(tmp_path, *digits("first", "second"))
    with pytest.raises(DataError, match=r"first, second.*--label-level first"):
        read_dataset(tmp_path)
    assert read_dataset(tmp_path, Reading("first")).labels == ("first", "second")
    for labels, targets in ((("first", "second"), [6, 6]), (("0", "1", "2"), [4, 4, 4])):  # a model's decide
        judged = evaluation_pictures(tmp_path, labels)
        assert judged.targets is not None
        assert np.bincount(judged.targets).tolist() == targets


def test_digits_in_folders_of_their_own_are_what_both_say(tmp_path: Path) -> None:
    lay_out(tmp_path, *(f"{i}/{i:06d}-NUM{i}.PNG" for i in range(3)))
    assert read_dataset(tmp_path).labels == ("0", "1", "2")


def shared(depth: int, kind: type) -> object:
    """Make a few hundred bytes that unfold to 2 ** depth entries."""
    value: object = kind([1, 1])
    for _ in range(depth):
        value = kind([value, value])
    return value


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_a_pickle_that_unfolds_without_end_is_refused_at_once(protocol: int) -> None:
    bombs: list[dict[object, object]] = [
        {"labels": shared(40, list)},
        {"data": shared(40, tuple)},
        {"labels": [shared(40, tuple)]},
    ]
    for bomb in bombs:
        with pytest.raises(DataError, match="pickle"):
            load_plain_pickle(pickle.dumps(bomb, protocol), "bomb")
    if protocol:  # a tuple as a key: (((1, 1), (1, 1)), ...) hashed 2 ** 40 times
        pair = b"K\x01K\x01\x86" + b"q\x00h\x00\x86" * 40
        with pytest.raises(DataError, match="tuple"):
            load_plain_pickle(b"\x80\x02}" + pair + b"K\x01s.", "bomb")


@pytest.mark.parametrize(
    "names",
    [
        "training_set val_set test_set",
        "trainset valset testset",
        "train_images dev testing_data",
        "TRAIN_DATASET valid-photos Test_Images_Set",
        "train_split val_split test_split",
    ],
)
def test_usual_names_of_splits_are_splits(tmp_path: Path, names: str) -> None:
    lay_out(tmp_path, *(f"{name}/{label}/1.jpg" for name in names.split() for label in "ab"))
    found = read_dataset(tmp_path)
    assert (found.labels, sorted(found.splits)) == (("a", "b"), ["test", "train", "val"])


def test_labels_called_like_splits_are_asked_about(tmp_path: Path) -> None:
    lay_out(tmp_path, *(f"{name}/{label}/1.jpg" for name in ("seg_train", "seg_test") for label in "ab"))
    with pytest.raises(DataError, match=r"seg_test, seg_train.*--label-level first"):
        read_dataset(tmp_path)
    assert read_dataset(tmp_path, Reading("first")).labels == ("seg_test", "seg_train")
    with pytest.raises(DataError) as caught:  # commands with a model have no such flag
        evaluation_pictures(tmp_path, ("cat", "dog"))
    assert "--label-level" not in str(caught.value)


def test_labels_that_all_hold_the_same_folders_are_remarked_on(tmp_path: Path) -> None:
    lay_out(tmp_path, *(f"{name}/{label}/1.jpg" for name in ("treino", "teste") for label in ("gato", "rato")))
    found = read_dataset(tmp_path)
    assert found.labels == ("teste", "treino")
    (remark,) = found.remarks
    assert "gato, rato" in remark
    assert not read_dataset(tmp_path, Reading("first")).remarks
    lay_out(tmp_path, "teste/rio/1.jpg")
    assert not read_dataset(tmp_path).remarks


def test_an_umlaut_of_macos_is_the_same_label_as_one_of_linux(tmp_path: Path) -> None:
    linux, macos = "K\u00e4se", "Ka\u0308se"
    lay_out(tmp_path, f"train/{linux}/1.jpg", "train/b/1.jpg", f"test/{macos}/1.jpg", "test/b/1.jpg")
    assert read_dataset(tmp_path).labels == (linux, "b")
    assert len(evaluation_pictures(tmp_path, ("b", macos))) == 2
    lay_out(tmp_path, f"test/{linux}/1.jpg")  # two folders that a screen cannot tell apart
    with pytest.raises(DataError):
        read_dataset(tmp_path)


def test_the_later_file_of_a_name_in_a_tar_counts(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "data.tar", "w") as archive:
        for name, content in (("a/1.jpg", b"old"), ("b/1.jpg", b"other"), ("./a/1.jpg", b"new")):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    contents = read_dataset(tmp_path / "data.tar").splits[""].contents
    assert [bytes_of(content) for content in contents] == [b"new", b"other"]


def test_a_tar_that_begins_with_a_name_like_a_format_s_first_bytes_is_read(tmp_path: Path) -> None:
    lay_out(tmp_path, "P6 2019/1.jpg", "P6 2020/2.jpg")
    with tarfile.open(tmp_path / "data.tar", "w", format=tarfile.GNU_FORMAT) as archive:
        for name in ("P6 2019", "P6 2020"):
            archive.add(tmp_path / name, name)
    assert read_dataset(tmp_path / "data.tar").labels == ("P6 2019", "P6 2020")


def test_labels_that_differ_in_capitals_or_spaces_are_a_warning(tmp_path: Path) -> None:
    labels = ("Cat", "cat", "dog", "dog ", "doge")
    lay_out(tmp_path, *(f"{label}/{i}.jpg" for label in labels for i in range(20)))
    pictures = evaluation_pictures(tmp_path, labels)
    cat, dog = (text for text in pictures.warnings if text not in pictures.cautions)
    assert "'Cat' and 'cat'" in cat
    assert "'dog' and 'dog '" in dog


@pytest.mark.parametrize(
    ("name", "content", "kind"), [("a.zip", b"PK\3\4" + bytes(26), "ZIP"), ("a.jsonl", b'{"a": 1}\n', "text")]
)
def test_a_file_of_another_kind_is_not_called_a_damaged_tar(
    tmp_path: Path, name: str, content: bytes, kind: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=kind):
        read_dataset(tmp_path / name)


def test_a_list_with_the_paths_of_windows_is_read(tmp_path: Path) -> None:
    lay_out(tmp_path, "a/1.jpg", "a/2.jpg")
    (tmp_path / "list.csv").write_bytes(b"\xef\xbb\xbfpath,label\r\na\\1.jpg,cat\r\na\\2.jpg,dog\r\n")
    assert labelled(read_dataset(tmp_path / "list.csv"))[""].keys() == {"../a/1.jpg", "../a/2.jpg"}


@pytest.mark.parametrize("path", ["x" * 5000, "a\0b"])
def test_a_path_that_no_data_can_have_is_an_error_of_the_data(path: str) -> None:
    with pytest.raises(DataError):
        read_dataset(Path(path))


@pytest.mark.parametrize("packed", ["w", "w:xz"])
def test_a_large_tar_or_folder_says_how_far_it_is_read(
    packed: Literal["w", "w:xz"], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data" / "cat").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "data" / "cat" / "a.png")
    with tarfile.open(tmp_path / "data.tar", packed) as archive:
        archive.add(tmp_path / "data", "data")
    terminal = io.StringIO()
    terminal.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stderr", terminal)
    for module in ("archive", "scan"):
        monkeypatch.setattr(f"taijitu_runtime.datasets.{module}.DELAY_S", 0.0)
    for name in ("data", "data.tar"):
        read_dataset(tmp_path / name)
    assert "looking through data" in terminal.getvalue()
    assert "reading data.tar" in terminal.getvalue()
