"""WebDataset shards: counted, checked, and read in another order every epoch."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import webdataset
from PIL import Image

from taijitu_runtime.errors import DataError, UsageError
from taijitu_training.data import Pictures, Share, Stream, batches, evaluation_batches, load_dataset
from taijitu_training.data.dataset import DataRequest, Dataset
from taijitu_training.data.shard_folder import shards_by_split
from taijitu_training.data.webdataset_shards import Shards, picture_of, target_of
from taijitu_training.recipes.named import RECIPES
from tests.helpers.image_file import image_file

CPU, ALONE = torch.device("cpu"), Share()
PLAIN = replace(RECIPES["nish_mnist"], batch_size=4)  # neither padding nor mirroring: a pixel identifies a picture


def picture(value: int) -> bytes:
    return image_file(Image.fromarray(np.full((8, 8, 3), value, np.uint8)))


def write_shard(path: Path, values: range, label: str = "cls") -> None:
    """Write pictures of one grey each; the label is the grey modulo 3."""
    with webdataset.TarWriter(str(path)) as writer:
        for value in values:
            target: Any = value % 3 if label == "cls" else {"label": value % 3, "width": 8}
            writer.write({"__key__": f"n{value:04d}", "png": picture(value), label: target})


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Write six shards of 10, 10, 10, 10, 10 and 7 to train on, two of 6 to evaluate on; three labels with names."""
    for i in range(6):
        write_shard(tmp_path / f"train-{i:03d}.tar", range(10 * i, 57 if i == 5 else 10 * i + 10))
    for i in range(2):
        write_shard(tmp_path / f"val-{i:03d}.tar", range(100 + 6 * i, 106 + 6 * i))
    (tmp_path / "labels.txt").write_text("zero\none\ntwo\n")
    return tmp_path


def load_shards(folder: Path) -> Dataset:
    return load_dataset(DataRequest(folder, (8, 8), PLAIN, workers=0))


def values_of(dataset: Dataset, share: Share = ALONE, epoch: int = 0, first: int = 0) -> list[int]:
    """Return the greys of an epoch in their order; check their targets."""
    got = []
    mean, std = 255 * PLAIN.mean[0], 255 * PLAIN.std[0]
    for step in batches(dataset.train, PLAIN, CPU, share).epoch(epoch, first):
        for images, targets in step:
            values = [round(value) for value in (images[:, 0, 0, 0] * std + mean).tolist()]
            assert targets.tolist() == [value % 3 for value in values]
            got += values
    return got


def test_shards_are_counted_and_named(shards: Path) -> None:
    dataset = load_shards(shards)
    assert dataset.labels == ("zero", "one", "two")
    assert (len(dataset.train), len(dataset.evaluation), dataset.evaluation_name) == (57, 12, "val")
    assert dataset.form == "WebDataset shards, counted by their headers, decoded while training"
    assert isinstance(dataset.evaluation, Pictures)  # it fits
    assert dataset.evaluation.images[:, 3, 3, 1].tolist() == list(range(100, 112))


def test_shards_are_found_in_any_case_and_not_next_to_the_folder_that_they_are_copies_of(shards: Path) -> None:
    for file in shards.glob("*.tar"):
        file.rename(file.with_name(file.name.upper()))
    assert {role: len(paths) for role, paths in shards_by_split(shards).items()} == {"train": 6, "val": 2}
    (shards / "Training_Set").mkdir()
    assert shards_by_split(shards) == {}


def test_pictures_of_every_known_suffix_are_samples() -> None:
    for suffix in ("tif", "bmp", "pgm"):
        assert picture_of({"__key__": "a", "__url__": "b.tar", "cls": b"0", suffix: b""}) == (f"a.{suffix}", suffix)


def test_an_epoch_has_every_sample_at_most_once_in_an_order_of_its_own(shards: Path) -> None:
    dataset = load_shards(shards)
    first, second = values_of(dataset), values_of(dataset, epoch=1)
    for values in (first, second):
        assert len(values) == len(set(values)) == 57  # 13 batches of 4 and one of 5: one alone does not make a batch
    assert first != second
    assert values_of(dataset) == first
    assert sum(a + 1 == b for a, b in pairwise(first)) < 10  # mixed within the shards, too
    assert values_of(dataset, first=9) == first[36:]


