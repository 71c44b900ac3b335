"""Tables of the papers: every run once, results as they come, and the paper's numbers next to them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from taijitu_runtime.locks import lock_folder
from taijitu_training.models import create_model, list_models, model_options
from taijitu_training.recipes.named import get_recipe
from taijitu_training.run.course import Course
from taijitu_training.run.settings import RunSettings
from taijitu_training.tables import reproduce
from taijitu_training.tables.cli import main
from taijitu_training.tables.figures import panels_of
from taijitu_training.tables.results import ResultFile, mean_and_error, out_of
from taijitu_training.tables.tables import TABLES, get_table, plan

SHIPPED_RESULTS = Path(__file__).parents[3] / "docs" / "results"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write dark and bright pictures, 70 of each to train (the recipe's batch is 128) and 8 to test."""
    folder = tmp_path_factory.mktemp("greys")
    generator = np.random.default_rng(0)
    for split, count in (("train", 70), ("test", 8)):
        for label, base in (("bright", 150), ("dark", 0)):
            (folder / split / label).mkdir(parents=True)
            for i in range(count):
                pixels = generator.integers(base, base + 100, (28, 28), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / split / label / f"{i:02d}.png")
    return folder


def results(out: Path, table: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in (out / f"{table}.jsonl").read_text().splitlines()]


