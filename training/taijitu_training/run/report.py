"""Write the report of a training run: one HTML file that shows what was learnt, and what was not."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from taijitu_runtime.files import write_whole
from taijitu_training.checkpoint import today
from taijitu_training.figures.confusion import NAMES_UP_TO, classes_html, confusion_matrix, matrix_html
from taijitu_training.figures.curves import curves_svg
from taijitu_training.figures.page import page, picture, section, shortened
from taijitu_training.run.predictions import Mistake, Predictions


def write_report(
    folder: Path, title: str, history: list[dict[str, float]], labels: Sequence[str], predictions: Predictions
) -> Path:
    """Write `folder`/report.html, self-contained, and return its path.

    `history` are the rows of metrics.jsonl, at least one; `labels` the K names that `predictions` counts from 0.
    WriteError if the file cannot be written.
    """
    matrix = confusion_matrix(predictions.targets, predictions.predicted, len(labels))
    right, count = int(matrix.trace()), len(predictions.targets)
    body = [
        f"<h1>{escape(title)}</h1>",
        _facts(history, right, count),
        section("Training", _CURVES, f'<div class="panels">{"".join(curves_svg(history))}</div>'),
        section("Confusion", _MATRIX_IMAGE if len(labels) > NAMES_UP_TO else _MATRIX, matrix_html(matrix, labels)),
        section("Labels", _LABELS, classes_html(matrix, labels)),
        _mistakes(predictions.worst, labels, count - right),
    ]
    path = folder / "report.html"
    write_whole(path, page(title, "\n".join(body)).encode())
    return path


_CURVES = (
    'Means over each epoch.<span class="key" style="background: var(--training)"></span>training, in the pictures as '
    'they were augmented<span class="key" style="background: var(--evaluation)"></span>evaluation. '
    "The ring is the best epoch. The learning rate is that after the epoch's last step."
)
_SHADES = "Blue is right, orange is wrong; the root of a cell's share of its row is its strength."
_MATRIX = f"Evaluation pictures by true label (rows) and answer (columns). {_SHADES}"
_MATRIX_IMAGE = (
    f"Evaluation pictures by true label (rows, from the top) and answer (columns, from the left), both in the order of "
    f"the labels' numbers. {_SHADES} In the table are the pairs with the most pictures."
)
_LABELS = (
    "Recall: the share of the label's pictures that are answered with it. Precision: the share of the answers with the "
    "label that are right. Mistaken for: the most frequent wrong answers, with their shares of the label's pictures. "
    "The lowest recall comes first; - if there is nothing to divide by."
)


def _facts(history: Sequence[dict[str, float]], right: int, count: int) -> str:
    best, last = max(history, key=lambda row: row["eval_top1"]), history[-1]
    seconds = sum(row["train_s"] for row in history)
    rate = sum(row["pictures_per_s"] * row["train_s"] for row in history) / seconds
    facts = {
        "date": today(),
        "epochs": f"{last['epoch']:.0f}",
        "best accuracy": f"{best['eval_top1']:.2f} % <small>in epoch {best['epoch']:.0f}</small>",
        "final accuracy": f"{last['eval_top1']:.2f} %",
        "shown below": f"{right:,} of {count:,} <small>pictures right</small>",
        "training": f"{rate:,.0f} <small>pictures/s</small>",
    }
    return f"<dl>{''.join(f'<div><dt>{name}</dt><dd>{value}</dd></div>' for name, value in facts.items())}</dl>"


def _mistakes(worst: Sequence[Mistake], labels: Sequence[str], count: int) -> str:
    if not worst:
        return section("Worst mistakes", "Every evaluation picture got the right answer.", "")
    explanation = (
        f"The {len(worst)} of {count:,} wrong answers with the largest loss, the largest first: the label, the answer "
        "and its probability. A picture is shown as the network's input."
    )
    width = max(_shown_width(mistake) for mistake in worst)
    shown = "\n".join(_mistake(mistake, labels) for mistake in worst)
    return section("Worst mistakes", explanation, f'<div class="mistakes" style="--width: {width}px">{shown}</div>')


def _shown_width(mistake: Mistake) -> int:
    """Return CSS pixels: the largest whole multiple of the picture's own width that keeps it within 160."""
    height, width = (int(length) for length in mistake.pixels.shape[:2])
    return width * max(1, 160 // max(height, width))


def _mistake(mistake: Mistake, labels: Sequence[str]) -> str:
    target, answer = labels[mistake.target], labels[mistake.predicted]
    image = picture(mistake.pixels, _shown_width(mistake), f"{target}, answered {answer}")
    return (
        f"<figure>{image}<figcaption><span>true</span> {shortened(target, 40)}<br>"
        f"<span>answer</span> {shortened(answer, 40)}, {100 * mistake.probability:.1f}&nbsp;%</figcaption></figure>"
    )
