"""Pictures decoded while training: the same as in memory, for any number of processes, and where a run continues."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from taijitu_runtime.errors import DataError, TaijituError
from taijitu_runtime.pictures.preprocess import decode_picture
from taijitu_training.data import Share, Source, batches, evaluation_batches, load_dataset
from taijitu_training.data.dataset import DataRequest, Dataset, Stream
from taijitu_training.data.samples import Samples
from taijitu_training.data.share import Cut, Step, epoch_order
from taijitu_training.recipes.named import RECIPES
from taijitu_training.recipes.recipe import Recipe

CPU, ALONE = torch.device("cpu"), Share()
PADDED = replace(RECIPES["yynet_cifar10"], batch_size=8, brightness=0.2)
RESIZED = replace(PADDED, crop="resized", pad=0)
SIZE = (24, 28)


@pytest.fixture
def no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend a host on which no picture fits in memory."""
    monkeypatch.setattr("taijitu_training.data.dataset.host_budget", lambda: 0)


def steps_of(
    source: Source, share: Share = ALONE, epoch: int = 0, first: int = 0, recipe: Recipe = RESIZED
) -> list[Step]:
    return list(batches(source, recipe, CPU, share).epoch(epoch, first))


def joined(parts: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    images, targets = zip(*parts, strict=True)
    return torch.cat(images), torch.cat(targets)


def assert_same(got: Sequence[Step], expected: Sequence[Step]) -> None:
    assert len(got) == len(expected) > 0
    for mine, theirs in zip(got, expected, strict=True):
        for left, right in zip(joined(mine), joined(theirs), strict=True):
            assert torch.equal(left, right)


def undecoded(dataset: Dataset) -> Samples:
    assert isinstance(dataset.train, Stream)
    assert isinstance(dataset.train.undecoded, Samples)
    return dataset.train.undecoded


def test_a_stream_trains_and_evaluates_on_the_same_pictures_as_in_memory(
    tiny_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = load_dataset(DataRequest(tiny_data, SIZE, PADDED))
    monkeypatch.setattr("taijitu_training.data.dataset.host_budget", lambda: 0)
    streamed = load_dataset(DataRequest(tiny_data, SIZE, PADDED, workers=0))
    assert isinstance(streamed.train, Stream)
    assert batches(streamed.train, PADDED, CPU, ALONE).cut.steps == 6
    for epoch in (0, 1):
        theirs = steps_of(held.train, epoch=epoch, recipe=PADDED)
        assert_same(steps_of(streamed.train, epoch=epoch, recipe=PADDED), theirs)
    for share in (ALONE, Share(rank=1, processes=3)):
        mine = list(evaluation_batches(streamed.evaluation, CPU, share, batch_size=5))
        assert_same([mine], [list(evaluation_batches(held.evaluation, CPU, share, batch_size=5))])
        assert [len(targets) for _, targets in mine] == ([5, 5, 2] if share.processes == 1 else [4])
    one_too_many = Share(rank=12, processes=13)
    for source in (held.evaluation, streamed.evaluation):
        assert not list(evaluation_batches(source, CPU, one_too_many))


def test_the_incomplete_batch_is_streamed_as_in_memory_for_any_number_of_processes(
    tiny_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = replace(PADDED, batch_size=18)  # 48 images: 18, 18 and 12, or 18 and 30 where 12 are too few to share
    held = load_dataset(DataRequest(tiny_data, SIZE, recipe)).train
    monkeypatch.setattr("taijitu_training.data.dataset.host_budget", lambda: 0)
    streamed = load_dataset(DataRequest(tiny_data, SIZE, recipe, workers=0)).train
    whole = steps_of(held, recipe=recipe)
    assert [len(joined(step)[1]) for step in whole] == [18, 18, 12]
    assert_same(steps_of(streamed, recipe=recipe), whole)
    assert_same(steps_of(streamed, first=2, recipe=recipe), whole[2:])
    for source in (held, streamed):
        shares = [Share(rank, processes=3, accumulate=2) for rank in range(3)]
        together = [steps_of(source, share, recipe=recipe) for share in shares]
        assert_same([list(chain(*parts)) for parts in zip(*together, strict=True)], whole)
        many = steps_of(source, Share(accumulate=9), recipe=recipe)
        assert [len(joined(step)[1]) for step in many] == [18, 30]
        assert min(len(targets) for step in many for _, targets in step) >= 2
    dropped = replace(recipe, last_batch="drop")
    assert [len(joined(step)[1]) for step in steps_of(streamed, recipe=dropped)] == [18, 18]


@pytest.mark.parametrize("recipe", [PADDED, RESIZED], ids=["padded", "resized"])
def test_processes_and_accumulation_share_the_batches_of_one_process(
    tiny_data: Path, no_memory: None, recipe: Recipe
) -> None:
    train = load_dataset(DataRequest(tiny_data, SIZE, recipe, workers=0)).train
    whole = steps_of(train, recipe=recipe)
    assert_same(steps_of(train, Share(accumulate=4), recipe=recipe), whole)
    for processes, accumulate in ((2, 1), (2, 2), (4, 1)):
        shares = [Share(rank, processes, accumulate) for rank in range(processes)]
        together = [steps_of(train, share, recipe=recipe) for share in shares]
        assert all(len(step) == accumulate for steps in together for step in steps)
        assert_same([list(chain(*parts)) for parts in zip(*together, strict=True)], whole)


def test_every_epoch_has_every_picture_once_in_another_order_and_crop(tiny_data: Path) -> None:
    train = load_dataset(DataRequest(tiny_data, SIZE, RESIZED, workers=0)).train
    first, second = (steps_of(train, epoch=epoch) for epoch in (0, 1))
    assert_same(steps_of(train, epoch=1), second)
    assert not torch.equal(joined(joined_steps(first))[0], joined(joined_steps(second))[0])
    for steps in (first, second):
        assert joined(joined_steps(steps))[1].bincount().tolist() == [24, 24]
    other = load_dataset(DataRequest(tiny_data, SIZE, replace(RESIZED, seed=1), workers=0)).train
    assert not torch.equal(first[0][0][0], steps_of(other, recipe=replace(RESIZED, seed=1))[0][0][0])


def joined_steps(steps: Sequence[Step]) -> list[tuple[Tensor, Tensor]]:
    return [part for step in steps for part in step]


def test_a_resumed_run_decodes_only_the_remaining_pictures(tmp_path: Path, tiny_data: Path) -> None:
    shutil.copytree(tiny_data, tmp_path / "data")
    dataset = load_dataset(DataRequest(tmp_path / "data", SIZE, RESIZED, workers=0))
    whole = steps_of(dataset.train)
    assert_same(steps_of(dataset.train, first=4), whole[4:])
    path, _ = next(undecoded(dataset).shuffled(RESIZED, 0, 1, Cut(48, 8, ALONE)))
    assert isinstance(path, str)
    Path(path).write_bytes(Path(path).read_bytes()[:300])
    assert_same(steps_of(dataset.train, first=2), whole[2:])
    epoch = batches(dataset.train, RESIZED, CPU, ALONE).epoch(0, 0)
    next(epoch)
    with pytest.raises(DataError, match=rf"{path} \(.+\)"):
        next(epoch)


def test_tars_and_arrays_are_cropped_as_folders_are(tiny_data: Path, tmp_path: Path) -> None:
    folder = load_dataset(DataRequest(tiny_data, SIZE, RESIZED, workers=0))
    with tarfile.open(tmp_path / "data.tar", "w") as archive:
        archive.add(tiny_data, arcname="data")
    packed = load_dataset(DataRequest(tmp_path / "data.tar", SIZE, RESIZED, workers=0))
    assert packed.form == "tar, decoded while training"
    assert_same(steps_of(packed.train), steps_of(folder.train))
    assert isinstance(folder.train, Stream)
    files = undecoded(folder)
    arrays = Samples(np.stack([decode_picture(str(path)) for path in files.contents]), files.targets)
    assert_same(steps_of(Stream(arrays, folder.train.workers)), steps_of(folder.train))


def test_processes_that_decode_change_nothing_but_the_speed(tiny_data: Path, tmp_path: Path, no_memory: None) -> None:
    recipe = replace(RESIZED, batch_size=48)  # more than one process decodes at a time
    alone = load_dataset(DataRequest(tiny_data, SIZE, recipe, workers=0))
    dataset = load_dataset(DataRequest(tiny_data, SIZE, recipe, workers=2))
    before = torch.get_rng_state()
    epoch = batches(dataset.train, replace(recipe, batch_size=4), CPU, ALONE).epoch(0, 0)
    next(epoch)  # and stop there: what follows starts again
    for number in (0, 1):
        expected = steps_of(alone.train, epoch=number, recipe=recipe)
        assert_same(steps_of(dataset.train, epoch=number, recipe=recipe), expected)
        mine, theirs = (list(evaluation_batches(source.evaluation, CPU, ALONE)) for source in (dataset, alone))
        assert_same([mine], [theirs])
    assert torch.equal(torch.get_rng_state(), before)
    assert isinstance(dataset.train, Stream)
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    spoilt = Samples([str(broken)] * 60, torch.zeros(60, dtype=torch.int64))
    with pytest.raises(DataError, match=r"/broken\.png \(.+\)"):
        steps_of(Stream(spoilt, dataset.train.workers), recipe=recipe)


STREAM = """
import sys, time, torch
from dataclasses import replace
from pathlib import Path
from taijitu_training.data import Share, batches, load_dataset
from taijitu_training.data.dataset import DataRequest
from taijitu_training.recipes.named import RECIPES

if __name__ == "__main__":
    recipe = replace(RECIPES["yynet_cifar10"], batch_size=8, crop="resized", pad=0)
    train = load_dataset(DataRequest(Path(sys.argv[1]), (24, 28), recipe, workers=2)).train
    next(batches(train, recipe, torch.device("cpu"), Share()).epoch(0, 0))
    print("decoding", flush=True)
    time.sleep(600)
"""


def test_a_killed_run_leaves_no_process(root: Path, tiny_data: Path, tmp_path: Path) -> None:
    (tmp_path / "stream.py").write_text(STREAM)
    command = [sys.executable, str(tmp_path / "stream.py"), str(tiny_data)]
    path = f"{root / 'training'}{os.pathsep}{root / 'runtime'}"
    with subprocess.Popen(command, env=os.environ | {"PYTHONPATH": path}, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == "decoding\n"
        run.kill()
        assert run.communicate(timeout=60)[0] == ""  # ends once no process has this output any more


SIGNALLED = STREAM.replace(
    """    print("decoding", flush=True)
    time.sleep(600)
""",
    """    with StopRequest() as stop:
        steps = batches(train, recipe, torch.device("cpu"), Share()).epoch(0, 0)
        next(steps)
        os.killpg(0, int(sys.argv[2]))
        time.sleep(1)
        print(stop.asked, len(list(steps)))
""",
).replace("batch_size=8", "batch_size=2")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_all_processes_leaves_those_that_decode(
    root: Path, tiny_data: Path, tmp_path: Path, number: signal.Signals
) -> None:
    (tmp_path / "stream.py").write_text(f"import os\nfrom taijitu_training.run.stop import StopRequest\n{SIGNALLED}")
    command = [sys.executable, str(tmp_path / "stream.py"), str(tiny_data), str(int(number))]
    path = f"{root / 'training'}{os.pathsep}{root / 'runtime'}"
    done = subprocess.run(
        command,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        start_new_session=True,
        timeout=120,
        check=False,
    )
    assert done.stdout == "True 23\n", done.stderr
    assert "Traceback" not in done.stderr


def test_batches_that_cannot_be_filled_or_shared_are_refused(tiny_data: Path) -> None:
    train = load_dataset(DataRequest(tiny_data, SIZE, RESIZED, workers=0)).train
    with pytest.raises(DataError, match=r"48 .*49"):
        batches(train, replace(RESIZED, batch_size=49, last_batch="drop"), CPU, ALONE)
    with pytest.raises(TaijituError, match=r" 8 .*3 processes x 1 "):
        batches(train, RESIZED, CPU, Share(processes=3))


def test_the_balanced_sampler_has_as_many_pictures_of_each_label_and_every_picture_alike() -> None:
    targets = torch.tensor([0] * 5 + [1] * 40 + [2] * 3)
    recipe = replace(PADDED, sampler="balanced")
    order = epoch_order(targets, recipe, 0)
    assert sorted(targets[order].bincount().tolist()) == [16, 16, 16]
    times = order.bincount(minlength=48)
    assert set(times[:5].tolist()) == {3, 4}
    assert set(times[45:].tolist()) == {5, 6}
    assert not torch.equal(order, epoch_order(targets, recipe, 1))
    assert sorted(epoch_order(targets, PADDED, 0).tolist()) == list(range(48))
