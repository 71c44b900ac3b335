"""The report of a run: its content, that it needs no other file, and that no label can break it."""

from __future__ import annotations

import base64
import io
import os
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from taijitu_runtime.errors import TaijituError
from taijitu_training.figures.curves import curves_svg
from taijitu_training.run.predictions import WORST, Mistake, PredictionLog, Predictions
from taijitu_training.run.report import write_report

VOID = {"meta", "img", "br", "path", "use", "rect"}


def rows(epochs: int) -> list[dict[str, float]]:
    """Make a history whose best epoch is the last but one."""
    top1 = [50.0 + epoch for epoch in range(epochs)]
    top1[-2:] = top1[:-3:-1]
    return [
        {
            "epoch": epoch,
            "lr": 0.01 / epoch,
            "train_loss": 2.0 / epoch,
            "train_top1": 55.0,
            "eval_loss": 2.5 / epoch,
            "eval_top1": top1[epoch - 1],
            "pictures_per_s": 100.0 * epoch,
            "train_s": 10.0,
        }
        for epoch in range(1, epochs + 1)
    ]


def answers(labels: int, size: tuple[int, int] = (4, 6)) -> Predictions:
    """Make three pictures of each label; the first of each is answered with the next label."""
    log = PredictionLog()
    targets = torch.arange(labels).repeat_interleave(3)
    predicted = targets.clone()
    predicted[::3] = (targets[::3] + 1) % labels
    images = torch.arange(len(targets)).to(torch.uint8)[:, None, None, None].expand(-1, *size, 3)
    log.add(images, targets, 4.0 * F.one_hot(predicted, labels).float())
    return log.result()


