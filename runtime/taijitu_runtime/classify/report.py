"""Print the answers of `classify`: as text, as one JSON object, or as CSV."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from taijitu_runtime.answers import UNKNOWN, Prediction
from taijitu_runtime.card import ModelCard
from taijitu_runtime.console import Progress, json_text, say, shown
from taijitu_runtime.datasets import LeftOut
from taijitu_runtime.decision.rule import DecisionRule

BAR_CELLS = 30
MAX_NAME_COLUMNS = 60
MAX_LABEL_COLUMNS = 24


class Report:
    """Takes the result of each file in order. `skipped`: files that could not be read, with the reason."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self.skipped: list[tuple[Path, str]] = []

    def skip(self, file: Path, reason: str) -> None:
        """Report a file that could not be read, on stderr."""
        self.skipped.append((file, reason))
        self._progress.say(f"{shown(file)}: {reason}", sys.stderr)

    def add(self, file: Path, prediction: Prediction, heat_map: Path | None) -> None:
        """Add the prediction for one file, and the path of its heat map where there is one."""
        raise NotImplementedError

    def finish(self) -> None:
        """End the report."""


class TextReport(Report):
    """Prints a line per file; for a single file, a table with bars."""

    def __init__(self, progress: Progress, files: Sequence[Path], labels: Sequence[str]) -> None:
        super().__init__(progress)
        self._single = len(files) == 1
        self._name_columns = min(MAX_NAME_COLUMNS, max(len(shown(file)) for file in files))
        self._label_columns = min(MAX_LABEL_COLUMNS, max(len(shown(label)) for label in labels))

    def add(self, file: Path, prediction: Prediction, heat_map: Path | None) -> None:
        """Print the answers at once."""
        if self._single:
            cell = "█" if "utf" in (sys.stdout.encoding or "").lower() else "#"
            rows = [
                f"{a.probability:8.2%}  {cell * round(a.probability * BAR_CELLS):<{BAR_CELLS}}  {shown(a.label)}"
                for a in prediction.answers
            ]
            self._progress.say("\n".join([shown(file), *rows, *_remarks(prediction, heat_map)]), sys.stdout)
        else:
            columns = [f"{a.probability:6.1%} {shown(a.label):<{self._label_columns}}" for a in prediction.answers]
            columns += _remarks(prediction, heat_map)
            line = f"{shown(file):<{self._name_columns}}  {'  '.join(columns)}"
            self._progress.say(line.rstrip(), sys.stdout)


def _remarks(prediction: Prediction, heat_map: Path | None) -> list[str]:
    remarks = [UNKNOWN] if prediction.known is False else []
    remarks += [f"one of: {', '.join(map(shown, prediction.set))}"] if prediction.set else []
    remarks += [f"heat map: {shown(heat_map)}"] if heat_map is not None else []
    return remarks


class JsonReport(Report):
    """Prints one JSON object with all results at the end, so that a run that fails prints nothing."""

    def __init__(self, progress: Progress, model: Path, card: ModelCard, left_out: LeftOut) -> None:
        super().__init__(progress)
        self._left_out = left_out
        self._head = {"model": str(model), "architecture": card.architecture.name}
        # As text: 100,000 results take a fifth of the memory of their dicts.
        self._results: list[str] = []

    def add(self, file: Path, prediction: Prediction, heat_map: Path | None) -> None:
        """Keep the answers for the end."""
        answers = [answer.as_json() for answer in prediction.answers]
        result = {"file": str(file), "answers": answers, **prediction.certainty.as_json()}
        if heat_map is not None:
            result["heat_map"] = str(heat_map)
        self._results.append(json_text(result, sys.stdout))

    def finish(self) -> None:
        """Print the object: model, architecture, results, skipped, left_out."""
        skipped = [{"file": str(file), "reason": reason} for file, reason in self.skipped]
        head = json_text(self._head, sys.stdout)[:-1]
        results = ",\n ".join(self._results)
        skips, lefts = json_text(skipped, sys.stdout), json_text(self._left_out.as_json(), sys.stdout)
        say(f'{head},\n"results": [\n {results}],\n"skipped": {skips},\n"left_out": {lefts}}}', sys.stdout)


class CsvReport(Report):
    """Prints a header and then a row for each picture and answer at once, as RFC 4180 but with lines ended by LF.

    It is UTF-8 in every locale. `known` and `set`, a JSON list of labels, are columns where the card or the threshold
    decides them; `heat_map` is one where heat maps are drawn. Names and labels are escaped as in `shown`.
    """

    def __init__(self, progress: Progress, rule: DecisionRule, *, has_heat_maps: bool) -> None:
        super().__init__(progress)
        self._decides, self._has_sets, self._has_heat_maps = rule.decides, rule.has_sets, has_heat_maps
        if isinstance(sys.stdout, io.TextIOWrapper):  # what reads the file later knows nothing of the locale here
            sys.stdout.reconfigure(encoding="utf-8")
        more = {"known": rule.decides, "set": rule.has_sets, "heat_map": has_heat_maps}
        self._say(
            ["file", "rank", "label", "index", "probability", *(name for name, is_there in more.items() if is_there)]
        )

    def add(self, file: Path, prediction: Prediction, heat_map: Path | None) -> None:
        """Print the picture's rows."""
        more: list[object] = [json.dumps(prediction.known)] if self._decides else []
        more += [json.dumps(prediction.set, ensure_ascii=False)] if self._has_sets else []
        more += [heat_map] if self._has_heat_maps else []
        for rank, answer in enumerate(prediction.answers, start=1):
            self._say([file, rank, answer.label, answer.index, f"{answer.probability:.6g}", *more])

    def _say(self, cells: Sequence[object]) -> None:
        line = io.StringIO()
        csv.writer(line, lineterminator="").writerow([shown(cell) for cell in cells])
        self._progress.say(line.getvalue(), sys.stdout)
