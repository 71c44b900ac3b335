"""Which labels are confused: the confusion matrix, its most confused pairs, and recall and precision."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from taijitu_runtime.report.page import picture, section, shortened

NUMBERS_UP_TO, NAMES_UP_TO = 20, 30
"""Number of labels up to which the matrix has numbers in its cells, and names at its sides."""
PAIRS = 20
MISTAKEN_FOR = 2
"""Number of labels that are named next to each one."""

# Colours of the image of a large matrix, chosen for white and for black.
_RIGHT, _WRONG = (58, 130, 232), (232, 120, 30)


_SHADES_MEAN = "Blue is right, orange is wrong; the root of a cell's share of its row is its strength."
_MATRIX = f"Pictures by true label (rows) and answer (columns). {_SHADES_MEAN}"
_MATRIX_IMAGE = (
    "Pictures by true label (rows, from the top) and answer (columns, from the left), both in the order of the labels' "
    f"numbers. {_SHADES_MEAN} In the table are the pairs with the most pictures."
)
_LABELS = (
    "Recall: the share of the label's pictures that are answered with it. Precision: the share of the answers with the "
    "label that are right. Mistaken for: the most frequent wrong answers, with their shares of the label's pictures. "
    "The lowest recall comes first; - if there is nothing to divide by."
)


@dataclasses.dataclass(frozen=True)
class Confusion:
    """Pictures by true label (rows) and answer (columns), int64 (K, K), and by true label, int64 (K,).

    `pictures` counts those without an answer too, which are in no column.
    """

    matrix: NDArray[np.int64]
    pictures: NDArray[np.int64]

    @classmethod
    def of(cls, targets: NDArray[np.int64], answers: NDArray[np.int64], labels: int) -> Confusion:
        """Count pictures; `targets` and `answers` are int64 (N,), indices of the K `labels`, -1 for no answer."""
        answered = answers >= 0
        cells = np.bincount(targets[answered] * labels + answers[answered], minlength=labels * labels)
        pictures = np.bincount(targets, minlength=labels)
        return cls(cells.reshape(labels, labels).astype(np.int64), pictures.astype(np.int64))

    @property
    def recall(self) -> NDArray[np.float64]:
        """The share of each label's pictures that is answered with it, float64 (K,); NaN without any."""
        return _shares(np.diag(self.matrix), self.pictures)

    @property
    def precision(self) -> NDArray[np.float64]:
        """The share of the answers with each label that is right, float64 (K,); NaN without any."""
        return _shares(np.diag(self.matrix), self.matrix.sum(axis=0))


def confusion_sections(found: Confusion, labels: Sequence[str]) -> list[str]:
    """Return the sections of a page about the confusion matrix and about each label."""
    explanation = _MATRIX_IMAGE if len(labels) > NAMES_UP_TO else _MATRIX
    return [
        section("Confusion", explanation, matrix_html(found, labels)),
        section("Labels", _LABELS, classes_html(found, labels)),
    ]


def matrix_html(found: Confusion, labels: Sequence[str]) -> str:
    """Return a table for up to 30 labels; beyond that an image, with the most confused pairs next to it."""
    if len(labels) > NAMES_UP_TO:
        return f'<div class="side">{_image(found)}<div class="wide">{_pairs(found, labels)}</div></div>'
    head = "".join(f'<th scope="col">{shortened(label, 18)}</th>' for label in labels)
    rows = (
        f'<tr><th scope="row">{shortened(label, 24)}</th>{_cells(found, index, labels)}</tr>'
        for index, label in enumerate(labels)
    )
    cell = "2.4rem" if len(labels) <= NUMBERS_UP_TO else "1.3rem"
    return (
        f'<div class="wide"><table class="matrix" style="--cell: {cell}">\n<thead><tr>'
        f'<th class="corner">true ↓&ensp;answer →</th>{head}</tr></thead>\n'
        f"<tbody>{''.join(rows)}</tbody>\n</table></div>"
    )


