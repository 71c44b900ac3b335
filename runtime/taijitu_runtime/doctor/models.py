"""Whether model files answer here as their passports say."""

from __future__ import annotations

import os
from pathlib import Path

from taijitu_runtime.console import shown
from taijitu_runtime.doctor.child import Reply
from taijitu_runtime.doctor.finding import Finding, ok, problem, warning


def check_model(path: Path, reply: Reply) -> Finding:
    """Return the finding about a file. `reply`: that of `prove` in probe.py, in a process of its own."""
    subject = shown(path.name)
    outcome, text = ("failed", reply.error) if reply.error else reply.value
    if outcome == "proven":
        return ok(subject, text)
    if outcome == "unproven":
        return warning(subject, text, "make it again with: taijitu onnx")
    if outcome == "not tried":  # no such file, no GPU for an engine, ...: the error ends with its own cure
        return problem(subject, *_reason_and_cure(path, text))
    return problem(subject, text, "copy the file again, or make it again with: taijitu onnx; see docs/proof.md")


def _reason_and_cure(path: Path, text: str) -> tuple[str, str]:
    """Part an error about a file where its cure begins: at the first semicolon after what was expected."""
    hidden = text
    for name in os.path.split(os.path.realpath(path)):  # a name may have a semicolon too
        hidden = hidden.replace(name, "/" * len(name))
    place = hidden.find("; ", max(0, hidden.rfind(", expected ")))
    if place < 0:
        return text, "see docs/proof.md"
    return text[:place], text[place + 2 :].removeprefix("do: ")
