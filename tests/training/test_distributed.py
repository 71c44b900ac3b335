"""Several processes under torchrun: the same numbers as one, one writer, and a message when one of them dies."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from taijitu_runtime.errors import TaijituError, UsageError
from taijitu_training import checkpoint
from taijitu_training.cli import main
from taijitu_training.data import MemoryBatches, Pictures, Share
from taijitu_training.devices import choose_device
from taijitu_training.distributed import processes
from taijitu_training.recipes.named import get_recipe


def arguments(data: Path, out: Path, *more: str) -> list[str]:
    # 11 pictures to test are not a multiple of two processes
    return ["--model", "yynet_small_16", "--data", str(data), "--out", str(out), "--set", "batch_size=16", *more]


def torchrun(root: Path, *args: str, script: str = "training/train.py") -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": "training:runtime", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    return subprocess.Popen(
        [*command, script, *args],
        cwd=root,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def rows(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def odd_data(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make tiny_data with 11 pictures to test, not a multiple of two processes."""
    folder = tmp_path_factory.mktemp("odd") / "data"
    for file in sorted(tiny_data.rglob("*.png")):
        if file != tiny_data / "test" / "red" / "00.png":
            link = folder / file.relative_to(tiny_data)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(file)
    return folder


def test_two_processes_give_the_curve_of_one_that_accumulates_two_parts(
    root: Path, odd_data: Path, tmp_path: Path
) -> None:
    settings = ("--set", "epochs=3", "--set", "batch_size=18", "--option", "dropout=0.1")  # the last batch: 12
    two = torchrun(root, *arguments(odd_data, tmp_path / "two", *settings))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as torchrun sets it: another number changes roundings, which grow from step to step
    try:
        assert main(arguments(odd_data, tmp_path / "one", *settings, "--accumulate", "2")) == 0
    finally:
        torch.set_num_threads(threads)
    output, error = two.communicate(timeout=300)
    assert two.returncode == 0, error
    assert output.count("epoch ") == 3  # one process prints
    assert "48 to train, 11 to evaluate (test); 2 labels: blue 24, red 24; recipe yynet_cifar10, epochs: 3" in output
    assert "on cpu, 2 processes" in output
    for mine, theirs in zip(rows(tmp_path / "one"), rows(tmp_path / "two"), strict=True):
        assert theirs["train_loss"] == pytest.approx(mine["train_loss"], abs=1e-4)
        assert theirs["eval_loss"] == pytest.approx(mine["eval_loss"], abs=1e-4)
        assert theirs["eval_top1"] == mine["eval_top1"]  # every one of the 11 counted once
    assert sorted(os.listdir(tmp_path / "two")) == sorted(os.listdir(tmp_path / "one"))