def _cells(found: Confusion, row: int, labels: Sequence[str]) -> str:
    shades = _shades(found)
    cells = []
    for column, count in enumerate(found.matrix[row].tolist()):
        kind = "right" if row == column else "wrong"
        number = str(count) if count and len(labels) <= NUMBERS_UP_TO else ""
        style = f' class="{kind}" style="--shade: {shades[row, column]:.3f}" title="{count} pictures"' if count else ""
        cells.append(f"<td{style}>{number}</td>")
    return "".join(cells)


def _shades(found: Confusion) -> NDArray[np.float64]:
    """Return shades in [0, 1]: the root of each cell's share of its row, so that rare mistakes are visible."""
    shares: NDArray[np.float64] = found.matrix / np.maximum(found.pictures, 1)[:, None]
    return np.sqrt(shares)


def _image(found: Confusion) -> str:
    pixels = np.empty((*found.matrix.shape, 4), np.uint8)
    pixels[...] = (*_WRONG, 0)
    np.einsum("iij->ij", pixels)[:] = (*_RIGHT, 0)
    pixels[..., 3] = np.rint(255 * _shades(found))
    width = len(pixels) * max(1, 400 // len(pixels))
    return picture(pixels, width, "confusion matrix: a row for each true label, a column for each answer", "matrix")


def _pairs(found: Confusion, labels: Sequence[str]) -> str:
    wrong = found.matrix - np.diag(np.diag(found.matrix))
    order = np.argsort(-wrong, axis=None, kind="stable")[:PAIRS]
    rows = []
    for target, answer in zip(*np.unravel_index(order, wrong.shape)):
        if count := int(wrong[target, answer]):
            share = _percent(count / int(found.pictures[target]))
            rows.append(
                f'<tr><th scope="row">{shortened(labels[target], 24)}</th>'
                f'<td class="words">{shortened(labels[answer], 24)}</td><td>{count}</td><td>{share}</td></tr>'
            )
    if not rows:
        return "<p>No label was taken for another.</p>"
    return (
        '<table class="list">\n<thead><tr><th>true label</th><th>answer</th><th class="number">pictures</th>'
        f'<th class="number">of the label</th></tr></thead>\n<tbody>{"".join(rows)}</tbody>\n</table>'
    )


def classes_html(found: Confusion, labels: Sequence[str]) -> str:
    """Tabulate recall and precision of every label, and what it is mistaken for, the lowest recall first.

    In two tables if the labels are many.
    """
    recall, precision = found.recall, found.precision
    order = np.argsort(recall, kind="stable")  # NaN comes last
    rows = [
        f'<tr><th scope="row">{shortened(labels[index], 24)}</th><td>{found.pictures[index]}</td>'
        f"{_share(recall[index])}{_share(precision[index])}"
        f'<td class="words">{_taken_for(found, index, labels)}</td></tr>'
        for index in order.tolist()
    ]
    head = "".join(f'<th class="number">{name}</th>' for name in ("pictures", "recall", "precision"))
    length = math.ceil(len(rows) / min(2, math.ceil(len(rows) / 20)))
    tables = (
        f'<table class="list">\n<thead><tr><th>label</th>{head}<th>mistaken for</th></tr></thead>\n'
        f"<tbody>{''.join(rows[start : start + length])}</tbody>\n</table>"
        for start in range(0, len(rows), length)
    )
    return f'<div class="side">{"".join(tables)}</div>'


def _taken_for(found: Confusion, row: int, labels: Sequence[str]) -> str:
    """Return the labels that most of a label's wrong answers name, with their shares of its pictures."""
    wrong = np.where(np.arange(len(labels)) == row, 0, found.matrix[row])
    names = [
        f"{shortened(labels[column], 24)} {_percent(wrong[column] / found.pictures[row])}"
        for column in np.argsort(-wrong, kind="stable")[:MISTAKEN_FOR].tolist()
        if wrong[column]
    ]
    return ", ".join(names)


def _shares(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.where(whole > 0, part / np.maximum(whole, 1), math.nan)


def _share(value: float) -> str:
    if math.isnan(value):
        return "<td>-</td>"
    return f'<td class="share" style="--share: {100 * value:.1f}%">{_percent(value)}</td>'


def _percent(share: float) -> str:
    return f"{100 * share:.1f}&nbsp;%"
