"""The records of a run in addition to its checkpoints, and its errors when memory or the disk are full."""

from __future__ import annotations

import json
import re
import struct
from pathlib import Path

import pytest
import torch
from tensorboardX.proto.event_pb2 import Event
from torch.distributed import DistBackendError

from taijitu_runtime.errors import WriteError
from taijitu_training.errors import TrainingError
from taijitu_training.run.failures import explain_out_of_memory
from taijitu_training.run.metrics import MetricsLog
from tests.helpers.full_disk import full_disk


def events(folder: Path) -> list[Event]:
    """Read the records of TensorBoard's files: length, its checksum, content, its checksum."""
    found = []
    for file in sorted((folder / "tensorboard").iterdir()):
        content = file.read_bytes()
        while content:
            (length,) = struct.unpack("<Q", content[:8])
            found.append(Event.FromString(content[12 : 12 + length]))
            content = content[16 + length :]
    return found


def test_rows_are_in_metrics_jsonl_and_in_tensorboard(tmp_path: Path) -> None:
    rows = [{"epoch": 1, "train_loss": 0.5, "lr": 0.1}]
    with MetricsLog(tmp_path, rows) as log:  # a run that continues after its first epoch
        rows.append({"epoch": 2, "train_loss": 0.25, "lr": 0.05})
        log.write_last()
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["train_loss"] for line in lines] == [0.5, 0.25]
    written = events(tmp_path)
    assert [event.step for event in written if event.HasField("session_log")] == [2]  # forget what came from there on
    scalars = {value.tag: value.simple_value for event in written for value in event.summary.value}
    assert scalars == {"train/loss": 0.25, "lr": pytest.approx(0.05)}


def test_a_full_disk_is_one_line_and_keeps_the_metrics_that_were_there(tmp_path: Path) -> None:
    rows = [{"epoch": 1, "train_loss": 0.5}]
    with MetricsLog(tmp_path, rows) as log:
        log.write_last()
        before = (tmp_path / "metrics.jsonl").read_bytes()
        rows.append({"epoch": 2, "train_loss": 0.4})
        with full_disk(20), pytest.raises(WriteError, match=r"metrics.jsonl: could not "):
            log.write_last()
        assert (tmp_path / "metrics.jsonl").read_bytes() == before
        (board,) = (tmp_path / "tensorboard").iterdir()
        with full_disk(board.stat().st_size), pytest.raises(WriteError, match=r"tensorboard: could not .*; make room"):
            log.write_last()


def test_out_of_memory_names_a_batch_size_to_try() -> None:
    with pytest.raises(TrainingError) as raised, explain_out_of_memory(batch_size=64, processes=2, accumulate=1):
        torch.empty(10**15)
    advice = str(raised.value)
    assert ("32 pictures" in advice, "--set batch_size=32" in advice, "--accumulate 2" in advice) == (True, True, True)
    for batch, accumulate, advised in ((50, 2, 5), (49, 1, 7), (53, 1, None)):  # parts are equal, of two or more
        with pytest.raises(TrainingError) as raised, explain_out_of_memory(batch, 1, accumulate):
            torch.empty(10**15)
        found = re.search(r"--accumulate (\d+)", str(raised.value))
        assert (found and int(found[1])) == advised
    with pytest.raises(TrainingError) as raised, explain_out_of_memory(batch_size=2, processes=1, accumulate=1):
        torch.empty(10**15)
    assert "batch_size" not in str(raised.value), "batch norm needs two pictures"
    with pytest.raises(TrainingError, match="--set batch_size=2 "), explain_out_of_memory(3, 1, 1):
        torch.empty(10**15)
    with pytest.raises(RuntimeError, match="shape"), explain_out_of_memory(64, 1, 1):
        torch.zeros(3) @ torch.zeros(4, 5)


@pytest.mark.parametrize("error", [NotImplementedError("no kernel"), DistBackendError("Connection reset by peer")])
def test_other_failures_are_not_called_a_lack_of_memory(error: RuntimeError) -> None:
    with pytest.raises(type(error), match=str(error)), explain_out_of_memory(64, 1, 1):
        raise error
