"""Whole runs on a tiny data set: their files, how they stop, and that they continue to the same numbers."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import taijitu
from taijitu_runtime.datasets import TrainedOn, evaluation_pictures
from taijitu_runtime.errors import UsageError, WriteError
from taijitu_training import checkpoint
from taijitu_training.cli import main
from taijitu_training.errors import CheckpointError
from taijitu_training.loop import epoch as epoch_loop
from taijitu_training.loop.evaluation import evaluate
from taijitu_training.loop.mixed_precision import mixed_dtype
from taijitu_training.run import judging, run
from taijitu_training.run.resuming import load_resumable
from taijitu_training.run.stop import StopRequest
from taijitu_training.train import TrainResult

SHORT = ["--set", "epochs=3", "--set", "batch_size=8", "--set", "pad=2"]

EVERY_CHANGE = ("mixup=0.2", "cutmix=1", "trivial_augment=true", "erase=0.5", "contrast=0.2", "saturation=0.2")
EVERY_CHANGE += ("hue=0.1", "rotation=10", "vertical_flip=0.5", "class_weights=balanced")
TAUGHT_ALONE = ["--teacher", "teacher.pt", "--set", "teacher_weight=1"]


def train(data: Path, out: Path, *more: str) -> int:
    return main(["--model", "yynet_small_16", "--data", str(data), "--out", str(out), *SHORT, *more])


@pytest.fixture(scope="module")
def finished(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "a"
    assert train(tiny_data, out, "--preset", "public_code") == 0
    return out


def rows(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def test_a_run_writes_checkpoints_and_metrics(finished: Path) -> None:
    assert sorted(os.listdir(finished)) == [  # no best.pt: test pictures choose nothing
        "final.pt",
        "last.pt",
        "metrics.jsonl",
        "report.html",
        "tensorboard",
    ]
    assert [row["epoch"] for row in rows(finished)] == [1, 2, 3]
    final = checkpoint.load(finished / "final.pt")
    assert final.architecture.name == "yynet_small_16"
    assert final.architecture.options == {
        "num_classes": 2,
        "act": "silu",
        "fusion": "a*i",
        "yin_input": "mean",
        "dropout": 0.0,
        "init": "public_code",
    }
    assert final.labels == ["blue", "red"]
    assert final.input["resize_size"] == 32
    assert final.training["recipe"]["epochs"] == 3
    assert final.training["metrics"]["eval_top1"] == rows(finished)[-1]["eval_top1"]
    assert final.training["evaluation"] == "test"
    assert final.resume == {}
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", final.training["date"])


def test_the_network_learned(finished: Path) -> None:
    assert rows(finished)[-1]["train_loss"] < rows(finished)[0]["train_loss"]
    assert rows(finished)[-1]["train_top1"] > 80.0


def test_val_chooses_and_test_is_measured_once_at_the_end(
    tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert train(tiny_data, out, "--validation", "0.25") == 0
    printed = capsys.readouterr().out
    assert "36 to train, 12 to evaluate (validation (0.25 of train)), 12 to measure the result with (test)" in printed
    final, best = (checkpoint.load(out / name).training for name in ("final.pt", "best.pt"))
    assert (final["evaluation_pictures"], final["test_pictures"]) == (12, 12)
    assert "test_top1" not in best["metrics"] or best["metrics"]["epoch"] == 3
    assert f"{final['metrics']['test_top1']:.2f} % on test" in printed


def test_data_without_splits_is_split_and_the_card_says_how(
    tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(tiny_data / "train", tmp_path / "run", "--set", "epochs=1") == 0
    best, printed = tmp_path / "run" / "best.pt", capsys.readouterr().out
    assert "held out 0.2 of each label's pictures" in printed
    assert str(best) in printed.splitlines()[-1]
    training = checkpoint.load(best).training
    assert (training["train_pictures"], training["evaluation_pictures"]) == (38, 10)
    assert (training["held_out"]["share"], training["held_out"]["seed"]) == (0.2, 0)
    pictures = evaluation_pictures(tiny_data / "train", ("blue", "red"), TrainedOn.from_card(training))
    assert len(pictures) == 10
    assert len(training["data_sha256"]) == 64


def test_labels_are_counted_and_few_or_uneven_pictures_are_a_warning(
    tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = shutil.copytree(tiny_data, tmp_path / "data")
    for i in range(2, 24):
        (data / "train" / "red" / f"{i:02d}.png").unlink()
    (data / "train" / "red" / "photo.heic").write_bytes(b"\0\0\0\x18ftypheic")
    balanced = ["--set", "epochs=1", "--set", "sampler=balanced"]
    assert train(data, tmp_path / "run", *balanced) == 0
    printed = capsys.readouterr()
    assert "2 labels: blue 24, red 2" in printed.out.splitlines()[0]
    assert "1 HEIC" in printed.out.splitlines()[1]
    warnings = [line for line in printed.err.splitlines() if line.startswith("warning: ")]
    assert len(warnings) == 2
    assert all("red" in line for line in warnings)
    training = checkpoint.load(tmp_path / "run" / "final.pt").training
    assert training["label_counts"] == [24, 2]
    assert f"macro accuracy {training['metrics']['eval_macro']:.2f} %" in printed.out
    assert re.search(r"recall: blue \d+\.\d %, red \d+\.\d %|recall: red \d+\.\d %, blue \d+\.\d %", printed.out)


def give_scores(monkeypatch: pytest.MonkeyPatch, *scores: float) -> None:
    """Let the evaluations find these accuracies, in percent, and stop the run after the epoch with 80."""
    left = iter(scores)

    def scored(*args: object, **see: object) -> dict[str, float]:
        if see:  # the report at the end
            return evaluate(*args, **see)  # type: ignore[arg-type]
        if (score := next(left)) == 80.0:
            signal.raise_signal(signal.SIGINT)
        return {"eval_loss": 1.0, "eval_top1": score}

    monkeypatch.setattr(judging, "evaluate", scored)


def test_best_is_never_overwritten_by_a_worse_epoch_not_even_after_a_resume(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    give_scores(monkeypatch, 50.0, 80.0, 60.0)
    data = shutil.copytree(tiny_data, tmp_path / "data")
    (data / "test").rename(data / "val")
    assert train(data, tmp_path / "run") == 130
    assert train(data, tmp_path / "run", "--resume") == 0
    assert checkpoint.load(tmp_path / "run" / "best.pt").training["metrics"]["epoch"] == 2
    assert checkpoint.load(tmp_path / "run" / "final.pt").training["metrics"]["epoch"] == 3


@pytest.mark.parametrize("there", [True, False])
def test_a_run_that_goes_on_in_another_folder_has_the_best_epoch_before_if_that_is_there(
    there: bool, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    give_scores(monkeypatch, 80.0, 60.0, 50.0)  # the last one on test
    more = ("--validation", "0.25", "--set", "epochs=2")
    assert train(tiny_data, tmp_path / "first", *more) == 130
    if not there:
        (tmp_path / "first" / "best.pt").unlink()
    best = tmp_path / "second" / "best.pt"
    assert train(tiny_data, best.parent, *more, "--resume", str(tmp_path / "first" / "last.pt")) == 0
    printed = capsys.readouterr()
    assert best.exists() == there == (str(best) in printed.out)
    if there:
        assert checkpoint.load(best).training["metrics"]["epoch"] == 1
    else:
        assert "first/best.pt" in printed.err


def test_a_finished_run_resumed_in_another_folder_has_its_results_there(
    finished: Path, tiny_data: Path, tmp_path: Path
) -> None:
    again = tmp_path / "again"
    more = ("--preset", "public_code", "--resume")
    assert train(tiny_data, again, *more, str(finished / "last.pt")) == 0
    assert sorted(os.listdir(again)) == sorted(os.listdir(finished))
    assert rows(again) == rows(finished)
    there, here = checkpoint.load(finished / "final.pt"), checkpoint.load(again / "final.pt")
    assert all(torch.equal(value, here.state_dict[name]) for name, value in there.state_dict.items())
    assert here.training["metrics"] == there.training["metrics"]
    before = (again / "final.pt").stat().st_mtime_ns
    assert train(tiny_data, again, *more) == 0
    assert (again / "final.pt").stat().st_mtime_ns == before


def test_shards_are_resumed_within_an_epoch_by_as_many_processes(finished: Path, tmp_path: Path) -> None:
    saved = checkpoint.load(finished / "last.pt")
    own = replace(saved, source_sha256="", resume={**saved.resume, "processes": 2})
    state = saved.resume["state"]
    for step, data, refused in ((3, "", True), (0, "", False), (3, saved.source_sha256, False)):
        before = {**saved.resume, "state": {**state, "step": step}}
        checkpoint.save(replace(saved, source_sha256=data, resume=before), tmp_path / "last.pt")
        with pytest.raises(CheckpointError, match="resume with 1") if refused else nullcontext():
            load_resumable(tmp_path / "last.pt", replace(own, source_sha256=data))


def test_patience_ends_a_run_and_a_share_of_train_chooses(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter([50.0, 80.0, 60.0, 80.0, 10.0])

    def scored(*args: object, **see: object) -> dict[str, float]:
        if see:  # the report at the end
            return evaluate(*args, **see)  # type: ignore[arg-type]
        return {"eval_loss": 1.0, "eval_top1": next(scores)}

    monkeypatch.setattr(judging, "evaluate", scored)
    assert train(tiny_data, tmp_path / "run", "--patience", "2", "--set", "epochs=9") == 0
    assert [row["eval_top1"] for row in rows(tmp_path / "run")] == [50.0, 80.0, 60.0, 80.0]
    final, best = (checkpoint.load(tmp_path / "run" / name).training for name in ("final.pt", "best.pt"))
    assert (final["metrics"]["epoch"], best["metrics"]["epoch"]) == (4, 2)
    assert final["metrics"]["test_top1"] == 10.0  # measured once
    assert (final["patience"], final["train_pictures"], final["evaluation_pictures"]) == (2, 38, 10)
    monkeypatch.undo()
    again = ["--data", str(tiny_data), "--out", str(tmp_path / "run"), "--resume"]
    assert main(again) == 0, "the run's patience, and its share of train"
    assert len(rows(tmp_path / "run")) == 4


def test_minutes_set_the_epochs_and_a_resumed_run_keeps_them(tiny_data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    timed = ["--model", "yynet_small_16", "--data", str(tiny_data), "--out", str(out), "--set", "batch_size=8"]
    timed += ["--minutes", "0.1"]
    assert main(timed) == 0
    training = checkpoint.load(out / "last.pt").training
    assert training["minutes"] == 0.1
    assert training["recipe"]["epochs"] == len(rows(out))
    assert main([*timed[:-2], "--resume"]) == 0
    assert checkpoint.load(out / "last.pt").training["recipe"]["epochs"] == len(rows(out))
    assert main([*timed[:-1], "0.2", "--resume"]) == 2


def test_a_timed_run_with_a_warm_up_is_resumed_with_its_own_share_of_it(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "epochs_that_fit", lambda *_: 9)  # 1 of 10 epochs becomes 0.9, and would become 0.89...
    out = tmp_path / "run"
    timed = ["--data", str(tiny_data), "--out", str(out)]
    first = ["--model", "yynet_small_16", "--recipe", "fine_tune", "--set", "batch_size=24", "--minutes", "1"]
    assert main([*timed, *first]) == 0
    assert main([*timed, "--resume"]) == 0
    assert main([*timed, "--resume", "--set", "epochs=20"]) == 2, "the time that was given sets them"


def test_a_disk_that_is_full_before_anything_is_saved_says_to_start_again(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(content: checkpoint.Checkpoint, path: Path) -> None:
        raise WriteError(f"{path}: could not be written (No space left on device); make room")

    out = tmp_path / "run"
    monkeypatch.setattr(checkpoint, "save", full)
    assert train(tiny_data, out) == 1
    error = capsys.readouterr().err
    assert f"remove {out}" in error
    assert "--resume" not in error, "there is no last.pt"


def test_a_run_that_dies_while_saving_its_result_makes_it_on_resume(
    finished: Path, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    save = checkpoint.save

    def full(content: checkpoint.Checkpoint, path: Path) -> None:
        if path.name == "final.pt":
            raise WriteError(f"{path}: could not be written (No space left on device); make room")
        save(content, path)

    monkeypatch.setattr(checkpoint, "save", full)
    assert train(tiny_data, out, "--preset", "public_code") == 1
    assert "No space left on device); make room, then --resume" in capsys.readouterr().err
    monkeypatch.undo()
    assert train(tiny_data, out, "--preset", "public_code", "--resume") == 0
    assert [row["epoch"] for row in rows(out)] == [1, 2, 3]
    whole, resumed = checkpoint.load(finished / "final.pt"), checkpoint.load(out / "final.pt")
    assert all(torch.equal(whole.state_dict[name], resumed.state_dict[name]) for name in whole.state_dict)


@pytest.mark.parametrize(
    ("steps", "options"),
    [
        (1, []),
        (6, []),
        (9, []),
        (8, ["--set", "ema=true", "--set", "ema_decay=0.9", "--option", "dropout=0.2"]),
        (9, ["--set", "batch_size=10"]),  # before the last, incomplete batch of 8
        (8, [flag for field in EVERY_CHANGE for flag in ("--set", field)]),
    ],
)
def test_a_run_cut_anywhere_and_resumed_ends_with_the_same_weights(
    finished: Path, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int, options: list[str]
) -> None:
    arguments = ["--preset", "public_code", *options]
    if options:
        finished = tmp_path / "whole"
        assert train(tiny_data, finished, *arguments) == 0
    out = tmp_path / "cut"
    taken = 0
    gradients = epoch_loop._gradients

    def interrupted(*args: object) -> object:
        nonlocal taken
        taken += 1
        if taken == steps:
            signal.raise_signal(signal.SIGINT)
        return gradients(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(epoch_loop, "_gradients", interrupted)
    assert train(tiny_data, out, *arguments) == 130
    monkeypatch.undo()
    assert taken == steps
    stopped = checkpoint.load(out / "last.pt")
    assert ("eval_top1" in stopped.training["metrics"]) == (stopped.resume["state"]["step"] == 0), "not judged before"
    assert main(["--data", str(tiny_data), "--out", str(out), "--resume"]) == 0  # its settings are the run's
    whole, resumed = checkpoint.load(finished / "final.pt"), checkpoint.load(out / "final.pt")
    for name, weights in whole.state_dict.items():
        assert torch.equal(weights, resumed.state_dict[name]), name

    def numbers(folder: Path) -> list[dict[str, float]]:
        return [{key: row[key] for key in row if not key.endswith("_s")} for row in rows(folder)]

    assert numbers(out) == numbers(finished)


def test_an_existing_run_is_not_overwritten(
    finished: Path, tiny_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (finished / "last.pt").read_bytes()
    assert train(tiny_data, finished) == 2
    assert re.search(rf"{finished}.* last.pt, .*--resume", capsys.readouterr().err)
    assert (finished / "last.pt").read_bytes() == before


@pytest.mark.parametrize("name", ["best.pt", "final.pt", "metrics.jsonl", "report.html"])
def test_results_without_a_run_to_go_on_with_are_not_overwritten(
    tiny_data: Path, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    shutil.copy(finished / name.replace("best", "final"), tmp_path / name)
    before = (tmp_path / name).read_bytes()
    for arguments in ([], ["--resume", str(finished / "last.pt")]):
        assert train(tiny_data, tmp_path, "--preset", "public_code", *arguments) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert f"{tmp_path}: has {name} " in error
    assert os.listdir(tmp_path) == [name]
    assert (tmp_path / name).read_bytes() == before


@pytest.mark.parametrize("inside", ["data/run", "link/run"])
def test_a_folder_of_results_that_is_taken_for_a_label_is_named(
    inside: str, tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = shutil.copytree(tiny_data / "train", tmp_path / "data")
    (tmp_path / "link").symlink_to(data)
    assert train(data, tmp_path / inside) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"--out {tmp_path / inside}" in error
    assert sorted(path.name for path in data.iterdir()) == sorted(os.listdir(tiny_data / "train"))


def test_a_refused_run_leaves_no_new_folder_and_keeps_one_that_was_there(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "there").mkdir()
    assert train(tmp_path / "data", tmp_path / "new" / "run") == 2
    assert train(tmp_path / "data", tmp_path / "there") == 2
    assert sorted(os.listdir(tmp_path)) == ["data", "there"]


def test_two_runs_do_not_share_a_folder_until_the_first_one_is_killed(
    root: Path, tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    command = [sys.executable, "training/train.py", "--model", "yynet_small_16", "--data", str(tiny_data)]
    command += ["--out", str(out), *SHORT, "--set", "epochs=1000"]
    environment = os.environ | {"PYTHONPATH": "training:runtime", "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, cwd=root, env=environment, stdout=subprocess.DEVNULL) as first:
        try:
            wait_for(out / "last.pt", first)
            for more in ([], ["--resume"]):
                assert train(tiny_data, out, "--set", "epochs=1000", *more) == 2
                error = capsys.readouterr().err
                assert error.count("\n") == 1
                assert f"{out}: in use by process {first.pid} " in error
        finally:
            first.kill()
    assert train(tiny_data, out) == 2
    assert "--resume" in capsys.readouterr().err
    assert checkpoint.load(out / "last.pt").training["metrics"]["epoch"] == len(rows(out))


def wait_for(file: Path, process: subprocess.Popen[Any]) -> None:
    deadline = time.monotonic() + 300
    while not file.exists():
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)


def test_resume_needs_the_run_that_was_started(
    finished: Path, tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert train(tiny_data, out, "--resume") == 2
    assert "there is no" in capsys.readouterr().err
    shutil.copytree(finished, out)
    assert train(tiny_data, out, "--resume", "--option", "act=nish") == 2
    assert "act was 'silu', now it is 'nish'" in capsys.readouterr().err
    assert train(tiny_data, out, "--resume", "--preset", "paper") == 2
    assert "fusion was 'a*i', now it is 'a+i'; yin_input was 'mean'" in capsys.readouterr().err
    assert train(tiny_data, out, "--resume", "--preset", "public_code", "--set", "lr=1") == 2
    assert "lr was 0.01, now it is 1.0" in capsys.readouterr().err
    assert train(tiny_data, out, "--resume", "--preset", "public_code", "--validation", "0.25") == 2
    assert "train_pictures was 48, now it is 36" in capsys.readouterr().err
    shutil.copy(out / "final.pt", out / "last.pt")
    assert train(tiny_data, out, "--resume", "--preset", "public_code") == 2
    assert "has no training state" in capsys.readouterr().err
    damaged = checkpoint.load(out / "last.pt")
    damaged.training["recipe"]["body_lr"] = "fast"
    checkpoint.save(damaged, out / "last.pt")
    assert main(["--data", str(tiny_data), "--out", str(out), "--resume"]) == 2
    assert "recipe in last.pt is damaged" in capsys.readouterr().err


def test_names_that_are_not_utf_8_are_recorded_escaped(tiny_data: Path, tmp_path: Path) -> None:
    odd = os.fsdecode(b"caf\xe9")
    data, teacher = shutil.copytree(tiny_data, tmp_path / odd), tmp_path / f"{odd}.pt"
    assert train(data, tmp_path / "a", "--set", "epochs=1") == 0
    shutil.copy(tmp_path / "a" / "final.pt", teacher)
    assert train(tiny_data, tmp_path / "b", "--set", "epochs=1", "--teacher", str(teacher)) == 0
    first, second = (checkpoint.load(tmp_path / name / "final.pt") for name in "ab")
    for one in (first, second):
        one.card()  # an artefact can be made of it
    assert first.training["data"] == r"caf\udce9"
    assert second.training["teacher"]["file"] == r"caf\udce9.pt"
    assert checkpoint.is_checkpoint(teacher)
    assert r"caf\udce9" in str(evaluation_pictures(data, ("blue", "red")))


def test_a_run_resumes_with_its_data_under_another_name(
    finished: Path, tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = shutil.copytree(finished, tmp_path / "run")
    moved = shutil.copytree(tiny_data, tmp_path / "moved")
    assert train(moved, out, "--resume", "--preset", "public_code") == 0
    next((moved / "train").rglob("*.png")).unlink()
    assert train(moved, out, "--resume", "--preset", "public_code") == 2
    assert "data's sha256" in capsys.readouterr().err


@pytest.mark.parametrize(
    "change",
    [
        {"history": []},
        {"history": 5},
        {"state": {}},
        {"steps_per_epoch": 5, "processes": "?"},
        {"state": {"epoch": -1}},
        {"state": {"epoch": 4}},
    ],
)
def test_a_damaged_training_state_is_one_line(
    finished: Path, tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, Any]
) -> None:
    out = shutil.copytree(finished, tmp_path / "run")
    content = torch.load(out / "last.pt", weights_only=True)
    resume = content["resume"]
    whole = resume["state"] if change.get("state") else {}
    content["resume"] = {**resume, **change} | ({"state": {**whole, **change["state"]}} if "state" in change else {})
    torch.save(content, out / "last.pt")
    assert train(tiny_data, out, "--resume", "--preset", "public_code") == 2
    error = capsys.readouterr().err
    assert f"{out / 'last.pt'}: " in error.splitlines()[-1]


def test_a_network_that_cannot_be_built_names_the_checkpoint_to_resume(
    finished: Path, tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = shutil.copytree(finished, tmp_path / "run")
    content = torch.load(out / "last.pt", weights_only=True)
    content["architecture"]["options"]["act"] = ["silu"]
    torch.save(content, out / "last.pt")
    assert train(tiny_data, out, "--resume", "--preset", "public_code") == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_finished_run_that_is_resumed_reports_what_it_measured(tiny_data: Path, tmp_path: Path) -> None:
    def run_of(resume: bool) -> TrainResult:
        changes = {"epochs": 1, "batch_size": 8, "pad": 2}
        return taijitu.train(
            "yynet_small_16", tiny_data, tmp_path / "run", changes=changes, validation=0.25, resume=resume
        )

    first, again = run_of(False), run_of(True)
    assert first.measured.keys() == {"test_top1", "test_loss", "test_macro"}
    assert again.measured == first.measured
    assert again.history == first.history


def test_a_run_resumes_after_recipes_and_networks_gained_fields(
    finished: Path, tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = shutil.copytree(finished, tmp_path / "run")
    content = torch.load(out / "last.pt", weights_only=True)
    assert content["training"]["recipe"].pop("label_smoothing") == 0.0
    assert content["training"]["recipe"].pop("evaluation_crop") == 1.0
    assert content["architecture"]["options"].pop("dropout") == 0.0
    torch.save(content, out / "last.pt")
    arguments = (tiny_data, out, "--resume", "--preset", "public_code")
    assert train(*arguments) == 0
    assert train(*arguments, "--set", "label_smoothing=0.1") == 2
    assert "label_smoothing" in capsys.readouterr().err
    assert train(*arguments, "--option", "dropout=0.1") == 2
    assert "dropout" in capsys.readouterr().err


def test_a_run_says_the_type_it_computes_in_and_if_a_resumed_one_had_another(
    finished: Path, tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here = "bfloat16" if mixed_dtype("cpu") == torch.bfloat16 else "float32"
    there = {"bfloat16": "float32", "float32": "bfloat16"}[here]
    assert checkpoint.load(finished / "final.pt").training["computed_in"] == here
    out = shutil.copytree(finished, tmp_path / "run")
    arguments = (tiny_data, out, "--resume", "--preset", "public_code")
    assert train(*arguments) == 0
    said = capsys.readouterr()
    assert f"in {here}" in said.out.splitlines()[0]
    assert there not in said.err
    content = torch.load(out / "last.pt", weights_only=True)
    content["training"]["computed_in"] = there
    torch.save(content, out / "last.pt")
    assert train(*arguments) == 0
    assert f"computed in {there}" in capsys.readouterr().err


def test_a_run_that_is_resumed_with_other_parts_says_that_its_numbers_are_others(
    finished: Path, tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = shutil.copytree(finished, tmp_path / "run")
    arguments = (tiny_data, out, "--resume", "--preset", "public_code")
    assert train(*arguments, "--accumulate", "1") == 0
    assert "--accumulate" not in capsys.readouterr().err
    assert train(*arguments, "--accumulate", "2") == 0
    error = capsys.readouterr().err
    assert "were 1, now they are 2" in error
    assert "add --accumulate 1" in error


def test_a_data_set_smaller_than_a_batch_is_one_batch_and_the_first_line_says_so(
    tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert train(tiny_data, out, "--set", "batch_size=100", "--set", "epochs=1") == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert "batches of 48" in first
    assert "100" in first
    assert checkpoint.load(out / "last.pt").resume["steps_per_epoch"] == 1


def test_the_average_is_what_is_judged_and_saved(tiny_data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    settings = ("--set", "ema=true", "--set", "ema_decay=0.999", "--set", "ema_start=0")
    assert train(tiny_data, out, *settings) == 0
    state = torch.load(out / "last.pt", weights_only=True)["resume"]["state"]
    final = checkpoint.load(out / "final.pt").state_dict
    assert all(torch.equal(final[name], value) for name, value in state["average"].items())
    moved = [name for name, value in state["model"].items() if not torch.equal(final[name], value)]
    assert len(moved) > len(final) / 2


def test_resume_needs_as_many_steps_in_an_epoch(
    finished: Path, tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = shutil.copytree(finished, tmp_path / "run")
    content = torch.load(out / "last.pt", weights_only=True)
    assert (content["resume"]["steps_per_epoch"], content["resume"]["processes"]) == (6, 1)
    content["resume"].update(steps_per_epoch=5, processes=2)  # as two processes make of some shards
    torch.save(content, out / "last.pt")
    assert train(tiny_data, out, "--resume", "--preset", "public_code") == 2
    error = capsys.readouterr().err
    assert "steps per epoch were 5 with 2 processes, now they are 6 with 1; resume with as many processes, 2" in error


def test_a_loss_that_is_not_a_number_ends_the_run_with_its_step(
    tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(tiny_data, tmp_path / "nan", "--set", "lr=1e30", "--set", "mixed_precision=false") == 1
    error = capsys.readouterr().err
    assert re.search(
        r"the loss became (nan|inf) in epoch \d, step \d; .*with a smaller learning rate, such as --set lr=2.5e\+29",
        error,
    )


def test_weights_that_the_last_step_of_an_epoch_ruined_are_not_saved(
    tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one_step = ["--set", "batch_size=48", "--set", "epochs=2", "--set", "clip_norm=0"]
    assert train(tiny_data, tmp_path / "a", *one_step, "--set", "lr=1e38", "--set", "mixed_precision=false") == 1
    assert "became NaN or infinite by epoch 1; earlier checkpoints are kept" in capsys.readouterr().err
    assert not list((tmp_path / "a").glob("*.pt"))
    assert not (tmp_path / "a" / "metrics.jsonl").exists()


@pytest.mark.parametrize("argument", ["data", "out"])
def test_an_empty_path_is_not_the_working_directory(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, argument: str
) -> None:
    monkeypatch.chdir(shutil.copytree(tiny_data, tmp_path / "here"))
    paths = {"data": str(tiny_data), "out": str(tmp_path / "run"), argument: ""}
    with pytest.raises(UsageError, match=argument):
        taijitu.train("mlp", paths["data"], paths["out"], changes={"epochs": 1})
    assert sorted(path.name for path in Path().iterdir()) == ["test", "train"]


def test_the_documented_script_streams_pictures_from_processes(root: Path, tiny_data: Path, tmp_path: Path) -> None:
    command = [sys.executable, "training/train.py", "--model", "yynet_small_16", "--data", str(tiny_data)]
    command += ["--out", str(tmp_path / "a"), "--set", "crop=resized", "--set", "pad=0", "--workers", "1"]
    command += ["--set", "epochs=1", "--set", "batch_size=24"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "a" / "final.pt").exists()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--set", "batch_size=100", "--set", "last_batch=drop"], "got 48 training pictures, expected at least 100"),
        (["--model", "yynet_smal_16"], "unknown model 'yynet_smal_16'; did you mean"),
        (["--option", "act=nisch"], "unknown activation 'nisch'; did you mean nish"),
        (["--option", "colour=red"], "unknown option of yynet_small_16 'colour'"),
        (["--option", "num_classes=7"], "unknown option of yynet_small_16 'num_classes'"),
        (["--option", "act"], "got --option act, expected NAME=VALUE"),
        (["--set", "std=2,2,2"], "got std=(2.0, 2.0, 2.0)"),
        (["--device", "meta"], "got --device meta"),
        (["--out", "/dev/null/run"], "got --out /dev/null/run, which cannot be a folder"),
        (["--preset", "public"], "unknown preset of yynet_small_16 'public'"),
        (["--preset", ""], "unknown preset of yynet_small_16 ''"),  # of a variable that is not set
        (["--recipe", ""], "unknown recipe ''"),
        (["--model", ""], "unknown model ''"),
        (["--show", "--recipe", ""], "unknown recipe ''"),
        (["--recipe", "taijitu_cifar10"], "got recipe taijitu_cifar10 without a teacher"),
        (["--recipe", "yynet"], "unknown recipe 'yynet'; did you mean yynet_cifar10, yynet_imagenet?"),
        (["--validation", "1"], "argument --validation: got 1, expected a share in [0, 1)"),
        (["--device", "gpu"], "got --device gpu"),
        (["--data", "nowhere"], "no such file or folder"),
        (["--epochs", "3"], "unrecognized arguments: --epochs 3; did you mean --set epochs=VALUE?; see"),
        (["--presets", "paper"], "did you mean --preset?"),
        (["--set", "dropout=0.1"], "expected --option dropout=VALUE"),
        (["--set", "image_size=64"], "got --set image_size for yynet_small_16"),
        (["--patience", "0"], "got --patience 0"),
        (["--patience", "2", "--validation", "0"], "got --patience without pictures"),
        (["--minutes", "5"], "got --minutes with --set epochs"),
        (["--model", "squeezenet1_1"], "did you mean torchvision/squeezenet1_1?"),
        (["--show", "--model", "squeezenet1_1"], "did you mean torchvision/squeezenet1_1?"),
        (["--show", "--option", "act=nonsense"], "'nonsense'"),
        (["--show", "--set", "dropout=0.1"], "expected --option dropout=VALUE"),
        (["--show", "--resume"], "got --show with --resume"),
        (["--show", "--init", "a.pt", "--pretrained"], "got --init with --pretrained"),
        (["--offline"], "got --offline without --pretrained"),
        ([*TAUGHT_ALONE, "--set", "label_smoothing=0.1"], "got label_smoothing=0.1 with teacher_weight=1"),
        ([*TAUGHT_ALONE, "--set", "class_weights=balanced"], "got class_weights=balanced with teacher_weight=1"),
        ([*TAUGHT_ALONE, "--other", "red"], "got --other red with teacher_weight=1"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(
    tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], text: str
) -> None:
    assert train(tiny_data, tmp_path / "run", *arguments) == 2
    error = capsys.readouterr().err
    assert text in error
    assert error.count("\n") == 1


def long_run(root: Path, data: Path, out: Path) -> subprocess.Popen[str]:
    """Start a training in a process of its own; return when it has saved."""
    command = [sys.executable, "training/train.py", "--model", "yynet_small_16", "--data", str(data)]
    environment = os.environ | {"PYTHONPATH": "training:runtime", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [*command, "--out", str(out), "--set", "epochs=500", "--set", "batch_size=8"],
        cwd=root,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for(out / "last.pt", process)
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_saves_and_says_how_to_go_on(
    root: Path, tiny_data: Path, tmp_path: Path, number: signal.Signals
) -> None:
    out = tmp_path / "run"
    process = long_run(root, tiny_data, out)
    process.send_signal(number)
    output, error = process.communicate(timeout=300)
    assert process.returncode == 130
    assert "Traceback" not in error
    assert f"{out / 'last.pt'}: add --resume" in error
    assert output.count("pictures/s") == len(rows(out))
    assert checkpoint.load(out / "last.pt").resume


def test_a_closed_output_ends_a_run_with_a_message_and_everything_saved(
    root: Path, tiny_data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    process = long_run(root, tiny_data, out)
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(timeout=300) == 141
    assert process.stderr is not None
    error = process.stderr.read()
    process.stderr.close()
    assert str(out / "last.pt") in error
    assert "--resume" in error
    assert "Traceback" not in error
    assert checkpoint.load(out / "last.pt").resume


def test_what_nohup_ignores_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopRequest() as stop:
            signal.raise_signal(signal.SIGHUP)
            assert not stop.asked
            signal.raise_signal(signal.SIGTERM)
            assert stop.asked
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_program_trains_in_a_thread_of_its_own(tiny_data: Path, tmp_path: Path) -> None:
    changes = {"epochs": 1, "batch_size": 8}
    torch.manual_seed(7)
    expected = torch.rand(3).tolist()
    torch.manual_seed(7)
    with ThreadPoolExecutor(1) as pool:
        result = pool.submit(taijitu.train, "mlp", tiny_data, tmp_path / "run", changes=changes, device="cpu").result()
    assert result.finished
    assert torch.rand(3).tolist() == expected, "the program's random numbers are its own"


MLP = ["--model", "mlp", "--option", "act=relu", "--option", "depth=1", "--option", "dropout=0"]
MLP += ["--recipe", "nish_mnist", "--set", "epochs=2", "--set", "batch_size=8"]


@pytest.mark.skipif(shutil.which("c++") is None, reason="torch.compile needs a C++ compiler")
def test_a_compiled_network_trains_to_the_same_curve(tiny_data: Path, tmp_path: Path) -> None:
    arguments = [*MLP, "--data", str(tiny_data)]
    assert main([*arguments, "--out", str(tmp_path / "plain")]) == 0
    assert main([*arguments, "--out", str(tmp_path / "compiled"), "--compile"]) == 0
    for mine, theirs in zip(rows(tmp_path / "plain"), rows(tmp_path / "compiled"), strict=True):
        assert theirs["train_loss"] == pytest.approx(mine["train_loss"], rel=1e-4)
        assert theirs["eval_loss"] == pytest.approx(mine["eval_loss"], rel=1e-4)


def test_compile_without_a_compiler_is_one_line(
    tiny_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch._dynamo.reset()
    with torch._inductor.config.patch({"cpp.cxx": ("no-such-compiler",)}):
        assert main([*MLP, "--data", str(tiny_data), "--out", str(tmp_path / "a"), "--compile"]) == 1
    error = capsys.readouterr().err
    assert "Traceback" not in error
    line = error.splitlines()[-1]  # before it torch may log what it was compiling
    assert line.startswith("taijitu train: torch.compile failed (InvalidCxxCompiler: No working C++ compiler found")
    assert line.endswith("or leave out --compile")