def test_processes_read_different_shards_and_make_as_many_steps(shards: Path) -> None:
    dataset = load_shards(shards)
    for processes, samples in ((2, 27), (3, 17), (4, 7)):  # in the smallest shards that one can get
        recipe = replace(PLAIN, batch_size=2 * processes)
        seen: Counter[int] = Counter()
        for rank in range(processes):
            mine = batches(dataset.train, recipe, CPU, Share(rank, processes))
            assert (mine.cut.steps, mine.cut.used) == (samples // 2, samples * processes)
            seen.update(int(p) for step in mine.epoch(0, 0) for images, _ in step for p in (images[:, 0, 0, 0] * 1e4))
        assert set(seen.values()) == {1}
        assert seen.total() == samples * processes


def test_every_evaluation_sample_is_counted_by_exactly_one_process(
    shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("taijitu_training.data.dataset.host_budget", lambda: 0)
    dataset = load_shards(shards)
    assert isinstance(dataset.evaluation, Stream)
    for processes in (1, 2, 3):  # of three processes one has no shard
        parts = [list(evaluation_batches(dataset.evaluation, CPU, Share(i, processes), 5)) for i in range(processes)]
        values = [int(value) for part in parts for images, _ in part for value in images[:, 0, 0, 0]]
        assert sorted(values) == list(range(100, 112))
        targets = [int(target) for part in parts for _, targets in part for target in targets]
        assert targets == [value % 3 for value in values]


ONE_WITHOUT_MEMORY = """
import os
from taijitu_runtime.datasets import budget
from taijitu_training import train
from taijitu_training.cli import main
from taijitu_training.data import Share, evaluation_batches

load, rank = train.load_dataset, int(os.environ["RANK"])
budget.available_bytes = lambda: 10**9 * rank

def loaded(request):
    dataset = load(request)
    for images, targets in evaluation_batches(dataset.evaluation, train.choose_device("cpu"), Share(rank, 2)):
        # In one call: two processes write to one pipe.
        os.write(1, " ".join(map(str, images[:, 0, 0, 0].tolist())).encode() + b"\\n")
    raise SystemExit

train.load_dataset = loaded
main()
"""


def test_processes_with_unequal_memory_evaluate_every_sample_once(shards: Path, tmp_path: Path) -> None:
    write_shard(shards / "val-002.tar", range(112, 117))
    (program := tmp_path / "program.py").write_text(ONE_WITHOUT_MEMORY)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(program)]
    command += ["--model", "yynet_small_16", "--data", str(shards), "--out", str(tmp_path / "run"), "--workers", "0"]
    output = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300).stdout
    assert sorted(map(int, output.split())) == list(range(100, 117))


def test_more_processes_than_shards_are_refused(shards: Path) -> None:
    with pytest.raises(DataError, match=r"6 .*7 processes"):
        batches(load_shards(shards).train, replace(PLAIN, batch_size=14), CPU, Share(processes=7))


def test_labels_in_json_and_without_names_are_numbers(tmp_path: Path) -> None:
    write_shard(tmp_path / "colours-train-0.tar", range(12), label="json")
    write_shard(tmp_path / "colours-test-0.tar", range(6), label="json")
    dataset = load_shards(tmp_path)
    assert (dataset.labels, dataset.evaluation_name) == (("0", "1", "2"), "test")
    assert sorted(values_of(dataset)) == list(range(12))


def test_a_label_beyond_the_number_of_samples_is_refused_before_all_up_to_it_are_named(tmp_path: Path) -> None:
    for split in ("train", "test"):
        with webdataset.TarWriter(str(tmp_path / f"{split}-0.tar")) as writer:
            for key, label in (("a", 0), ("b", 20_261_130_120_000)):
                writer.write({"__key__": key, "png": picture(1), "cls": label})
    with pytest.raises(DataError, match="20261130120000"):
        load_shards(tmp_path)


def write_info(folder: Path, **lengths: int) -> None:
    names = {path.name: 10 if path.name.startswith("train") else 6 for path in folder.glob("*.tar")}
    names |= {"train-005.tar": 7} | {f"{name}.tar".replace("_", "-"): length for name, length in lengths.items()}
    splits = {
        split: {
            "name": split,
            "filenames": [name for name in sorted(names) if name.startswith(split)],
            "shard_lengths": [names[name] for name in sorted(names) if name.startswith(split)],
        }
        for split in ("train", "val", "test")
    }
    (folder / "_info.json").write_text(json.dumps({"splits": splits}))


