"""Which labels are confused: the confusion matrix, its most confused pairs, and recall and precision."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from taijitu_training.figures.page import picture, shortened

NUMBERS_UP_TO, NAMES_UP_TO = 20, 30
"""Number of labels up to which the matrix has numbers in its cells, and names at its sides."""
PAIRS = 20
MISTAKEN_FOR = 2
"""Number of labels that are named next to each one."""

# Colours of the image of a large matrix, chosen for white and for black.
_RIGHT, _WRONG = (58, 130, 232), (232, 120, 30)


def confusion_matrix(targets: NDArray[np.int64], predicted: NDArray[np.int64], labels: int) -> NDArray[np.int64]:
    """Count pictures by true label (rows) and answer (columns), int64 (K, K); `targets`, `predicted`: int64 (N,)."""
    counts = np.bincount(targets * labels + predicted, minlength=labels * labels)
    return counts.reshape(labels, labels).astype(np.int64)


def matrix_html(matrix: NDArray[np.int64], labels: Sequence[str]) -> str:
    """Return a table for up to 30 labels; beyond that an image, with the most confused pairs next to it."""
    if len(labels) > NAMES_UP_TO:
        return f'<div class="side">{_image(matrix)}<div class="wide">{_pairs(matrix, labels)}</div></div>'
    head = "".join(f'<th scope="col">{shortened(label, 18)}</th>' for label in labels)
    rows = (
        f'<tr><th scope="row">{shortened(label, 24)}</th>{_cells(matrix, index, labels)}</tr>'
        for index, label in enumerate(labels)
    )
    cell = "2.4rem" if len(labels) <= NUMBERS_UP_TO else "1.3rem"
    return (
        f'<div class="wide"><table class="matrix" style="--cell: {cell}">\n<thead><tr>'
        f'<th class="corner">true ↓&ensp;answer →</th>{head}</tr></thead>\n'
        f"<tbody>{''.join(rows)}</tbody>\n</table></div>"
    )


def _cells(matrix: NDArray[np.int64], row: int, labels: Sequence[str]) -> str:
    shades = _shades(matrix)
    cells = []
    for column, count in enumerate(matrix[row].tolist()):
        kind = "right" if row == column else "wrong"
        number = str(count) if count and len(labels) <= NUMBERS_UP_TO else ""
        style = f' class="{kind}" style="--shade: {shades[row, column]:.3f}" title="{count} pictures"' if count else ""
        cells.append(f"<td{style}>{number}</td>")
    return "".join(cells)


def _shades(matrix: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return shades in [0, 1]: the root of each cell's share of its row, so that rare mistakes are visible."""
    shares: NDArray[np.float64] = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    return np.sqrt(shares)


def _image(matrix: NDArray[np.int64]) -> str:
    pixels = np.empty((*matrix.shape, 4), np.uint8)
    pixels[...] = (*_WRONG, 0)
    np.einsum("iij->ij", pixels)[:] = (*_RIGHT, 0)
    pixels[..., 3] = np.rint(255 * _shades(matrix))
    width = len(matrix) * max(1, 400 // len(matrix))
    return picture(pixels, width, "confusion matrix: a row for each true label, a column for each answer", "matrix")


def _pairs(matrix: NDArray[np.int64], labels: Sequence[str]) -> str:
    wrong = matrix - np.diag(np.diag(matrix))
    order = np.argsort(-wrong, axis=None, kind="stable")[:PAIRS]
    rows = []
    for target, answer in zip(*np.unravel_index(order, wrong.shape)):
        if count := int(wrong[target, answer]):
            share = _percent(count / int(matrix[target].sum()))
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


def classes_html(matrix: NDArray[np.int64], labels: Sequence[str]) -> str:
    """Tabulate recall and precision of every label, and what it is mistaken for, the lowest recall first.

    In two tables if the labels are many.
    """
    right, pictures, answers = np.diag(matrix), matrix.sum(1), matrix.sum(0)
    recall = np.where(pictures > 0, right / np.maximum(pictures, 1), math.nan)
    precision = np.where(answers > 0, right / np.maximum(answers, 1), math.nan)
    order = np.argsort(recall, kind="stable")  # NaN comes last
    rows = [
        f'<tr><th scope="row">{shortened(labels[index], 24)}</th><td>{pictures[index]}</td>'
        f"{_share(recall[index])}{_share(precision[index])}"
        f'<td class="words">{_taken_for(matrix, index, labels)}</td></tr>'
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


def _taken_for(matrix: NDArray[np.int64], row: int, labels: Sequence[str]) -> str:
    """Return the labels that most of a label's wrong answers name, with their shares of its pictures."""
    wrong = np.where(np.arange(len(labels)) == row, 0, matrix[row])
    names = [
        f"{shortened(labels[column], 24)} {_percent(wrong[column] / matrix[row].sum())}"
        for column in np.argsort(-wrong, kind="stable")[:MISTAKEN_FOR].tolist()
        if wrong[column]
    ]
    return ", ".join(names)


def _share(value: float) -> str:
    if math.isnan(value):
        return "<td>-</td>"
    return f'<td class="share" style="--share: {100 * value:.1f}%">{_percent(value)}</td>'


def _percent(share: float) -> str:
    return f"{100 * share:.1f}&nbsp;%"
