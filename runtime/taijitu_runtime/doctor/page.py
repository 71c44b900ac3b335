"""Show the findings: as a page for people, as one object for programs."""

from __future__ import annotations

import os
import shutil
import textwrap
from collections import Counter
from typing import Any, TextIO

from taijitu_runtime.console import shown
from taijitu_runtime.doctor.checkup import Section
from taijitu_runtime.doctor.finding import Finding, Level

SUBJECT_COLUMNS = 22
COLOURS: dict[str, str] = {"ok": "32", "warning": "33", "problem": "31", "title": "1", "cure": "36"}
SIGNS: dict[Level, tuple[str, str]] = {"ok": ("✓", "ok"), "warning": ("!", "!!"), "problem": ("✗", "XX")}


class Page:
    """Formats a checkup for `stream`: wrapped and coloured on a terminal, one line per finding elsewhere."""

    def __init__(self, stream: TextIO) -> None:
        self._is_terminal = stream.isatty()
        self._has_colour = (
            self._is_terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM", "dumb") != "dumb"
        )
        self._width = shutil.get_terminal_size().columns if self._is_terminal else None
        self._has_signs = "utf" in (stream.encoding or "").lower()

    def section(self, title: str, findings: list[Finding]) -> str:
        """Return a title, and one line per finding with its cure below."""
        return "\n".join(["", self._coloured(title, "title"), *map(self._finding, findings)])

    def summary(self, sections: list[Section]) -> str:
        """Return the last line, with the number of findings of each level."""
        counts = count(sections)
        parts = [_plural(counts[level], level) for level in ("problem", "warning") if counts[level]]
        worst: Level = "problem" if counts["problem"] else "warning" if counts["warning"] else "ok"
        text = f"{' and '.join(parts) or 'no problem'}, {_plural(counts['ok'], 'check')} ok"
        return f"\n{self._coloured(text, worst)}"

    def _finding(self, finding: Finding) -> str:
        sign = SIGNS[finding.level][0 if self._has_signs else 1]
        subject = f"{shown(finding.subject):<{SUBJECT_COLUMNS}}"
        head = f"  {self._coloured(sign, finding.level)} {subject}  "
        indent = " " * (2 + len(sign) + 1 + len(subject) + 2)
        lines = [head + self._wrapped(shown(finding.text), indent)]
        if finding.cure:
            lines.append(indent + self._coloured(self._wrapped(f"do: {shown(finding.cure)}", indent), "cure"))
        return "\n".join(lines).rstrip()

    def _wrapped(self, text: str, indent: str) -> str:
        if self._width is None or self._width - len(indent) < 20:
            return text
        options: dict[str, Any] = {"break_long_words": False, "break_on_hyphens": False}
        return f"\n{indent}".join(textwrap.wrap(text, self._width - len(indent), **options))

    def _coloured(self, text: str, colour: str) -> str:
        return f"\033[{COLOURS[colour]}m{text}\033[0m" if self._has_colour else text


def as_json(sections: list[Section]) -> dict[str, Any]:
    """Return the checkup in plain types."""
    counts = count(sections)
    checks = [
        {"section": title, "subject": found.subject, "level": found.level, "text": found.text, "cure": found.cure}
        for title, findings in sections
        for found in findings
    ]
    return {"problems": counts["problem"], "warnings": counts["warning"], "checks": checks}


def count(sections: list[Section]) -> Counter[Level]:
    """Return the number of findings of each level."""
    return Counter(finding.level for _, findings in sections for finding in findings)


def _plural(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
