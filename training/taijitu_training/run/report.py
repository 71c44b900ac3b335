"""Write the report of a training run: one HTML file that shows what was learnt, and what was not."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from taijitu_runtime.files import write_whole
from taijitu_runtime.report.confusion import Confusion, confusion_sections
from taijitu_runtime.report.page import Figure, figures, page, section, shortened
from taijitu_training.checkpoint import today
from taijitu_training.figures.curves import curves_svg
from taijitu_training.run.predictions import Mistake, Predictions


def write_report(
    folder: Path, title: str, history: list[dict[str, float]], labels: Sequence[str], predictions: Predictions
) -> Path:
    """Write `folder`/report.html, self-contained, and return its path.

    `history` are the rows of metrics.jsonl, at least one; `labels` the K names that `predictions` counts from 0.
    WriteError if the file cannot be written.
    """
    confusion = Confusion.of(predictions.targets, predictions.predicted, len(labels))
    right, count = int(confusion.matrix.trace()), len(predictions.targets)
    body = [
        f"<h1>{escape(title)}</h1>",
        _facts(history, right, count),
        section("Training", _CURVES, f'<div class="panels">{"".join(curves_svg(history))}</div>'),
        *confusion_sections(confusion, labels),
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
    return section("Worst mistakes", explanation, figures([_mistake(mistake, labels) for mistake in worst]))


def _mistake(mistake: Mistake, labels: Sequence[str]) -> Figure:
    target, answer = labels[mistake.target], labels[mistake.predicted]
    caption = (
        f"<span>true</span> {shortened(target, 40)}<br>"
        f"<span>answer</span> {shortened(answer, 40)}, {100 * mistake.probability:.1f}&nbsp;%"
    )
    return Figure(mistake.pixels, f"{target}, answered {answer}", caption)
