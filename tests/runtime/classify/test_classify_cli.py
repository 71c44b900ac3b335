"""classify: its output and exit codes, in process and as the documented script."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from taijitu_runtime.backends.ort.backend import OrtBackend
from taijitu_runtime.classify import cli
from tests.helpers.changed_model import with_weights
from tests.helpers.decision import make_decision
from tests.helpers.tiny_model import card_dict

Capture = pytest.CaptureFixture[str]


def run(*arguments: object) -> int:
    return cli.main([str(argument) for argument in arguments])


@pytest.fixture
def with_bad_ones(pictures: Path, tmp_path: Path) -> Path:
    """Add an empty and a truncated picture to the folder."""
    folder = shutil.copytree(pictures, tmp_path / "mixed")
    (folder / "empty.jpg").touch()
    (folder / "cut.png").write_bytes((folder / "red.png").read_bytes()[:60])
    return folder


def test_one_picture_gets_a_table_with_bars(tiny_onnx: Path, pictures: Path, capsys: Capture) -> None:
    assert run(tiny_onnx, pictures / "red.png") == 0
    printed = capsys.readouterr()
    name, *rows = printed.out.splitlines()
    assert name == str(pictures / "red.png")
    assert [re.sub(r"[ █]+", " ", row) for row in rows] == [" 93.73% red", " 4.57% blue", " 1.70% green"]
    assert rows[0].count("█") == 28
    assert len({row.index(label) for row, label in zip(rows, ["red", "blue", "green"])}) == 1
    assert printed.err == ""


def test_many_pictures_get_an_aligned_line_each_in_order(
    tiny_onnx: Path, pictures: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(pictures.parent)  # longer names than 60 columns are not aligned
    pictures = Path(pictures.name)
    assert run(tiny_onnx, pictures / "red.png", pictures, "--top", 1) == 0
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert [line.split() for line in lines] == [
        [str(pictures / "red.png"), "93.7%", "red"],
        [str(pictures / "deep" / "blue.jpg"), "97.4%", "blue"],
        [str(pictures / "deep" / "er" / "green.PNG"), "97.6%", "green"],
        [str(pictures / "red.png"), "93.7%", "red"],
    ]
    assert len({line.index("%") for line in lines}) == 1
    assert printed.err == ""


def test_json_is_one_object_and_nothing_else(tiny_onnx: Path, with_bad_ones: Path, capsys: Capture) -> None:
    assert run(tiny_onnx, with_bad_ones, "--json", "--top", 2) == 1
    printed = capsys.readouterr()
    document = json.loads(printed.out)
    assert set(document) == {"model", "architecture", "results", "skipped", "left_out"}
    assert (document["model"], document["architecture"]) == (str(tiny_onnx), "tiny")
    assert [Path(result["file"]).name for result in document["results"]] == ["blue.jpg", "green.PNG", "red.png"]
    assert [answer["label"] for answer in document["results"][2]["answers"]] == ["red", "blue"]
    assert document["results"][2]["answers"][0] == {
        "label": "red",
        "index": 0,
        "probability": pytest.approx(0.93726, abs=1e-5),
    }
    assert [Path(entry["file"]).name for entry in document["skipped"]] == ["cut.png", "empty.jpg"]
    assert document["skipped"][1]["reason"].startswith("got an empty file")
    assert len(printed.err.splitlines()) == 2


def test_unreadable_files_are_named_and_skipped_and_the_exit_code_is_1(
    tiny_onnx: Path, with_bad_ones: Path, capsys: Capture
) -> None:
    assert run(tiny_onnx, with_bad_ones, with_bad_ones / "gone.jpg") == 1
    printed = capsys.readouterr()
    assert len(printed.out.splitlines()) == 3
    cut, empty, gone = printed.err.splitlines()
    assert re.match(rf"{re.escape(str(with_bad_ones))}/cut\.png: got a damaged or truncated picture \(.+\)", cut)
    assert empty.startswith(f"{with_bad_ones}/empty.jpg: got an empty file, expected JPEG")
    reason = "got nothing (No such file or directory), expected a picture that can be read; check the path"
    assert gone == f"{with_bad_ones}/gone.jpg: {reason}"


def test_if_no_file_can_be_read_json_is_still_an_object(tiny_onnx: Path, tmp_path: Path, capsys: Capture) -> None:
    assert run(tiny_onnx, tmp_path / "a.jpg", tmp_path / "b.jpg", "--json") == 1
    document = json.loads(capsys.readouterr().out)
    assert (document["results"], len(document["skipped"])) == ([], 2)


@pytest.mark.parametrize("count", [7, 8, 9, 40])
def test_order_holds_over_many_batches(tiny_onnx: Path, pictures: Path, capsys: Capture, count: int) -> None:
    names = ["red.png", "deep/blue.jpg", "missing.png"]
    files = [pictures / names[index % 3] for index in range(count)]
    assert run(tiny_onnx, *files, "--json", "--top", 1) == 1
    document = json.loads(capsys.readouterr().out)
    assert [result["file"] for result in document["results"]] == [str(file) for file in files if file.exists()]
    assert [r["answers"][0]["label"] for r in document["results"]] == [f.stem for f in files if f.exists()]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["MODEL"], "got no picture, expected files or folders, - for standard input, or --files0-from FILE"),
        (["MODEL", "-", "-"], "got - twice, expected it once: standard input has one picture"),
        (["MODEL", "red.png", "--top", "x"], "argument --top: invalid int value: 'x'; see taijitu classify --help"),
        (
            ["MODEL", "red.png", "--tip=1"],
            "unrecognized arguments: --tip=1; did you mean --top?; see taijitu classify --help",
        ),
        (["MODEL", "red.png", "--top", "0"], "got top 0, expected 1 to 3"),
        (["MODEL", "red.png", "--top", "4"], "got top 4, expected 1 to 3"),
        (["gone.onnx", "red.png"], "gone.onnx: got no such file, expected a model file; check the path"),
    ],
)
@pytest.mark.parametrize("json_flag", [[], ["--json"]])
def test_wrong_use_is_one_line_and_exit_code_2(
    tiny_onnx: Path, capsys: Capture, arguments: list[str], message: str, json_flag: list[str]
) -> None:
    assert run(*[tiny_onnx if text == "MODEL" else text for text in arguments], *json_flag) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"taijitu classify: {message}")
    assert printed.err.count("\n") == 1


def test_a_folder_without_pictures_is_wrong_use(tiny_onnx: Path, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").touch()
    assert run(tiny_onnx, tmp_path / "empty") == 2
    assert re.fullmatch(
        r"taijitu classify: .*/empty: got a folder without pictures, expected JPEG.*\n", capsys.readouterr().err
    )


def test_a_folder_is_searched_by_content_and_other_files_are_reported(
    tiny_onnx: Path, pictures: Path, tmp_path: Path, capsys: Capture
) -> None:
    Image.open(pictures / "red.png").convert("RGB").save(tmp_path / "a.jfif", "JPEG")
    shutil.copy(tmp_path / "a.jfif", tmp_path / "without suffix")
    (tmp_path / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(40))
    (tmp_path / "Thumbs.db").write_bytes(bytes(40))
    os.mkfifo(tmp_path / "pipe.jpg")
    assert run(tiny_onnx, tmp_path, "--json") == 0
    printed = capsys.readouterr()
    document = json.loads(printed.out)
    assert [Path(result["file"]).name for result in document["results"]] == ["a.jfif", "without suffix"]
    assert document["left_out"] == {"kinds": {"HEIC": 1, "FIFO": 1}, "named": [f"{tmp_path}/pipe.jpg (FIFO)"]}
    assert "1 HEIC" in printed.err


def test_names_in_the_letters_of_macos_are_found(
    tiny_onnx: Path, pictures: Path, tmp_path: Path, capsys: Capture
) -> None:
    file = tmp_path / "Ka\u0308se" / "u\u0308.png"
    file.parent.mkdir()
    shutil.copy(pictures / "red.png", file)
    assert run(tiny_onnx, tmp_path, "--json") == 0
    assert [result["file"] for result in json.loads(capsys.readouterr().out)["results"]] == [str(file)]


@pytest.fixture
def piped(monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], None]:
    """Put bytes into standard input."""

    def pipe(content: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))

    return pipe


def test_csv_is_a_row_for_each_picture_and_answer(
    make_onnx: Callable[..., Path], with_bad_ones: Path, capsys: Capture
) -> None:
    model = make_onnx(labels=('cat, "tabby"', "grün", "blue"))
    assert run(model, with_bad_ones, "--csv", "--top", 2) == 1
    printed = capsys.readouterr()
    rows = list(csv.DictReader(printed.out.splitlines()))
    assert printed.out.splitlines()[0] == "file,rank,label,index,probability"
    assert [(Path(row["file"]).name, row["rank"], row["label"], row["index"]) for row in rows] == [
        ("blue.jpg", "1", "blue", "2"),
        ("blue.jpg", "2", 'cat, "tabby"', "0"),
        ("green.PNG", "1", "grün", "1"),
        ("green.PNG", "2", "blue", "2"),
        ("red.png", "1", 'cat, "tabby"', "0"),
        ("red.png", "2", "blue", "2"),
    ]
    assert float(rows[4]["probability"]) == pytest.approx(0.93726, abs=1e-5)
    assert [Path(line.partition(": ")[0]).name for line in printed.err.splitlines()] == ["cut.png", "empty.jpg"]


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_csv_is_utf_8_wherever_it_runs(
    encoding: str, make_onnx: Callable[..., Path], pictures: Path, root: Path
) -> None:
    model = make_onnx(labels=("猫", "grün", "blue"))
    command = [sys.executable, "runtime/classify.py", str(model), str(pictures / "red.png"), "--csv", "--top", "3"]
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    done = subprocess.run(command, capture_output=True, cwd=root, check=True, env=environment)
    assert {row["label"] for row in csv.DictReader(done.stdout.decode().splitlines())} == {"猫", "grün", "blue"}


def test_text_and_csv_say_what_is_decided(make_onnx: Callable[..., Path], pictures: Path, capsys: Capture) -> None:
    decision = make_decision(temperature=1.0, threshold=0.95, set_probability=0.03)
    model = make_onnx(card=card_dict(decision=dataclasses.asdict(decision)))
    assert run(model, pictures, "--csv", "--top", 1) == 0
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert [row["known"] for row in rows] == ["true", "true", "false"]
    assert [json.loads(row["set"]) for row in rows] == [["blue"], ["green"], ["red", "blue"]]
    for asked in (pictures, pictures / "red.png"):  # a line for each picture, a table for one
        assert run(model, asked) == 0
        assert re.search(r"unknown\s+one of: red, blue$", capsys.readouterr().out, re.MULTILINE)
    assert run(make_onnx(), pictures / "red.png", "--csv", "--threshold", 0.5) == 0
    header, *rest = capsys.readouterr().out.splitlines()
    assert header.endswith(",probability,known")
    assert [row.rpartition(",")[2] for row in rest] == ["true"] * 3


def test_one_picture_comes_from_standard_input(
    tiny_onnx: Path, pictures: Path, capsys: Capture, piped: Callable[[bytes], None]
) -> None:
    piped((pictures / "red.png").read_bytes())
    assert run(tiny_onnx, pictures / "deep" / "blue.jpg", "-", "--json", "--top", 1) == 0
    results = json.loads(capsys.readouterr().out)["results"]
    assert [(Path(result["file"]).name, result["answers"][0]["label"]) for result in results] == [
        ("blue.jpg", "blue"),
        ("-", "red"),
    ]
    piped(b"no picture")
    assert run(tiny_onnx, "-") == 1
    assert capsys.readouterr().err.startswith("-: got no picture")


def test_a_standard_input_that_is_closed_or_cannot_be_read_is_one_line(
    tiny_onnx: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, root: Path
) -> None:
    line = f"exec {sys.executable} runtime/classify.py {tiny_onnx} - <&-"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, cwd=root, check=False)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    with (tmp_path / "out").open("w") as for_writing:
        monkeypatch.setattr(sys, "stdin", for_writing)
        for arguments in (["-"], ["--files0-from", "-"]):
            assert run(tiny_onnx, *arguments) == 2
            assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_list_has_names_that_end_in_null_bytes(
    tiny_onnx: Path, pictures: Path, tmp_path: Path, capsys: Capture, piped: Callable[[bytes], None]
) -> None:
    odd = tmp_path / os.fsdecode(b"two\nlines \xe9.png")
    shutil.copy(pictures / "red.png", odd)
    names = b"".join(os.fsencode(name) + b"\0" for name in (odd, pictures / "deep"))
    (tmp_path / "list").write_bytes(names)
    for source in (tmp_path / "list", "-"):
        piped(names)
        assert run(tiny_onnx, "--files0-from", source, "--csv", "--top", 1) == 0
        rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
        assert [row["label"] for row in rows] == ["red", "blue", "green"]


def test_a_file_called_like_standard_input_is_read_where_its_folder_is_written(
    tiny_onnx: Path, pictures: Path, tmp_path: Path, capsys: Capture, piped: Callable[[bytes], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    shutil.copy(pictures / "red.png", "-")
    Path("list").write_bytes(b"./-\0")
    for arguments in (["./-"], ["--files0-from", "list"]):
        piped((pictures / "deep" / "blue.jpg").read_bytes())
        assert run(tiny_onnx, *arguments, "--csv", "--top", 1) == 0
        assert [row["label"] for row in csv.DictReader(capsys.readouterr().out.splitlines())] == ["red"]


@pytest.mark.parametrize("content", [b"", b"a.png\0\0b.png\0", b"-\0", b"a.png\n", b"a.png\nb.png\n"])
def test_a_list_without_names_is_wrong_use(
    tiny_onnx: Path, capsys: Capture, piped: Callable[[bytes], None], content: bytes
) -> None:
    piped(content)
    assert run(tiny_onnx, "--files0-from", "-") == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert run(tiny_onnx, "a.png", "--files0-from", "list") == 2
    assert run(tiny_onnx, "--files0-from", "no such list") == 2
    assert run(tiny_onnx, "a.png", "--csv", "--json") == 2


def test_find_and_cat_feed_the_documented_script(tiny_onnx: Path, pictures: Path, root: Path) -> None:
    script = f"{sys.executable} runtime/classify.py {tiny_onnx}"
    line = (
        f"find {pictures} -iname '*.png' -not -path '*/.*' -print0 | sort -z | "
        f"{script} --files0-from - --csv --top 1 && "
        f"cat {pictures}/deep/blue.jpg | {script} - --csv --top 1"
    )
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, cwd=root, check=True)
    assert [row["label"] for row in csv.DictReader(done.stdout.splitlines())] == ["green", "red", "label", "blue"]


def test_help_names_every_flag(capsys: Capture) -> None:
    with pytest.raises(SystemExit) as left:
        run("--help")
    assert left.value.code == 0
    assert {"--top", "--json", "model", "picture"} <= set(re.findall(r"[\w-]+", capsys.readouterr().out))


def test_ctrl_c_leaves_with_130_and_no_traceback(
    tiny_onnx: Path, pictures: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(OrtBackend, "_run", interrupt)
    assert run(tiny_onnx, pictures) == 130
    assert capsys.readouterr() == ("", "")


def test_names_that_could_drive_a_terminal_are_escaped(
    tiny_onnx: Path, pictures: Path, tmp_path: Path, capsys: Capture
) -> None:
    for name in ("clear\x1b[2J.png", "two\nlines.png", os.fsdecode(b"latin\xe9.png")):
        (tmp_path / name).write_bytes((pictures / "red.png").read_bytes())
    (tmp_path / "bad\nname.png").touch()
    assert run(tiny_onnx, tmp_path) == 1
    printed = capsys.readouterr()
    assert "\x1b" not in printed.out
    assert len(printed.out.splitlines()) == 3
    assert r"latin\udce9.png" in printed.out
    assert printed.err.startswith(f"{tmp_path}/bad\\nname.png: got an empty file")
    assert run(tiny_onnx, tmp_path, "--json") == 1
    files = {result["file"] for result in json.loads(capsys.readouterr().out)["results"]}
    names = {"clear\x1b[2J.png", "two\nlines.png", r"latin\udce9.png"}  # no parser takes a lone surrogate
    assert files == {str(tmp_path / name) for name in names}


def test_pillows_warnings_about_odd_pictures_stay_out_of_stderr(
    tiny_onnx: Path, tmp_path: Path, capsys: Capture
) -> None:
    cut_short = b"Exif\0\0MM\0*\0\0\0\x08\0\x09\x01"
    Image.new("RGB", (20, 20), (255, 0, 0)).save(tmp_path / "odd.jpg", exif=cut_short)
    with pytest.warns(UserWarning, match="Corrupt EXIF data"), Image.open(tmp_path / "odd.jpg") as odd:
        odd.getexif()
    assert run(tiny_onnx, tmp_path / "odd.jpg", "--top", 1) == 0
    printed = capsys.readouterr()
    assert printed.out.endswith("red\n")
    assert printed.err == ""


def test_labels_that_the_terminal_cannot_show_do_not_stop_it(
    make_onnx: Callable[..., Path], pictures: Path, root: Path
) -> None:
    model = make_onnx(labels=("赤", "緑", "青"))
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    command: list[str | Path] = [sys.executable, "runtime/classify.py", model, pictures / "red.png"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, env=environment, check=True)
    assert re.search(r"93\.73%  #{28} +\\u8d64$", done.stdout, re.MULTILINE)


def test_the_documented_script_runs_from_a_checkout(tiny_onnx: Path, with_bad_ones: Path, root: Path) -> None:
    command: list[str | Path] = [
        sys.executable,
        "-W",
        "error",
        "runtime/classify.py",
        tiny_onnx,
        with_bad_ones,
        "--top",
        "1",
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root)
    assert done.returncode == 1
    assert [line.split()[-1] for line in done.stdout.splitlines()] == ["blue", "green", "red"]
    assert [line.partition(":")[0] for line in done.stderr.splitlines()] == [
        f"{with_bad_ones}/cut.png",
        f"{with_bad_ones}/empty.jpg",
    ]


def many(tiny_onnx: Path, pictures: Path, root: Path) -> subprocess.Popen[str]:
    # more lines than a pipe holds, so that the command is still at it while its reader acts
    command: list[str | Path] = [sys.executable, "runtime/classify.py", tiny_onnx, *[pictures / "red.png"] * 2500]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=root)


def test_a_closed_output_is_not_a_traceback(tiny_onnx: Path, pictures: Path, root: Path) -> None:
    with many(tiny_onnx, pictures, root) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(timeout=120) == 141


def test_an_interrupt_from_outside_is_not_a_traceback(tiny_onnx: Path, pictures: Path, root: Path) -> None:
    with many(tiny_onnx, pictures, root) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=120)
        assert (process.returncode, errors) == (130, "")


def test_a_url_is_an_error_that_says_that_none_is_fetched(tiny_onnx: Path, capsys: Capture) -> None:
    assert run(tiny_onnx, "https://example.org/cat.jpg") == 1
    assert "no URL is fetched" in capsys.readouterr().err


def test_a_model_that_fails_the_proof_that_was_asked_for_classifies_nothing(
    shipped_onnx: Path, pictures: Path, tmp_path: Path, capsys: Capture
) -> None:
    broken = with_weights(shipped_onnx, tmp_path / "broken.onnx", np.negative)
    assert run(shipped_onnx, pictures / "red.png", "--prove", "on") == 0
    assert capsys.readouterr().err == ""
    assert run(broken, pictures / "red.png", "--prove", "on") == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "not proven" in printed.err
    assert run(broken, pictures / "red.png", "--prove", "warn") == 0
    printed = capsys.readouterr()
    assert printed.out
    assert "not proven" in printed.err
    assert run(broken, pictures / "red.png") == 0
    assert capsys.readouterr().err == ""
