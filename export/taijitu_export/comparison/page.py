"""Write `verify --report page.html`: a classifier's errors as one self-contained page, and a CSV next to it."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from taijitu_export.comparison.classes import (
    Predictions,
    answers_of,
    calibration_error,
    coverage_and_accuracy,
    first_answers,
    reliability,
)
from taijitu_export.comparison.report import as_text
from taijitu_export.comparison.verify import Verification
from taijitu_export.progress import tracked
from taijitu_runtime.console import shown
from taijitu_runtime.decision.decision import temperature_of
from taijitu_runtime.errors import UsageError
from taijitu_runtime.files import write_error, write_whole
from taijitu_runtime.output_path import check_output_path
from taijitu_runtime.report.confusion import Confusion, confusion_sections
from taijitu_runtime.report.page import Figure, figures, page, section

CSV_COLUMNS = ("picture", "label", "reference", "candidate", "what")
SHOWN_PICTURES = 60
THUMBNAIL_SIDE = 96
PLOT_SIDE = 280


def check_page(page: Path, *inputs: Path | None) -> None:
    """Raise UsageError where the page, or the CSV next to it, cannot be written, or would replace another file.

    `inputs`: what is read. An earlier page and its CSV are replaced.
    """
    if page.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"got --report {shown(page)}, expected a name in .html; give --report page.html")
    listed = page.with_suffix(".csv")
    for file in (page, listed):
        check_output_path(file, *inputs)
    if listed.exists():
        with listed.open("rb") as earlier:
            if earlier.readline().strip() not in (b"", ",".join(CSV_COLUMNS).encode()):
                raise UsageError(
                    f"{shown(listed)}: got a file that is not the CSV of a page, which --report {shown(page)} would "
                    "replace; give the page another name"
                )


def write_page(found: Verification, candidate: Path, reference: Path | None, path: Path) -> None:
    """Write the page, and next to it, where there are labels or a reference, the CSV of wrong and flipped pictures.

    Without them, the CSV of an earlier page is removed.
    """
    text = as_text(found, candidate, reference)
    sections = [f"<h1>{escape(shown(candidate.name))}</h1>", f"<pre>{escape(text)}</pre>"]
    rows = changed_pictures(found)
    targets = found.evidence.targets
    if targets is not None:
        answers = first_answers(
            found.evidence.candidate, targets, found.card.output, temperature_of(found.card.decision)
        )
        confusion = Confusion.of(targets, answers.answers, len(found.card.labels))
        sections += [*confusion_sections(confusion, found.card.labels), _probabilities(answers)]
    if rows:
        sections.append(_pictures(found, rows))
    write_whole(path, page(shown(candidate.name), "\n".join(sections)).encode())
    list_path = path.with_suffix(".csv")
    if targets is None and found.comparison is None:
        with write_error(list_path):
            list_path.unlink(missing_ok=True)  # check_page has seen that it is a page's
        return
    listed = io.StringIO(newline="")
    csv.writer(listed).writerows([CSV_COLUMNS, *rows])
    write_whole(list_path, listed.getvalue().encode(errors="backslashreplace"))


def changed_pictures(found: Verification) -> list[tuple[str, str, str, str, str]]:
    """Return name, label, answers and kind ("wrong", "flipped" or both) of every wrong or flipped picture."""
    evidence, labels, targets = found.evidence, found.card.labels, found.evidence.targets
    now = answers_of(evidence.candidate)
    before = None if evidence.reference is None else answers_of(evidence.reference)
    rows = []
    for index, name in enumerate(evidence.names):
        flipped = before is not None and before[index] != now[index]
        wrong = targets is not None and targets[index] != now[index]
        if flipped or wrong:
            rows.append(
                (
                    name,
                    "" if targets is None else labels[targets[index]],
                    "" if before is None else labels[before[index]],
                    labels[now[index]] if now[index] >= 0 else "no number",
                    " and ".join(word for word, holds in (("wrong", wrong), ("flipped", flipped)) if holds),
                )
            )
    return rows


def _probabilities(found: Predictions) -> str:
    bins = reliability(found)
    if not bins:
        return section("Probabilities", "There are none: the logits of every picture are NaN or infinite.", "")
    coverage, accuracy = coverage_and_accuracy(found)
    spread = np.unique(np.linspace(0, len(coverage) - 1, 200).astype(int))
    rows = [
        [f"{each.low:.1f} to {each.high:.1f}", str(each.pictures), _percent(each.confidence), _percent(each.accuracy)]
        for each in bins
    ]
    explanation = (
        "Left: share right by probability; the expected calibration error (ECE) is "
        f"{calibration_error(found):.1f} points. Right: accuracy by coverage, if only the likeliest answers count."
    )
    content = [
        _plot([(each.confidence, each.accuracy) for each in bins], diagonal=True),
        _plot(list(zip(coverage[spread].tolist(), accuracy[spread].tolist()))),
        _table(["probability", "pictures", "mean probability", "right"], rows),
    ]
    return section("Probabilities", explanation, "".join(content))


def _plot(points: Sequence[tuple[float, float]], *, diagonal: bool = False) -> str:
    """Draw a line through points in the unit square."""
    drawn = " ".join(f"{x * PLOT_SIDE:.1f},{(1 - y) * PLOT_SIDE:.1f}" for x, y in points)
    ideal = f'<path d="M0 {PLOT_SIDE}L{PLOT_SIDE} 0" stroke="var(--rule)"/>' if diagonal else ""
    return (
        f'<svg class="plot" viewBox="0 0 {PLOT_SIDE} {PLOT_SIDE}" role="img">{ideal}'
        f'<polyline points="{drawn}" fill="none" stroke="var(--evaluation)" stroke-width="2"/></svg>'
    )


def _pictures(found: Verification, rows: Sequence[tuple[str, str, str, str, str]]) -> str:
    chosen = rows[:SHOWN_PICTURES]
    images = _thumbnails(found, [name for name, *_ in chosen])
    shown_ones = []
    for name, label, before, now, what in chosen:
        words = [f"<span>{what}:</span> {escape(now)}", f"<span>label</span> {escape(label)}" if label else ""]
        words += [f"<span>before</span> {escape(before)}" if before else "", f"<span>{escape(shown(name))}</span>"]
        shown_ones.append(Figure(images.get(name), f"{label}, answered {now}", "<br>".join(filter(None, words))))
    return section("Wrong and flipped pictures", f"{len(rows)}, the first {len(chosen)}:", figures(shown_ones))


def _thumbnails(found: Verification, names: Sequence[str]) -> dict[str, NDArray[np.uint8]]:
    """Return the pictures as the network sees them, uint8 (H, W, 3), made smaller; none of generated pictures."""
    pictures = found.evidence.pictures
    if pictures is None:
        return {}
    from PIL import Image

    wanted = set(names)
    index = np.array([i for i, name in enumerate(pictures.names) if name in wanted], np.int64)
    subset, images = pictures.subset(index), {}
    prepared = (picture for batch in subset.batches(found.card.input) for picture in batch)
    # A tar gives its pictures in its own order, which is that of `names`.
    for name, picture in tracked("drawing pictures", zip(subset.names, prepared), len(index)):
        image = Image.fromarray(picture)
        image.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
        images[name] = np.asarray(image)
    return images


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    first, *others = head
    names = f"<th>{first}</th>" + "".join(f'<th class="number">{name}</th>' for name in others)
    lines = [f'<th scope="row">{row[0]}</th>' + "".join(f"<td>{cell}</td>" for cell in row[1:]) for row in rows]
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f'<table class="list"><thead><tr>{names}</tr></thead><tbody>{body}</tbody></table>'


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if np.isfinite(share) else ""