def test_a_killed_table_continues_where_it_stopped_and_prints_both_numbers(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["nish-noise", "--data", str(data), "--out", str(tmp_path), "--epochs", "1", "--seeds", "2"]
    trained: list[str] = []
    train = reproduce.train_run

    def counted(settings: RunSettings, resume_from: Path | None) -> Course:
        trained.append(settings.out.name)
        if len(trained) == 3:
            raise KeyboardInterrupt
        return train(settings, resume_from)

    monkeypatch.setattr(reproduce, "train_run", counted)
    assert main(command) == 130
    assert [row["run"] for row in results(tmp_path, "nish-noise")] == trained[:2]
    capsys.readouterr()
    assert main(command) == 0
    assert len(trained) == 17  # 2 depths x 4 activations x 2 seeds, and the cut one once more
    assert len(set(trained)) == 16
    assert trained[3] == trained[2]
    text = capsys.readouterr().out
    assert text.endswith("\n" + (tmp_path / "nish-noise.md").read_text())
    assert "Pictures to train: 140." in text
    rows = [line for line in text.splitlines() if line.startswith("| 10 layers, Nish | 1 of 15 | 2 |")]
    assert len(rows) == 1
    assert rows[0].count("±") == 11  # one loss for each strength of the noise

    with Image.open(tmp_path / "nish-noise.png") as figure:
        assert min(figure.size) > 300

    main(command)
    assert len(trained) == 17  # nothing is run again


def test_pictures_that_spoil_a_table_are_a_warning(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    learned = shutil.copytree(data, tmp_path / "data") / "train" / "dark" / "00.png"
    shutil.copy(learned, tmp_path / "data" / "test" / "dark" / "again.png")
    monkeypatch.setattr(reproduce, "train_run", lambda settings, resume_from: Course())  # stopped at once
    assert main(["nish-depth", "--data", str(tmp_path / "data"), "--out", str(tmp_path / "out")]) == 130
    assert "1 pictures of test among the training pictures" in capsys.readouterr().err


def test_rows_are_run_one_at_a_time_into_one_table(data: Path, tmp_path: Path) -> None:
    command = ["nish-noise", "--data", str(data), "--out", str(tmp_path), "--epochs", "1", "--seeds", "1"]
    assert main([*command, "--row", "10 layers, Mish"]) == 0
    assert len(results(tmp_path, "nish-noise")) == 1
    assert main([*command, "--row", "5 layers, Nish", "--row", "5 layers, ReLU"]) == 0
    lines = (tmp_path / "nish-noise.md").read_text().splitlines()
    rows = [line.split(" | ")[0] for line in lines if " layers, " in line]
    assert rows == ["| 5 layers, ReLU", "| 5 layers, Nish", "| 10 layers, Mish"]


def test_processes_share_a_table_and_none_repeats_anothers_run(
    root: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["nish-noise", "--data", str(data), "--out", str(tmp_path), "--epochs", "1", "--seeds", "1"]
    script = [sys.executable, "training/reproduce.py", *command]
    environment = os.environ | {"PYTHONPATH": "training:runtime", "OMP_NUM_THREADS": "1"}
    busy = plan(get_table("nish-noise"), 1, 1)[2].name
    (tmp_path / busy).mkdir()
    with lock_folder(tmp_path / busy, "this test"):
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        processes = [subprocess.Popen(script, cwd=root, env=environment, **pipes) for _ in range(2)]
        outputs = [process.communicate(timeout=300) for process in processes]
    assert [process.returncode for process in processes] == [1, 1]  # the table lacks a run
    for _, error in outputs:
        assert f"{tmp_path / busy}: in use by process {os.getpid()} (this test)" in error
    ran = [str(row["run"]) for row in results(tmp_path, "nish-noise")]
    assert len(ran) == len(set(ran)) == 7
    assert busy not in ran
    assert sum(output.count("nish-noise ") for output, _ in outputs) == 7
    assert main(command) == 0
    assert len(results(tmp_path, "nish-noise")) == 8
    assert sum(line.startswith(("| 5 layers", "| 10 layers")) for line in capsys.readouterr().out.splitlines()) == 8


def test_a_result_belongs_to_the_contents_of_its_data_under_any_name(data: Path, tmp_path: Path) -> None:
    command = ["nish-noise", "--out", str(tmp_path / "out"), "--epochs", "1", "--seeds", "1", "--row", "5 layers, Nish"]
    same, other = tmp_path / "same", tmp_path / "other" / data.name
    shutil.copytree(data, same)
    shutil.copytree(data, other)
    Image.new("L", (28, 28), 200).save(other / "train" / "bright" / "00.png")
    assert main([*command, "--data", str(data)]) == 0
    assert main([*command, "--data", str(same)]) == 0
    (row,) = results(tmp_path / "out", "nish-noise")
    listed = "find -L . -type f ! -path '*/.*' -print0 | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum"
    assert str(row["data_sha256"]) in subprocess.check_output(listed, shell=True, cwd=same, text=True)
    assert row["data_sha256"] in (tmp_path / "out" / "nish-noise.md").read_text()
    assert main([*command, "--data", str(other)]) == 2  # the run's folder has last.pt of the first data
    shutil.rmtree(tmp_path / "out" / str(row["run"]))
    assert main([*command, "--data", str(other)]) == 0
    assert len(results(tmp_path / "out", "nish-noise")) == 2


def test_a_result_says_the_type_that_its_run_computed_in_elsewhere(data: Path, tmp_path: Path) -> None:
    command = ["nish-noise", "--data", str(data), "--out", str(tmp_path), "--epochs", "1", "--seeds", "1"]
    assert main([*command, "--row", "5 layers, Nish"]) == 0
    (row,) = results(tmp_path, "nish-noise")
    assert row["computed_in"] == "float32"
    (tmp_path / "nish-noise.jsonl").unlink()  # as if it had ended before that was written
    final = tmp_path / str(row["run"]) / "final.pt"
    content = torch.load(final, weights_only=True)
    content["training"]["computed_in"] = "bfloat16, float32"  # of a run that was continued here
    torch.save(content, final)
    assert main([*command, "--row", "5 layers, Nish"]) == 0
    (row,) = results(tmp_path, "nish-noise")
    assert row["computed_in"] == "bfloat16, float32"


@pytest.mark.parametrize("file", sorted(SHIPPED_RESULTS.glob("*-*.jsonl")), ids=lambda file: file.stem)
def test_results_that_were_kept_without_a_hash_are_known_by_their_datas_name(file: Path) -> None:
    kept = ResultFile(file)
    assert kept.results
    for row in kept.results:
        wanted = {key: value for key, value in row.items() if key not in ("numbers", "machine", "date")}
        assert kept.find({**wanted, "data_sha256": "0" * 64}) == row
        assert kept.find({**wanted, "data_sha256": "0" * 64, "data": "another"}) is None


def test_a_result_is_kept_when_recipes_gain_a_field(tmp_path: Path) -> None:
    recipe = get_recipe("yynet_cifar10").to_dict()
    wanted = {"run": "a", "recipe": recipe, "data": "d", "data_sha256": "0" * 64}
    earlier = {**wanted, "recipe": {name: value for name, value in recipe.items() if name != "hue"}, "numbers": {}}
    kept = ResultFile(tmp_path / "a.jsonl")
    kept.add(earlier)
    assert kept.find(wanted) == earlier
    assert kept.find({**wanted, "recipe": {**recipe, "hue": 0.1}}) is None


def test_results_of_other_pictures_are_not_taken_for_these(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["nish-noise", "--data", str(data), "--out", str(tmp_path), "--epochs", "1", "--seeds", "1"]
    command += ["--row", "5 layers, Nish"]
    assert main(command) == 0
    assert main([*command, "--validation", "0.05"]) == 2
    assert "evaluation was 'test', now it is" in capsys.readouterr().err
    assert len(results(tmp_path, "nish-noise")) == 1


def test_two_tables_of_the_same_networks_share_their_runs() -> None:
    depth, noise = ({planned.name for planned in plan(get_table(name), 2, 0)} for name in ("nish-depth", "nish-noise"))
    assert noise < depth


@pytest.mark.parametrize(("name", "panels"), [("nish-depth", 2), ("nish-noise", 2), ("yynet-table1", 0)])
def test_a_papers_figure_is_drawn_from_every_run(name: str, panels: int) -> None:
    table = get_table(name)
    plans = plan(table, 2, 1)
    results = [{"data": "digits", "numbers": dict.fromkeys(table.columns, float(i))} for i in range(len(plans))]
    drawn = panels_of(table, plans, results)
    assert len(drawn) == panels
    for panel in drawn:
        assert list(panel.curves) == ["ReLU", "Swish", "Mish", "Nish"]
    values = [value for panel in drawn for curve in panel.curves.values() for runs in curve.values() for value in runs]
    assert len(values) == (len(plans) * len(table.columns) if panels else 0)


@pytest.mark.parametrize("name", sorted(TABLES))
def test_every_run_of_a_table_has_a_name_of_its_own_and_a_network_that_exists(name: str) -> None:
    table = TABLES[name]
    plans = plan(table, 2, 0)
    assert len(plans) == 2 * len(table.experiments)
    for planned in plans[: len(table.experiments)]:
        name, options = planned.architecture.name, planned.architecture.options
        assert model_options(name, **options) == options
        if name in list_models():  # the others take a while to build
            assert create_model(name, **options).input_size == ((28, 28) if name == "mlp" else (32, 32))


def test_a_reduced_budget_makes_one_row_of_rows_that_differ_in_epochs() -> None:
    table = TABLES["nish-table1"]
    assert len(plan(table, 1, 0)) == 30
    reduced = plan(table, 1, 3)
    assert len(reduced) == 10
    assert {planned.recipe.epochs for planned in reduced} == {3}
    assert plan(table, 1, 100)[0].paper["top1"] == "90.98"  # the paper's after as many epochs
    nearest = {epochs: plan(table, 1, epochs)[0].full_epochs for epochs in (3, 60, 120, 200)}
    assert nearest == {3: 50, 60: 100, 120: 150, 200: 150}, "not the paper's after fewer epochs than ours"
    assert plan(TABLES["vgnet-table4"], 1, 40)[0].recipe.warmup_epochs == 1.0  # the same share: 5 of 200


def test_noise_has_the_strength_it_says_and_is_the_same_for_every_network() -> None:
    images = torch.full((8, 28, 28, 3), 100, dtype=torch.uint8)
    batches = [(images, torch.zeros(8, dtype=torch.long))]
    (noisy, _), (again, _) = (
        next(reproduce.with_noise(iter(batches), 0.4)),
        next(reproduce.with_noise(iter(batches), 0.4)),
    )
    assert torch.equal(noisy, again)
    assert float((noisy - 100).std() / 255) == pytest.approx(0.4, rel=0.05)
    assert torch.equal(noisy[..., 0], noisy[..., 2])  # grey pictures stay grey
    assert torch.equal(next(reproduce.with_noise(iter(batches), 0.0))[0], images.float())


def test_mean_and_sample_deviation() -> None:
    assert mean_and_error([87.0, 88.0, 89.0], 2) == "88.00 ± 0.58"
    assert mean_and_error([0.12345], 4) == "0.1235"


def test_wrong_input_is_one_line_and_exit_code_2(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def error(*arguments: str) -> str:
        assert main([*arguments, "--data", str(data), "--out", str(tmp_path)]) == 2
        text = capsys.readouterr().err
        assert text.count("\n") == 1
        return text

    assert "unknown table 'nish-deep'; did you mean nish-depth" in error("nish-deep")
    assert "unknown row '5 layers, Nisch'; did you mean 5 layers, Nish" in error(
        "nish-depth", "--row", "5 layers, Nisch"
    )
    assert "got nan, expected a share in [0, 1)" in error("nish-depth", "--validation", "nan")
    assert "got --epochs -1" in error("nish-depth", "--epochs", "-1")
    assert "got --epochs 0" in error("nish-depth", "--epochs", "0")
    assert "got --seeds 0" in error("nish-depth", "--seeds", "0")
    for text in ("no json", "5", "[]", '{"run": "a"}', '{"numbers": 5}'):
        (tmp_path / "nish-depth.jsonl").write_text(f"{text}\n")
        assert "nish-depth.jsonl: not the results of a table" in error("nish-depth")


@pytest.mark.parametrize(
    ("count", "full", "text"),
    [(3, 40, "3 of 40"), (40, 40, "40"), (80, 40, "80, the paper 40"), (2, 0, "2")],
    ids=["reduced", "the paper's", "raised", "not stated"],
)
def test_a_budget_that_is_not_the_papers_is_told_with_the_papers(count: int, full: int, text: str) -> None:
    assert out_of(count, full) == text