def test_info_json_saves_the_counting(shards: Path) -> None:
    counted = load_shards(shards)
    write_info(shards)
    stated = load_shards(shards)
    assert stated.form == "WebDataset shards, counted by _info.json, decoded while training"
    assert (stated.labels, len(stated.train)) == (counted.labels, len(counted.train))
    assert values_of(stated) == values_of(counted)
    write_info(shards, train_000=14)
    with pytest.raises(DataError, match=r"_info\.json"):
        values_of(load_shards(shards))
    (shards / "_info.json").write_text('{"splits": {"train": {"filenames": ["train-000.tar"], "shard_lengths": [10]}}}')
    with pytest.raises(DataError, match=r"_info\.json.*train-001\.tar"):
        load_shards(shards)
    write_info(shards, train_000=-1)
    with pytest.raises(DataError, match=r"_info\.json"):
        load_shards(shards)
    (shards / "_info.json").write_text('{"splits": 3}')
    with pytest.raises(DataError, match=r"_info\.json.*filenames.*shard_lengths"):
        load_shards(shards)


def test_a_shard_that_info_json_states_and_is_not_there_is_named(shards: Path) -> None:
    write_info(shards, test_000=6)
    assert len(load_shards(shards).train) == 57, "a split may be left out"
    (shards / "train-003.tar").rename(shards / "train-003.tar.part")
    with pytest.raises(DataError, match=r"train-003\.tar.*_info\.json"):
        load_shards(shards)
    (shards / "_info.json").unlink()
    assert len(load_shards(shards).train) == 47


def test_val_shards_choose_and_test_shards_measure(shards: Path) -> None:
    write_shard(shards / "test-000.tar", range(200, 209))
    for counted in ("headers", "_info.json"):
        dataset = load_shards(shards)
        assert counted in dataset.form
        assert (len(dataset.evaluation), dataset.evaluation_name, dataset.chooses) == (12, "val", True)
        assert isinstance(dataset.test, Pictures)
        assert dataset.test.images[:, 0, 0, 0].tolist() == list(range(200, 209))
        write_info(shards, test_000=9)


def test_val_and_test_shards_are_in_memory_where_both_together_fit(shards: Path) -> None:
    write_shard(shards / "test-000.tar", range(200, 209))
    needed = (12 + 9) * 8 * 8 * 3
    for budget, kind in ((needed, Pictures), (needed - 1, Stream)):
        dataset = load_dataset(DataRequest(shards, (8, 8), PLAIN, workers=0, budget=budget))
        assert isinstance(dataset.evaluation, kind)
        assert isinstance(dataset.test, kind)


@pytest.mark.parametrize(
    ("labels", "fact"),
    [(b"zero\none\none\n", "one"), (b"zero\n\none\ntwo\n", "line 2"), (b"z\xe9ro\none\ntwo\n", "UTF-8")],
)
def test_a_file_of_labels_that_no_model_can_have_is_refused(shards: Path, labels: bytes, fact: str) -> None:
    (shards / "labels.txt").write_bytes(labels)
    with pytest.raises(UsageError, match=rf"labels\.txt.*{fact}"):
        load_shards(shards)


def test_a_file_of_labels_from_windows_is_read(shards: Path) -> None:
    (shards / "labels.txt").write_bytes(b"\xef\xbb\xbfzero\r\none\r\ntwo\r\n")
    assert load_shards(shards).labels == ("zero", "one", "two")


def test_a_shard_that_is_cut_off_is_named_before_training(shards: Path) -> None:
    path = shards / "train-003.tar"
    path.write_bytes(path.read_bytes()[:9000])
    with pytest.raises(DataError, match=r"train-003\.tar.*damaged"):
        load_shards(shards)
    path.write_bytes(b"PK\x03\x04" + bytes(2000))
    with pytest.raises(DataError, match=r"train-003\.tar.*damaged"):
        load_shards(shards)
    path.write_bytes(bytes(10240))
    with pytest.raises(DataError, match=r"train-003\.tar.*KEY\.cls"):
        load_shards(shards)


def test_a_shard_that_is_cut_off_later_is_named_in_mid_epoch(shards: Path) -> None:
    dataset = load_shards(shards)
    path = shards / "train-003.tar"
    path.write_bytes(path.read_bytes()[:9000])
    with pytest.raises(DataError, match=r"train-003\.tar.*damaged"):
        values_of(dataset)