class Page(HTMLParser):
    """A parser that checks that elements are closed in order, and keeps the text, the attributes and the pictures."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""
        self.attributes: list[tuple[str, str, str]] = []
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] not in (["style"], ["script"]):
            self.text += data

    def values(self, name: str) -> list[str]:
        return [value for _, key, value in self.attributes if key == name]

    def pictures(self) -> list[Image.Image]:
        coded = [source.removeprefix("data:image/png;base64,") for source in self.values("src")]
        return [Image.open(io.BytesIO(base64.b64decode(source, validate=True))) for source in coded]


def test_the_log_counts_every_picture_and_keeps_the_worst_mistakes() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (300, 2, 3, 3), generator=generator, dtype=torch.uint8)
    targets = torch.randint(0, 5, (300,), generator=generator)
    logits = torch.randn(300, 5, generator=generator)
    log = PredictionLog()
    for part in torch.arange(300).split(7):
        log.add(images[part], targets[part], logits[part])
    found = log.result()
    assert found.targets.dtype == found.predicted.dtype == np.int64
    np.testing.assert_array_equal(found.targets, targets.numpy())
    np.testing.assert_array_equal(found.predicted, logits.argmax(1).numpy())
    losses = F.cross_entropy(logits, targets, reduction="none")
    losses[logits.argmax(1) == targets] = -1.0
    expected = losses.argsort(descending=True)[:WORST]
    assert len(found.worst) == WORST
    for mistake, index in zip(found.worst, expected.tolist()):
        np.testing.assert_array_equal(mistake.pixels, images[index].numpy())
        assert (mistake.target, mistake.predicted) == (int(targets[index]), int(logits[index].argmax()))
        assert mistake.loss == pytest.approx(float(losses[index]))
        assert mistake.probability == pytest.approx(float(logits[index].softmax(0).max()))


def test_a_kept_mistake_does_not_keep_its_batch() -> None:
    log = PredictionLog()
    images = torch.zeros(2, 4, 4, 3, dtype=torch.uint8)
    log.add(images, torch.tensor([0, 1]), torch.tensor([[0.0, 1.0], [0.0, 1.0]]))
    images.fill_(9)
    (mistake,) = log.result().worst
    assert mistake.pixels.max() == 0
    assert mistake.pixels.base is None


def test_the_report_needs_nothing_but_itself(tmp_path: Path) -> None:
    path = write_report(tmp_path, "a run", rows(4), ["cat", "dog", "owl"], answers(3))
    assert path == tmp_path / "report.html"
    assert os.listdir(tmp_path) == ["report.html"]
    page = Page(path)
    tags = {tag for tag, _, _ in page.attributes}
    assert not tags & {"script", "link", "iframe", "object"}
    assert all(value.startswith("data:") for value in page.values("src"))
    assert all(value.startswith("#") for value in (*page.values("href"), *page.values("xlink:href")))
    assert not re.search(r"@import|url\((?!#)", path.read_text())


def test_the_facts_are_those_of_the_history(tmp_path: Path) -> None:
    page = Page(write_report(tmp_path, "a run", rows(4), ["cat", "dog", "owl"], answers(3)))
    assert "53.00 % in epoch 3" in page.text
    assert "final accuracy52.00 %" in page.text
    assert "6 of 9 pictures right" in page.text
    assert "250 pictures/s" in page.text
    assert re.search(r"date\d{4}-\d\d-\d\d", page.text)


def test_ids_are_unique_and_every_reference_has_its_element(tmp_path: Path) -> None:
    path = write_report(tmp_path, "a run", rows(4), ["cat", "dog", "owl"], answers(3))
    ids = Page(path).values("id")
    assert len(ids) == len(set(ids))
    used = set(re.findall(r'(?:url\(|href=")#([\w-]+)', path.read_text()))
    assert used
    assert used <= set(ids)


def test_the_curves_hold_every_epoch_in_the_colours_of_the_page() -> None:
    loss, accuracy, rate = curves_svg(rows(30))
    for svg, lines in ((loss, 2), (accuracy, 2), (rate, 1)):
        ET.fromstring(svg.replace("xlink:href", "href"))
        paths = re.findall(r'<path d="([^"]*)" clip-path="[^"]*" style="[^"]*stroke-width: 1.8', svg)
        assert [len(re.findall("[ML] ", path)) for path in paths] == [30] * lines
        assert not re.search(r"#[0-9a-f]{6}\b", svg)
    assert {"var(--training)", "var(--evaluation)"} <= set(re.findall(r"var\(--\w+\)", loss))


def test_one_epoch_without_a_mistake_is_a_report_too(tmp_path: Path) -> None:
    targets = np.array([0, 1, 1])
    page = Page(write_report(tmp_path, "short", rows(1), ["cat", "dog"], Predictions(targets, targets, [])))
    assert "Every evaluation picture got the right answer." in page.text
    assert "50.00 % in epoch 1" in page.text
    assert page.pictures() == []


def test_labels_and_titles_are_escaped(tmp_path: Path) -> None:
    labels = ['<script>alert("1")</script>', "a & b", 'cat\'s "eye" ' + "<i>" * 20, "犬"]
    path = write_report(tmp_path, "<b>title</b> & more", rows(2), labels, answers(4))
    page = Page(path)
    assert not {tag for tag, _, _ in page.attributes} & {"script", "i", "b"}
    assert "<script>" not in path.read_text()
    assert "<b>title</b> & more" in page.text
    assert labels[2] in page.values("title")
    assert labels[3] in page.text


@pytest.mark.parametrize("count", [2, 20, 21, 30, 31, 100])
def test_the_matrix_is_readable_for_any_number_of_labels(tmp_path: Path, count: int) -> None:
    labels = [f"label {index}" for index in range(count)]
    page = Page(write_report(tmp_path, "many", rows(2), labels, answers(count)))
    cells = [value for tag, name, value in page.attributes if (tag, name) == ("td", "class")]
    matrix = [picture for picture in page.pictures() if picture.mode == "RGBA"]
    assert cells.count("right") == (count if count <= 30 else 0)
    assert cells.count("wrong") == (count if count <= 30 else 0)
    assert [picture.size for picture in matrix] == ([(count, count)] if count > 30 else [])
    if matrix:
        alpha = np.asarray(matrix[0])[..., 3]
        assert set(np.flatnonzero(alpha[0])) == {0, 1}
        assert alpha[0, 0] > alpha[0, 1]
    assert page.text.count("label ") >= count


def test_mistakes_are_shown_pixel_by_pixel_at_a_visible_size(tmp_path: Path) -> None:
    pixels = np.arange(32 * 32 * 3, dtype=np.uint32).reshape(32, 32, 3).astype(np.uint8)
    worst = [Mistake(pixels, 0, 1, 0.987, 4.3)]
    predictions = Predictions(np.array([0, 1]), np.array([1, 1]), worst)
    page = Page(write_report(tmp_path, "one", rows(2), ["cat", "dog"], predictions))
    (shown,) = page.pictures()
    np.testing.assert_array_equal(np.asarray(shown), pixels)
    assert ("img", "width", "160") in page.attributes
    assert "true catanswer dog, 98.7\xa0%" in page.text
    assert "image-rendering: pixelated" in (tmp_path / "report.html").read_text()


def test_a_report_that_cannot_be_written_is_one_line_and_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(TaijituError, match=r"report.html: could not be written \(No such file or directory\)"):
        write_report(tmp_path / "missing", "a run", rows(1), ["cat", "dog"], answers(2))
    (tmp_path / "file").touch()
    with pytest.raises(TaijituError, match=r"could not be written \(Not a directory\)"):
        write_report(tmp_path / "file", "a run", rows(1), ["cat", "dog"], answers(2))
    (tmp_path / "file").unlink()
    path = write_report(tmp_path, "a run", rows(1), ["cat", "dog"], answers(2))
    before = path.read_bytes()

    def full(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(TaijituError, match="No space left on device"):
        write_report(tmp_path, "another", rows(1), ["cat", "dog"], answers(2))
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["report.html"]
