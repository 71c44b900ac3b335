"""A release: what `make release-check` reports as missing, and workflows that only call make."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tools.release import missing_in

GOOD = "# Changelog\n\n## [Unreleased]\n\n## [1.2.0] - 2026-12-01\n\n### Added\n\n- A thing.\n"


def test_nothing_is_missing_for_a_version_with_its_heading_and_date() -> None:
    assert list(missing_in("1.2.0", GOOD)) == []


@pytest.mark.parametrize(
    ("version", "changelog", "fact"),
    [
        ("1.2", GOOD, "1.2.3"),
        ("1.3.0", GOOD, "## [1.3.0]"),
        ("1.2.0", GOOD.replace(" - 2026-12-01", ""), "date"),
        ("1.2.0", GOOD.replace("## [Unreleased]\n", ""), "[Unreleased]"),
        ("1.2.0", GOOD.replace("[Unreleased]\n", "[Unreleased]\n\n### Fixed\n\n- One more.\n"), "under [Unreleased]"),
        ("1.2.0", GOOD.replace("Added", "Things"), "Things"),
    ],
)
def test_each_missing_item_is_reported(version: str, changelog: str, fact: str) -> None:
    assert any(fact in line for line in missing_in(version, changelog))


def steps(root: Path) -> list[dict[str, Any]]:
    files = sorted((root / ".github" / "workflows").glob("*.yml"))
    assert len(files) >= 3
    return [
        step for file in files for job in yaml.safe_load(file.read_text())["jobs"].values() for step in job["steps"]
    ]


def test_workflows_call_only_existing_make_targets(root: Path) -> None:
    known = set(re.findall(r"^([\w-]+(?: [\w-]+)*):(?!=)", (root / "Makefile").read_text(), re.MULTILINE))
    targets = {name for names in known for name in names.split()}
    commands = [step["run"] for step in steps(root) if "run" in step]
    assert all(command.startswith("make ") for command in commands)
    called = {word for command in commands for word in command.split()[1:] if "=" not in word and "$" not in word}
    called -= {"{{", "matrix.command", "}}"}
    assert called <= targets
    assert {
        "lint",
        "test",
        "test-lowest",
        "test-newest",
        "docs",
        "dist",
        "test-dist",
        "release-check",
        "publish",
    } <= called


def test_workflows_use_no_action_but_githubs_own(root: Path) -> None:
    used = {step["uses"].partition("@")[0] for step in steps(root) if "uses" in step}
    assert used <= {"actions/checkout", "actions/setup-python", "actions/upload-artifact"}