def test_a_killed_process_ends_the_run_with_a_message_and_one_process_goes_on_with_it(
    root: Path, odd_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    started = arguments(odd_data, out, "--set", "epochs=12")
    process = torchrun(root, *started)
    deadline = time.monotonic() + 120
    while not (out / "last.pt").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    for child in children:
        os.kill(int(child), signal.SIGSTOP)  # or all epochs could be over before the next line is
    assert main([*started, "--resume"]) == 2  # the folder is the two processes', and not this one's
    assert f"in use by process {children[0]} " in capsys.readouterr().err
    os.kill(int(children[1]), signal.SIGKILL)
    os.kill(int(children[0]), signal.SIGCONT)
    _, error = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "taijitu train: another process of this run ended or cannot be reached" in error
    assert "then --resume" in error
    done = checkpoint.load(out / "last.pt").training["metrics"]["epoch"]
    assert 1 <= done < 12
    resumed = Path(out / "last.pt")
    content = torch.load(resumed, weights_only=True)
    assert content["resume"]["state"]["epoch"] == done
    assert main([*started, "--resume", "--accumulate", "2"]) == 0
    assert [row["epoch"] for row in rows(out)] == list(range(1, 13))


def test_a_batch_that_cannot_be_divided_says_which_can() -> None:
    recipe = get_recipe("yynet_cifar10", {"batch_size": 10})
    pictures = Pictures(torch.zeros(20, 8, 8, 3, dtype=torch.uint8), torch.zeros(20, dtype=torch.long))
    with pytest.raises(TaijituError, match=r"got a batch of 10 for 2 processes x 2 .* a multiple of 4, at least 8"):
        MemoryBatches(pictures, recipe, torch.device("cpu"), Share(0, 2, 2))


@pytest.mark.parametrize(
    "environment", [{"WORLD_SIZE": "2"}, {"WORLD_SIZE": "two"}, {"LOCAL_WORLD_SIZE": "1.5"}, {"WORLD_SIZE": "-1"}]
)
def test_variables_of_a_job_scheduler_without_torchrun_are_one_line(
    odd_data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
) -> None:
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert main(arguments(odd_data, tmp_path / "run")) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert next(iter(environment)) in error


@pytest.mark.parametrize("value", ["", " ", "0", "1"])
def test_empty_variables_count_as_not_set(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"):
        monkeypatch.setenv(name, value)
    with processes(torch.device("cpu")) as group:
        assert group.count == 1


ONE_OF_TWO_FAILS = """
import os
from collections.abc import Callable

import torch
from taijitu_runtime.command_line import run
from taijitu_runtime.errors import DataError
from taijitu_training.devices import choose_device
from taijitu_training.distributed import processes

NUMBER = os.environ["RANK"]


def fail(if_number: str, error: Exception) -> None:
    if NUMBER == if_number:
        raise error


@run("trial")
def main() -> int:
    with processes(torch.device("cpu")) as group:
        group.all_do(lambda: fail("1", FAULT))
    return 0


raise SystemExit(main())
"""


def torchrun_lines(root: Path, *args: str, script: str = "training/train.py") -> tuple[list[str], set[str]]:
    """Return what the processes wrote to stderr, without the report of torchrun, and the exit codes in that report.

    The processes that torchrun ended, because another one had, are left out.
    """
    _, error = torchrun(root, *args, script=script).communicate(timeout=120)
    lines = [line for line in error.splitlines() if line.startswith(("taijitu train: ", "trial: "))]
    assert error.count("Traceback") == 1  # torchrun's own
    return lines, set(re.findall(r"exitcode +: (-?\d+)", error)) - {f"-{signal.SIGTERM.value}"}


@pytest.mark.parametrize(
    "arguments_",
    [["--option", "act=nisch"], ["--epochs", "3"], ["--minutes", "0"], ["--set", "batch_size=15"]],
)
def test_wrong_input_is_reported_once(root: Path, odd_data: Path, tmp_path: Path, arguments_: list[str]) -> None:
    lines, codes = torchrun_lines(root, *arguments(odd_data, tmp_path / "run", *arguments_))
    assert len(lines) == 1
    assert arguments_[1].rpartition("=")[2] in lines[0]
    assert codes == {"2"}


@pytest.mark.parametrize("fault", ["DataError('red.png: broken')", "PermissionError(13, 'denied', 'red.png')"])
def test_an_error_of_another_process_than_the_first_is_reported_too(root: Path, tmp_path: Path, fault: str) -> None:
    script = tmp_path / "trial.py"
    script.write_text(ONE_OF_TWO_FAILS.replace("FAULT", fault))
    lines, codes = torchrun_lines(root, script=str(script))
    assert len(lines) == 1
    assert lines[0].startswith("trial: red.png")
    assert codes == {"2"}


@pytest.mark.parametrize("argument", [["--epochs", "3"], ["--minutes", "0"], ["--device", "tpu"]])
@pytest.mark.parametrize(("count", "expected"), [("2", 0), ("1", 1)])
def test_the_second_process_of_a_machine_leaves_a_wrong_argument_to_the_first(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    argument: list[str],
    count: str,
    expected: int,
) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", count)  # 1: torchrun did not start it, and no other process can speak for it
    monkeypatch.setattr("taijitu_training.torchrun.FIRST_MAY_TAKE_S", 0.0)
    with pytest.raises(SystemExit, match="2"):
        raise SystemExit(main(arguments(tmp_path, tmp_path / "run", *argument)))
    assert capsys.readouterr().err.count("\n") == expected


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(UsageError, match=r"got 3 processes .* 2 GPUs.*--nproc-per-node=2"):
        choose_device("auto")
