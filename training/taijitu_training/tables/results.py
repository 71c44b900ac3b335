"""Keep the results of a table one by one, and print them with the paper's."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

from taijitu_runtime.errors import DataError
from taijitu_runtime.files import write_whole
from taijitu_runtime.locks import lock_file
from taijitu_training.data import Dataset
from taijitu_training.recipes.recipe import Recipe
from taijitu_training.tables.significance import (
    Difference,
    Summary,
    paired_differences,
    standard_error,
    welch_differences,
)
from taijitu_training.tables.tables import Plan, Table

Result = dict[str, Any]  # one finished run: its settings, and "numbers" by column

HEADINGS = {
    "data": "Data",
    "data_sha256": "SHA-256 of the data",
    "train_pictures": "Pictures to train",
    "evaluation": "Pictures to test",
    "machine": "Machine",
    "computed_in": "Computed in",
    "date": "Date",
}


DIGITS = {"top1": 2}  # after the point; 4 in other columns

HOW_TO_READ = (
    "Ours: mean ± standard error of the mean over n runs; the paper prints standard deviations. A difference is called "
    "one only where a test says so at 5 %."
)


def facts(planned: Plan, dataset: Dataset) -> Result:
    """Return the settings of a result. Two runs with the same ones are the same, except for the data's name."""
    return {
        "run": planned.name,
        "recipe": planned.recipe.to_dict(),
        "data": dataset.name,
        "data_sha256": dataset.sha256,
        "train_pictures": len(dataset.train),
        "evaluation": f"{len(dataset.evaluation)} ({dataset.evaluation_name})",
    }


class ResultFile:
    """Results, one JSON object per line, written as they come, by any number of processes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.read()

    def read(self) -> None:
        """Read the results that other processes have added since."""
        try:
            lines = self.path.read_text().splitlines() if self.path.exists() else []
            self.results: list[Result] = [json.loads(line) for line in lines]
            if any(not isinstance(one, dict) or not isinstance(one.get("numbers"), dict) for one in self.results):
                raise ValueError("a line that is not the result of a run")
        except (OSError, ValueError) as error:
            raise DataError(f"{self.path}: not the results of a table ({error}); repair or remove it") from None

    def find(self, wanted: Result) -> Result | None:
        """Return the result with the `facts` in `wanted`, if the file had it when it was last read."""
        return next((result for result in self.results if _same(wanted, result)), None)

    def add(self, result: Result) -> None:
        """Append `result` to the file."""
        with lock_file(self.path):
            self.read()
            self.results.append(result)
            write_whole(self.path, "".join(json.dumps(result) + "\n" for result in self.results).encode())


def _same(wanted: Result, result: Result) -> bool:
    # Results from before hashes were recorded are identified by the name of their data, and a recipe from before a
    # field existed has its default: otherwise a new release would repeat every run.
    other = "data" if result.get("data_sha256") else "data_sha256"
    then, now = ({**one, "recipe": Recipe.complete(one.get("recipe", {}))} for one in (result, wanted))
    return all(then.get(key) == value for key, value in now.items() if key != other)


def render(table: Table, plans: list[Plan], results: list[Result]) -> str:
    """Return Markdown: the paper's numbers and ours with n, epochs, data and machine; a row names a reduced budget."""
    lines = [f"# {table.title}", ""]
    lines.append(f"Paper: {table.data}{f', {table.seeds} runs' if table.seeds else ''}.")
    for key, name in HEADINGS.items():
        if stated := sorted({str(result[key]) for result in results if key in result}):
            lines.append(f"{name}: {', '.join(stated)}.")
    has_paper = {column for planned in plans for column in planned.paper}
    columns = [
        heading
        for column in table.columns
        for heading in ([f"{column}, paper"] if column in has_paper else []) + [f"{column}, ours"]
    ]
    lines += ["", f"| | epochs | n | {' | '.join(columns)} |", "|---" * (3 + len(columns)) + "|"]
    rows: dict[tuple[str, int], list[tuple[Plan, Result]]] = {}
    for planned, result in zip(plans, results, strict=True):
        rows.setdefault((planned.row, planned.recipe.epochs), []).append((planned, result))
    for (row, epochs), mine in rows.items():
        cells = [row, out_of(epochs, mine[0][0].full_epochs), out_of(len(mine), table.seeds)]
        for column in table.columns:
            if column in has_paper:
                cells.append(mine[0][0].paper.get(column, ""))
            values = [result["numbers"][column] for _, result in mine]
            cells.append(mean_and_error(values, DIGITS.get(column, 4)))
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", HOW_TO_READ, *_comparisons(table, plans, results)]
    return "\n".join(lines) + "\n"


def _comparisons(table: Table, plans: list[Plan], results: list[Result]) -> list[str]:
    """Test every two rows of a table, ours and the paper's; a figure has too many rows for that."""
    if table.along:
        return []
    column = table.columns[0]
    digits = DIGITS.get(column, 4)
    ours: dict[str, dict[int, float]] = {}
    for planned, result in zip(plans, results, strict=True):
        count = planned.recipe.epochs
        row = f"{planned.row}, {count} {'epoch' if count == 1 else 'epochs'}"
        ours.setdefault(row, {})[planned.recipe.seed] = result["numbers"][column]
    paired, printed = paired_differences(ours), welch_differences(_printed(table, plans, column))
    return [
        *_differences(f"Ours, {column}, every two rows paired by seed (t-test, Holm):", paired, digits),
        *_differences(f"The paper's, {column}, by its means and deviations (Welch's test, Holm):", printed, digits),
    ]


def _printed(table: Table, plans: list[Plan], column: str) -> dict[str, Summary]:
    """Return the paper's rows that have a mean and a deviation."""
    printed = {}
    for planned in plans:
        mean, plus_minus, deviation = planned.paper.get(column, "").partition(" ± ")
        if plus_minus:
            printed[planned.row] = Summary(float(mean), float(deviation), table.seeds)
    return printed


def out_of(count: int, full: int) -> str:
    """Return '3 of 40' if the budget was reduced, and '80, the paper 40' if it was raised."""
    if 0 < full < count:
        return f"{count}, the paper {full}"
    return f"{count} of {full}" if count < full else str(count)


def mean_and_error(values: list[float], digits: int) -> str:
    """Return '87.61 ± 0.09': mean and standard error of the mean; for one run only the value."""
    mean = f"{statistics.fmean(values):.{digits}f}"
    error = standard_error(values)
    return mean if error is None else f"{mean} ± {error:.{digits}f}"


def _differences(heading: str, found: list[Difference], digits: int) -> list[str]:
    """Return a table of pairs, the largest difference first."""
    if not found:
        return []
    lines = ["", heading, "", "| | | difference | |", "|---|---|---|---|"]
    for one in sorted(found, key=lambda one: -abs(one.mean)):
        lines.append(f"| {one.first} | {one.second} | {one.mean:+.{digits}f} | {one.verdict} |")
    return lines