# A sample to add to val-001.tar, and the error.
SPOILT: list[tuple[dict[str, Any], str]] = [
    ({"png": picture(1)}, r"val-001\.tar: sample x: got no 'json', expected a number 0 to 2 in KEY\.cls or as"),
    ({"png": picture(1), "cls": b"cat"}, r"sample x: got invalid literal .*'cat', expected a number 0 to 2 in KEY"),
    ({"png": picture(1), "cls": 3}, r"val-001\.tar: sample x: got label 3, expected a number 0 to 2"),
    ({"png": picture(1), "cls": -1}, "sample x.*-1.*0 to 2"),
    ({"png": picture(1), "json": {"caption": "a cat"}}, "sample x.*'label'"),
    (
        {"cls": 1, "txt": "a cat"},
        r"val-001\.tar: sample x.*\(cls, txt\).*jpg, jpeg, png, webp",
    ),
]


@pytest.mark.parametrize(("sample", "message"), SPOILT)
def test_a_sample_without_picture_or_label_is_named_before_training(
    shards: Path, sample: dict[str, Any], message: str
) -> None:
    with webdataset.TarWriter(str(shards / "val-001.tar")) as writer:
        writer.write({"__key__": "a", "png": picture(0), "cls": 0})
        writer.write({"__key__": "x", **sample})
    with pytest.raises(DataError, match=message):
        load_shards(shards)


def test_a_broken_picture_is_named_in_mid_epoch(shards: Path) -> None:
    with webdataset.TarWriter(str(shards / "train-002.tar")) as writer:
        writer.write({"__key__": "a", "png": picture(0), "cls": 0})
        writer.write({"__key__": "broken", "jpg": b"no picture", "cls": 1})
    with pytest.raises(DataError, match=r"/train-002\.tar: broken\.jpg \("):
        values_of(load_shards(shards))


def test_a_label_whose_pictures_of_val_are_all_left_out_is_refused(shards: Path) -> None:
    request = DataRequest(shards, (8, 8), PLAIN, workers=0, skip_unreadable=True)
    with webdataset.TarWriter(str(shards / "val-001.tar")) as writer:
        writer.write({"__key__": "broken", "jpg": b"no picture", "cls": 1})
    dataset = load_dataset(request)
    assert (len(dataset.evaluation), len(dataset.unreadable)) == (6, 1)
    with webdataset.TarWriter(str(shards / "val-000.tar")) as writer:
        for target in (0, 2):
            writer.write({"__key__": str(target), "png": picture(target), "cls": target})
    with pytest.raises(DataError, match=r"val .*: one"):
        load_dataset(request)


def test_missing_splits_and_labels_are_named(shards: Path) -> None:
    (shards / "labels.txt").write_text("zero\none\ntwo\nthree\n")
    with pytest.raises(DataError, match=r"train .*: three"):
        load_shards(shards)
    with pytest.raises(DataError, match=r"--validation.*train-\*\.tar"):
        load_dataset(DataRequest(shards, (8, 8), PLAIN, validation=0.1))
    (shards / "labels.txt").unlink()
    write_shard(shards / "val-000.tar", range(0, 30, 3))
    write_shard(shards / "val-001.tar", range(1, 30, 3))
    with pytest.raises(DataError, match=r"val .*: 2"):
        load_shards(shards)
    for path in shards.glob("val-*"):
        path.unlink()
    with pytest.raises(DataError, match=r"val-\*\.tar.*test-\*\.tar"):
        load_shards(shards)


def test_no_sample_is_lost_where_shards_are_equal_and_divide_evenly() -> None:
    equal = Shards(("a", "b", "c", "d"), (100,) * 4, classes=2)
    assert [equal.in_an_epoch(Share(processes=processes)) for processes in (1, 2, 4)] == [400, 400, 400]
    assert equal.in_an_epoch(Share(processes=3)) == 300  # one of four shards is left out, another one every epoch


@pytest.mark.parametrize("label", ["2.7", "Infinity"])
def test_a_label_in_json_that_is_no_whole_number_is_named(label: str) -> None:
    sample = {"__url__": "train-000.tar", "__key__": "a", "json": f'{{"label": {label}}}'.encode()}
    with pytest.raises(DataError, match=r"train-000\.tar: sample a: "):
        target_of(sample, 3)
    assert target_of(sample | {"json": b'{"label": 2.0}'}, 3) == 2
